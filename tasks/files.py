"""Files land by temporary name, fsync and rename: a reader never sees half of one."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary sibling of `path` that takes its place when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> Path:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def write_json(path: Path, value: Any) -> Path:
    return write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def sha256_of(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def place(source: Path, target: Path) -> Path:
    """Put a file where a reader looks for it: a hard link where the disk allows, else a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as temporary:
        temporary.unlink()
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copy2(source, temporary)
    return target


def copy(source: Path, target: Path) -> Path:
    """A copy of its own: what is blessed must not change when somebody edits the source in place."""
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)
    return target


def place_tree(source: Path, target: Path, *, skip: Sequence[str] = ()) -> Path:
    """`place` for every file below a folder, but for those named in `skip`."""
    for file in sorted(path for path in source.rglob("*") if path.is_file() and path.name not in skip):
        place(file, target / file.relative_to(source))
    return target


def copy_aside(source: Path, parent: Path, name: str) -> Path:
    """Copy a folder to `parent/name`; an existing name gets a suffix `_2`, `_3` …, nothing is overwritten.

    The copy is made under a temporary name and renamed, so that the target exists whole or not at all.
    """
    parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=parent, prefix=f".{name}."))
    shutil.copytree(source, temporary, dirs_exist_ok=True)
    temporary.chmod(0o755)
    for suffix in ("", *(f"_{n}" for n in range(2, 10_000))):
        target = parent / f"{name}{suffix}"
        try:
            target.mkdir()  # claims the name; renaming onto an empty folder is atomic
        except FileExistsError:
            continue
        return temporary.rename(target)
    raise FileExistsError(f"{parent}/{name}: ten thousand archives of one day")
