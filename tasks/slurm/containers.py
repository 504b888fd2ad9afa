"""A job inside a container: the words before its command, and the digest that makes the image part of its identity.

The image holds the interpreter and the libraries; code, data and results come from outside, under the same paths.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from tasks.slurm import files

if TYPE_CHECKING:
    from tasks.slurm.resources import Resources

_PINNED = re.compile(r".+@(sha256:[0-9a-f]{64})")


class Container(BaseModel):
    """Where a stage's jobs run: an image file or folder, or for pyxis a registry's name pinned by its digest."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    runtime: Literal["apptainer", "charliecloud", "pyxis"]
    image: str = Field(description="File (apptainer, pyxis), unpacked folder (charliecloud), or NAME@sha256:… (pyxis).")
    mounts: tuple[str, ...] = Field((), strict=False, description="Further folders, FROM or FROM:TO.")

    @field_validator("image", "mounts")
    @classmethod
    def _one_line(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for one in [value] if isinstance(value, str) else value:
            if not one.isprintable() or "," in one or not one:
                raise ValueError(f"{one!r}: one line of text without a comma")
        return value

    def digest(self, cache: Path) -> str:
        """Hash of the image: by the registry's own digest, else of its bytes, remembered in `cache` by stamp and size.

        Raises:
            ValueError: no such image, or a name that does not pin what it means.
        """
        if pinned := _PINNED.fullmatch(self.image):
            return pinned[1]
        path = Path(self.image)
        if not path.exists():
            raise ValueError(f"container image {self.image}: no such file or folder; pin a registry's as NAME@sha256:…")
        stamp = hashlib.sha256(files.encode([str(path.resolve()), *_stamps(path)])).hexdigest()
        known = files.peek_json(cache) or {}
        if stamp not in known:
            known = {**known, stamp: _sha256(path)}
            files.write_json(cache, known, durable=False)
        return str(known[stamp])


def _stamps(path: Path) -> list[list[object]]:
    """What changes when an image is built anew: size and time of the file, or of every file below a folder."""
    below = sorted(path.rglob("*")) if path.is_dir() else [path]
    seen = [(one, os.lstat(one)) for one in below]
    return [[str(one.relative_to(path.parent)), stat.st_size, stat.st_mtime_ns] for one, stat in seen]


def _sha256(path: Path) -> str:
    """Of a file's bytes; of a folder, over its files and links. A link counts as where it leads: inside, that is
    another place than on this machine.
    """
    if not path.is_dir():
        return files.sha256_of(path)
    digest = hashlib.sha256()
    for one in sorted(path.rglob("*")):
        if one.is_symlink():
            digest.update(files.encode([str(one.relative_to(path)), "->", os.readlink(one)]))
        elif one.is_file():
            digest.update(files.encode([str(one.relative_to(path)), files.sha256_of(one)]))
    return digest.hexdigest()


def srun_words(container: Container | None, folders: Sequence[Path]) -> list[str]:
    """Arguments for srun itself: pyxis is a plugin of it."""
    if container is None or container.runtime != "pyxis":
        return []
    mounts = ",".join(f"{one}:{one}" if ":" not in one else one for one in _mounts(container, folders))
    return [f"--container-image={container.image}", f"--container-mounts={mounts}"]


def command(section: Resources, folders: Sequence[Path]) -> str:
    """What stands before the interpreter; empty outside a container, and for pyxis."""
    if section.container is None:
        return ""
    words = {"apptainer": _apptainer, "charliecloud": _charliecloud, "pyxis": lambda *_: []}
    make: Callable[[Container, list[str], bool], list[str]] = words[section.container.runtime]
    found = make(section.container, _mounts(section.container, folders), section.gpus > 0)
    return "".join(f"{shlex.quote(word)} " for word in found)


def _apptainer(container: Container, mounts: list[str], gpus: bool) -> list[str]:
    bound = [word for one in mounts for word in ("--bind", one)]
    return ["apptainer", "exec", *(["--nv"] if gpus else []), *bound, container.image]


def _charliecloud(container: Container, mounts: list[str], gpus: bool) -> list[str]:
    """Without --set-env, ch-run keeps the job's environment; the GPU's libraries are in the image (ch-fromhost)."""
    bound = [f"--bind={one}" if ":" in one else f"--bind={one}:{one}" for one in mounts]
    return ["ch-run", *bound, container.image, "--"]


def _mounts(container: Container, folders: Sequence[Path]) -> list[str]:
    return [*dict.fromkeys([*map(str, folders), *container.mounts])]
