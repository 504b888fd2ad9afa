"""Where jobs run: slurm_templates/*.yaml -> frozen, validated `Profile` (defaults <- site <- stage).

A profile is no part of a job's key: moving to another cluster renames nothing and repeats nothing.
"""

from __future__ import annotations

import difflib
import fnmatch
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from tasks.slurm.containers import Container
from tasks.slurm.surroundings import without_options

TEMPLATES = Path(__file__).resolve().parents[2] / "slurm_templates"
DEFAULTS = "defaults"


class BadProfile(ValueError):
    """A profile that cannot be used: file, key, what was found, what would be valid."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Resources(_Strict):
    """What one job asks for. Every field may be set for the site and again for a stage."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    gres: str | None = Field(None, description="Typed, such as gpu:a100:1.")
    constraint: str | None = Field(None, description="Node features, such as a100-80g.")
    exclude: str | None = Field(None, description="Nodes to stay away from.")
    time: str = Field("01:00:00", description="Time limit of one attempt, as Slurm writes it; quote it in YAML.")
    memory: str | None = Field("4GB", description="Memory of the node for one job; null leaves it to the site.")
    memory_most: str | None = Field(
        None, description="After running out of memory on the node a job gets half as much again, up to this."
    )
    cpus: int = Field(1, ge=1)
    nodes: int = Field(1, ge=1, description="More than one needs `distributed`.")
    distributed: Literal["torchrun"] | None = Field(
        None, description="Runs the function once a GPU (or node) with RANK, WORLD_SIZE and MASTER_ADDR set."
    )
    signal_seconds: int = Field(90, ge=1, description="The job is told to stop this long before its time limit.")
    array_parallel: int = Field(16, ge=1, description="Tasks of one array that run at the same time.")
    setup: tuple[str, ...] = Field((), strict=False, description="Shell lines before the job, such as module loads.")
    environment: tuple[str, ...] = Field((), strict=False, description="Variables passed on; a trailing * is allowed.")
    variables: dict[str, str] = Field(default_factory=dict, description="Variables set for the job.")
    container: Container | None = Field(None, strict=False, description="Runs the job inside an image.")
    scratch: str | None = Field(None, description="Folder for temporary files on the node, exported as TMPDIR.")
    extra: dict[str, str | int | bool] = Field(default_factory=dict, description="Further sbatch options, as is.")

    @field_validator("partition", "account", "qos", "gres", "constraint", "exclude", "scratch")
    @classmethod
    def _one_line(cls, value: str | None) -> str | None:
        if value is not None and (not value.isprintable() or not value.strip()):
            raise ValueError("one line of text without control characters; leave the key out for none")
        return value

    @field_validator("extra")
    @classmethod
    def _options(cls, value: dict[str, str | int | bool]) -> dict[str, str | int | bool]:
        for key, one in value.items():
            if not re.fullmatch(r"[a-z][a-z0-9-]*", key) or not str(one).isprintable():
                raise ValueError(f"{key}: an sbatch option is a lower-case name and one line of text")
            if key in ("nodes", "ntasks", "ntasks-per-node", "ntasks-per-core", "ntasks-per-socket", "overcommit"):
                raise ValueError(f"{key}: a job function runs once; say nodes and distributed: torchrun instead")
        return value

    @field_validator("variables")
    @classmethod
    def _variables(cls, value: dict[str, str]) -> dict[str, str]:
        for name, one in value.items():
            if not re.fullmatch(r"[A-Za-z_]\w*", name) or "\0" in one:
                raise ValueError(f"{name!r} is no name of a variable")
        return value

    @model_validator(mode="after")
    def _one_process(self) -> Resources:
        if self.nodes > 1 and self.distributed is None:
            raise ValueError(
                "nodes above 1 would start the function once a node in one folder; "
                "leave nodes at 1, or say distributed: torchrun for a function that trains in several processes"
            )
        return self

    @field_validator("time", mode="before")
    @classmethod
    def _quoted(cls, value: object) -> object:
        if isinstance(value, int):  # YAML 1.1 reads 24:00:00 as the number 86400
            raise ValueError(f'write the time in quotes, "1-00:00:00" or "24:00:00" (YAML read it as {value})')
        return value

    @field_validator("time")
    @classmethod
    def _slurm_time(cls, value: str) -> str:
        if not re.fullmatch(r"\d+|\d+:\d\d(:\d\d)?|\d+-\d+(:\d\d){0,2}", value):
            raise ValueError(f'"{value}" is not a Slurm time (minutes, "HH:MM:SS" or "D-HH:MM:SS")')
        return value

    @field_validator("memory", "memory_most")
    @classmethod
    def _slurm_memory(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"\d+(K|M|G|T)B?", value):
            raise ValueError(f'"{value}" is not a memory size such as "64GB"')
        return value

    @property
    def memory_bytes(self) -> int | None:
        """Requested memory in bytes; None where the site decides."""
        return _bytes(self.memory)

    def more_memory(self, before: int | None) -> int | None:
        """Half as much again as `before` bytes (default: as asked for), where the profile allows it."""
        most, asked = _bytes(self.memory_most), before or self.memory_bytes
        return None if most is None or asked is None or asked >= most else min(most, asked * 3 // 2)

    @property
    def time_seconds(self) -> float:
        """Time limit in seconds."""
        days, dash, rest = self.time.rpartition("-")
        parts = [int(part) for part in rest.split(":")]
        if dash:
            hours, minutes, seconds = (*parts, 0, 0)[:3]
        elif len(parts) == 3:
            hours, minutes, seconds = parts
        else:
            hours, (minutes, seconds) = 0, (*parts, 0)[:2]
        return 86400.0 * int(days or 0) + 3600 * hours + 60 * minutes + seconds

    @property
    def gpus(self) -> int:
        """Number of GPUs asked for by `gres`."""
        if not self.gres or not self.gres.startswith("gpu"):
            return 0
        last = self.gres.rsplit(":", 1)[-1]
        return int(last) if last.isdigit() else 1


def _bytes(text: str | None) -> int | None:
    match = re.fullmatch(r"(\d+)([KMGT])B?", text) if text else None
    return int(match[1]) << {"K": 10, "M": 20, "G": 30, "T": 40}[match[2]] if match else None


class Profile(_Strict):
    """One site: an executor, its limits, its resources and what each stage changes in them."""

    name: str
    executor: Literal["slurm", "local"]
    description: str = ""
    python: str | None = Field(None, description="Interpreter on the node; default: the one that submits.")
    accounting: bool = Field(True, description="Ask sacct; its absence is also found out by itself.")
    max_array_size: int | None = Field(None, ge=1, description="Default: what the cluster says (MaxArraySize).")
    max_parallel: int | None = Field(None, ge=1, description="Jobs of one root in the queue at the same time.")
    poll_seconds: float = Field(4.0, gt=0, description="Age at which the shared view of the queue is renewed.")
    settle_seconds: float = Field(15.0, ge=0, description="A doubtful sbatch is believed lost only after this long.")
    hold_seconds: float = Field(7 * 86400.0, gt=0, description="A job that the site puts off is given up after this.")
    marker_grace_seconds: float = Field(5.0, ge=0, description="A shared disk may show the node's marker this late.")
    vanish_seconds: float = Field(60.0, ge=0, description="Absent from queue and accounting this long means lost.")
    usage_seconds: float = Field(5.0, gt=0, description="Interval of the samples of GPU and memory use on the node.")
    resources: Resources
    stages: dict[str, Resources]

    def section(self, stage: str) -> Resources:
        """Resources of one stage.

        Raises:
            BadProfile: a stage that defaults.yaml does not name.
        """
        if stage not in self.stages:
            raise BadProfile(f"profile {self.name} has no stage {stage!r}; stages: {', '.join(sorted(self.stages))}")
        return self.stages[stage]

    def exported(self, stage: str, environment: Mapping[str, str] | None = None) -> dict[str, str]:
        """The variables a job of `stage` may see: the allowed part of `environment`, then the profile's own."""
        section = self.section(stage)
        source = os.environ if environment is None else environment
        allowed = {
            name: value
            for name, value in source.items()
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in section.environment)
        }
        return {**without_options(allowed), **section.variables}

    @property
    def interpreter(self) -> str:
        """Python that runs the job."""
        return self.python or sys.executable


