"""Code snapshots: a job runs the code that was there at submission. Standard library only (the node verifies).

A snapshot is a copy of packages under `<root>/code/<sha256>/`; the job's PYTHONPATH points at it, and the runner
hashes it again before it imports anything, so neither an edit nor a damaged copy can leak in.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.slurm import files

TRANSPORT = "tasks"  # carries the runner: copied along, no part of a job's identity
SHARED = "study_core"  # every core may import it: copied along
_SKIPPED_FOLDERS = {"__pycache__", ".git", ".mypy_cache", ".ruff_cache", ".pytest_cache"}
_SKIPPED_SUFFIXES = (".pyc", ".pyo")
SETTLED_NS = 2_000_000_000  # what changed later than this before it was read may change again under the same stamp


@dataclass(frozen=True)
class Snapshot:
    """Code at one moment: `sha256` covers every file copied. A job's key depends on less: `tasks.slurm.reach`."""

    folder: Path
    sha256: str

    @classmethod
    def of(cls, root: Path, packages: Sequence[str]) -> Snapshot:
        """Hash top-level `packages` (importable names) as they are now; nothing is copied."""
        return cls._listed(root, packages)[0]

    @classmethod
    def take(cls, root: Path, packages: Sequence[str]) -> Snapshot:
        """Copy `packages` to `root/code/<sha256>`; an equal copy that exists is used again.

        Raises:
            ModuleNotFoundError: a package that cannot be found.
            CodeChanged: a file was edited during the copy.
        """
        snapshot, entries = cls._listed(root, packages)
        if not snapshot.folder.exists():
            snapshot._copy(entries)
        return snapshot

    @classmethod
    def _listed(cls, root: Path, packages: Sequence[str]) -> tuple[Snapshot, list[tuple[str, Path]]]:
        entries = [entry for name in sorted({*packages, TRANSPORT, SHARED}) for entry in files_of(locate(name))]
        hashes = {relative: source_hash(path) for relative, path in entries}
        digest = _digest(hashes)
        return cls(Path(root).absolute() / "code" / digest, digest), entries

    def _copy(self, entries: Iterable[tuple[str, Path]]) -> None:
        files.make_folder(self.folder.parent)
        temporary = self.folder.with_name(f".{self.sha256[:12]}.{uuid.uuid4().hex[:8]}.tmp")
        for relative, source in entries:
            target = temporary / relative
            files.make_folder(target.parent)
            files.write_bytes(target, source.read_bytes(), durable=False)
        try:
            verify(temporary, self.sha256)  # an edit while copying would give a mixture: better no snapshot at all
            with contextlib.suppress(OSError):  # another process was faster with the same copy
                os.rename(temporary, self.folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        files.sync_folder(self.folder.parent)


class CodeChanged(RuntimeError):
    """The code on disk is not the code that was submitted."""

    job_cause = "code_changed"


def verify(folder: Path, expected: str) -> None:
    """Hash the snapshot in `folder` again.

    Raises:
        CodeChanged: it is not what was submitted.
    """
    found = _digest({relative: files.sha256_of(path) for relative, path in _walk(folder, folder)})
    if found != expected:
        raise CodeChanged(f"code in {folder} has sha256 {found[:12]}, submitted was {expected[:12]}; submit again")


def locate(name: str) -> Path:
    """Folder of a top-level package, or file of a top-level module, without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise ModuleNotFoundError(f"no package {name!r} to take a snapshot of", name=name)
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    if spec.origin is None or not spec.origin.endswith(".py"):
        raise ModuleNotFoundError(f"{name!r} has no source to take a snapshot of", name=name)
    return Path(spec.origin)


_read: dict[str, tuple[tuple[int, ...], str]] = {}


def source_hash(path: Path) -> str:
    """sha256 of a source file here; this process reads it again once its stamp differs (no call can set a ctime)."""
    found = os.stat(path)
    stamp = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    before, digest = _read.get(str(path), ((), ""))
    if stamp != before:
        settled = time.time_ns() - found.st_ctime_ns > SETTLED_NS
        digest = files.sha256_of(path)
        if settled:
            _read[str(path)] = (stamp, digest)
    return digest


def files_of(path: Path) -> Iterator[tuple[str, Path]]:
    """Files of a top-level package or module that count, each with its name from above it; caches do not."""
    return _walk(path, path.parent) if path.is_dir() else iter([(path.name, path)])


def _walk(folder: Path, base: Path) -> Iterator[tuple[str, Path]]:
    above = len(os.path.join(base, ""))  # text, not Path: a submission goes over some hundred files
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED_FOLDERS)
        for name in sorted(names):
            path = os.path.join(place, name)
            if not name.endswith(_SKIPPED_SUFFIXES) and os.path.isfile(path):
                yield path[above:], Path(path)


def _digest(hashes: dict[str, str]) -> str:
    return hashlib.sha256(files.encode(hashes)).hexdigest()
