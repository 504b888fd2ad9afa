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

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tasks.slurm import files

if TYPE_CHECKING:
    from tasks.slurm.resources import Resources

_PINNED = re.compile(r"(.+)@(sha256:[0-9a-f]{64})")
_TAG = re.compile(r":\w[\w.-]*$")
# what the dispatcher sets for a job; with a profile's `variables`, it must not lose to what an image sets by itself
_OURS = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "PYTHONNOUSERSITE")
_RANKS = ("MASTER_ADDR", "MASTER_PORT", "GATED_DISTRIBUTED")
_CACHES = ("TMPDIR", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "CUDA_CACHE_PATH")


class Container(BaseModel):
    """Where a stage's jobs run: an image file or folder, or a registry's name pinned by its digest."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    runtime: Literal["apptainer", "charliecloud", "pyxis"]
    image: str = Field(
        description="File, or NAME@sha256:… (apptainer: docker://NAME@sha256:…); charliecloud: an unpacked folder."
    )
    mounts: tuple[str, ...] = Field((), strict=False, description="Further folders, FROM or FROM:TO.")

    @field_validator("image", "mounts")
    @classmethod
    def _one_line(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for one in [value] if isinstance(value, str) else value:
            if not one.isprintable() or "," in one or not one:
                raise ValueError(f"{one!r}: one line of text without a comma")
        return value

    @model_validator(mode="after")
    def _runs_it(self) -> Container:
        if self.runtime == "charliecloud" and self.pinned:
            raise ValueError("image: charliecloud runs an unpacked folder (ch-convert)")
        if self.runtime == "apptainer" and self.pinned and "://" not in self.image:
            raise ValueError("image: apptainer takes a registry's as docker://NAME@sha256:…")
        return self

    @property
    def pinned(self) -> str:
        """The digest in a registry's name; empty for a file or a folder."""
        found = _PINNED.fullmatch(self.image)
        return found[2] if found else ""

    @property
    def reference(self) -> str:
        """The image as its runtime reads it, from whatever folder; beside a digest none takes a tag.

        enroot up to 3 reads what stands before an @ as a user's name; as a tag, every version takes a digest.
        """
        found = _PINNED.fullmatch(self.image)
        if found is None:
            return str(Path(self.image).absolute())
        return f"{_TAG.sub('', found[1])}{':' if self.runtime == 'pyxis' else '@'}{found[2]}"

    def digest(self, cache: Path) -> str:
        """Hash of the image: by the registry's own digest, else of its bytes, remembered in `cache` by stamp and size.

        Raises:
            ValueError: no such image, or a name that does not pin what it means.
        """
        if self.pinned:
            return self.pinned
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


def srun_words(section: Resources, folders: Sequence[Path]) -> list[str]:
    """Arguments for srun itself: pyxis (0.15 or later) is a plugin of it."""
    if section.container is None or section.container.runtime != "pyxis":
        return []
    mounts = ",".join(f"{one}:{one}" if ":" not in one else one for one in _mounts(section, folders))
    return [
        f"--container-image={section.container.reference}",
        f"--container-mounts={mounts}",
        f"--container-env={','.join(_names(section))}",
    ]


def setup(section: Resources) -> list[str]:
    """Shell lines before the job: nothing of the user's own packages gets in, and the job's variables do.

    An image's own PYTHONPATH, say, wins over the job's otherwise: in apptainer, and in pyxis without --container-env.
    """
    if section.container is None:
        return []
    words = [f'APPTAINERENV_{name}="${name}"' for name in _names(section)]
    return [
        "export PYTHONNOUSERSITE=1",
        *([f"export {' '.join(words)}"] if section.container.runtime == "apptainer" else []),
    ]


def _names(section: Resources) -> list[str]:
    caches, ranks = _CACHES if section.scratch else (), _RANKS if section.distributed else ()
    return [*dict.fromkeys((*_OURS, *caches, *ranks, *section.variables))]


def command(section: Resources, folders: Sequence[Path]) -> str:
    """What stands before the interpreter; empty outside a container. srun may look for what it starts on the node,
    where an image's interpreter need not be: so pyxis starts `env`.
    """
    if section.container is None:
        return ""
    words = {"apptainer": _apptainer, "charliecloud": _charliecloud, "pyxis": lambda *_: ["/usr/bin/env"]}
    make: Callable[[Container, list[str], bool], list[str]] = words[section.container.runtime]
    found = make(section.container, _mounts(section, folders), section.gpus > 0)
    return "".join(f"{shlex.quote(word)} " for word in found)


def _apptainer(container: Container, mounts: list[str], gpus: bool) -> list[str]:
    bound = [word for one in mounts for word in ("--bind", one)]
    return ["apptainer", "exec", *(["--nv"] if gpus else []), *bound, container.reference]


def _charliecloud(container: Container, mounts: list[str], gpus: bool) -> list[str]:
    """Without --set-env, ch-run keeps the job's environment; the GPU's libraries are in the image (ch-fromhost)."""
    bound = [f"--bind={one}" if ":" in one else f"--bind={one}:{one}" for one in mounts]
    return ["ch-run", *bound, container.reference, "--"]


def _mounts(section: Resources, folders: Sequence[Path]) -> list[str]:
    assert section.container is not None
    scratch = [section.scratch_root] if section.scratch_root else []
    return [*dict.fromkeys([*map(str, folders), *scratch, *section.container.mounts])]