_SITE_KEYS = frozenset(Profile.model_fields) - {"resources", "stages", "name"}
_KEYS = _SITE_KEYS | frozenset(Resources.model_fields) | {"stages"}


def profile_names(folder: Path = TEMPLATES) -> list[str]:
    """Profiles to choose from."""
    return sorted(path.stem for path in folder.glob("*.yaml") if path.stem != DEFAULTS)


def load_profile(name: str | Path, folder: Path = TEMPLATES, *, paths: bool = True) -> Profile:
    """Read the profile `name` of `folder`, or the YAML file `name`, over defaults.yaml.

    A profile's set-up lines run as the user. So a file elsewhere must be the user's own, and no one else's to write;
    without `paths`, as for what comes from a form or over the network, only names are taken.

    Raises:
        BadProfile: missing file, misspelt key, stage or value; the message lists what is valid.
    """
    by_path = str(name).endswith((".yaml", ".yml"))
    if by_path and not paths:
        raise BadProfile(f"{str(name)!r}: here only names are taken: {', '.join(profile_names(folder))}")
    path = Path(name) if by_path else folder / f"{name}.yaml"
    if not (by_path or re.fullmatch(r"\w[\w.+-]*", str(name))) or not path.exists():
        raise BadProfile(f"no profile {str(name)!r}; there are {', '.join(profile_names(folder))}, or give a YAML file")
    if by_path and path.resolve().parent != folder.resolve():
        _own(path)
    default_path = path.parent / f"{DEFAULTS}.yaml"
    default_path = default_path if default_path.exists() else TEMPLATES / f"{DEFAULTS}.yaml"
    defaults, site = _read(default_path), _read(path)
    default_stages, site_stages = _stages(defaults, default_path), _stages(site, path)
    _check(site_stages, default_stages, path, "stage")
    flat = {**defaults, **site}
    resources = {key: value for key, value in flat.items() if key in Resources.model_fields}
    stages = {}
    for stage, default in default_stages.items():
        stages[stage] = _resources({**defaults_of(resources, default), **site_stages.get(stage, {})}, path, stage)
    try:
        return Profile(
            name=path.stem if path.parent == folder else str(path.resolve()),  # what loads it again
            resources=_resources(resources, path, ""),
            stages=stages,
            **{key: value for key, value in flat.items() if key in _SITE_KEYS},
        )
    except ValidationError as error:
        raise BadProfile(f"{path}: {_first(error)}") from None


