"""The nouns of a dispatch: what to run (`JobSpec`), what is running (`Job`), how it ended (`Outcome`)."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tasks.slurm.files import encode
from tasks.slurm.results import not_json

State = Literal["done", "failed", "cancelled"]


@dataclass(frozen=True)
class JobSpec:
    """One call of a job function: `def job(arguments: dict, context) -> dict`.

    `name` is what a person reads in squeue; `stage` picks the profile's resources (`tenant/stage`, or a class);
    `places` are further arguments that say where things lie (paths, whose content `inputs` names by hash) or run (a
    device). None of the three is part of the key.
    """

    name: str
    function: str
    arguments: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    stage: str = "gpu"
    places: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w][\w.+-]{0,79}", self.name):
            raise ValueError(f"job name {self.name!r}: letters, digits and ._+- only, at most 80")
        if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", self.function):
            raise ValueError(f"function {self.function!r}: expected package.module:function")
        for what in ("arguments", "inputs", "places"):
            if place := not_json(getattr(self, what), what):
                raise ValueError(f"job {self.name}: {place}, which is no JSON")

    def key(self, code_hash: str) -> str:
        """Identity of the work: function, arguments, input hashes, code. Equal keys share one folder and one result."""
        content = {"function": self.function, "arguments": self.arguments, "inputs": self.inputs, "code": code_hash}
        return hashlib.sha256(encode(content)).hexdigest()

    @property
    def call(self) -> dict[str, Any]:
        """What the function is called with."""
        return {**self.arguments, **self.places}

    def to_json(self) -> dict[str, Any]:
        """As kept in the journal."""
        return {
            "name": self.name,
            "function": self.function,
            "arguments": self.arguments,
            "inputs": self.inputs,
            "stage": self.stage,
            "places": self.places,
        }


@dataclass(frozen=True)
class Job:
    """A journalled job: one key, one folder. Its state is on disk, so a Job may be thrown away and found again."""

    spec: JobSpec
    key: str
    folder: Path  # control files: journal, markers, progress, usage

    @property
    def name(self) -> str:
        """Readable name."""
        return self.spec.name

    @property
    def work(self) -> Path:
        """The job function's own folder (`context.folder`); it persists over attempts."""
        return self.folder / "work"


@dataclass(frozen=True)
class Outcome:
    """How a job ended. `cause` is a key of the remedy table (empty for done), `message` its text or traceback."""

    spec: JobSpec
    key: str
    state: State
    result: dict[str, Any] | None
    cause: str
    message: str
    attempts: int
    remedies: tuple[str, ...]
    accounting: dict[str, Any]
    slurm_ids: tuple[str, ...]
    folder: Path  # the job function's own folder
    reused: bool = False  # the result was there before this dispatch