def _own(path: Path) -> None:
    """Refuse a profile that somebody else may have written, or may write before it is read."""
    found = path.stat()
    if found.st_uid != os.getuid() or found.st_mode & 0o022:
        why = "belongs to another user" if found.st_uid != os.getuid() else "can be written by other users"
        raise BadProfile(f"{path} {why}, and its set-up lines would run as you; copy it, then chmod go-w")


def defaults_of(resources: dict[str, Any], stage: dict[str, Any]) -> dict[str, Any]:
    """A stage of defaults.yaml over the site's resources."""
    return {**resources, **stage}


def _resources(values: dict[str, Any], path: Path, stage: str) -> Resources:
    try:
        return Resources(**values)
    except ValidationError as error:
        place = f"{path}, stage {stage}" if stage else str(path)
        raise BadProfile(f"{place}: {_first(error)}") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise BadProfile(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise BadProfile(f"{path}: expected keys and values, found {type(content).__name__}")
    _check(content, _KEYS, path, "key")
    return content


def _stages(content: dict[str, Any], path: Path) -> dict[str, dict[str, Any]]:
    stages = content.get("stages") or {}
    if not isinstance(stages, dict):
        raise BadProfile(f"{path}: stages: expected one section a stage, found {type(stages).__name__}")
    for stage, section in stages.items():
        _check(section or {}, frozenset(Resources.model_fields), path, f"stage {stage}: key")
    return {stage: section or {} for stage, section in stages.items()}


def _check(found: Any, valid: Any, path: Path, what: str) -> None:
    for key in found:
        if key not in valid:
            close = difflib.get_close_matches(str(key), sorted(valid), n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise BadProfile(f"{path}: unknown {what} {key!r}{hint}; valid: {', '.join(sorted(valid))}")


def _first(error: ValidationError) -> str:
    problem = error.errors()[0]
    place = ".".join(str(part) for part in problem["loc"])
    if not place:  # a rule over several keys
        return problem["msg"].removeprefix("Value error, ")
    return f"{place}: {problem['msg'].removeprefix('Value error, ')}, found {problem['input']!r}"
