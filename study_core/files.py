"""Files land whole: temporary name, fsync, rename. A reader on any machine sees old or new, never half of one.

Standard library only: the runner on a node goes through here before it has imported anything else.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700
SHARED_FILE = 0o644  # for everyone who may see the folder, the auditor included


@contextmanager
def replacing(path: Path, *, durable: bool = True, mode: int = SHARED_FILE, parents: bool = True) -> Iterator[Path]:
    """A temporary sibling of `path` that takes its place when the block ends without an error.

    The name keeps the suffix, because `numpy.save` appends one where it is missing. `durable` forces the content and
    its name onto the disk; without it a power loss may bring the old file back, never half of the new one. `parents`
    makes missing folders; without it a folder that was moved away is not made again.

    Raises:
        OSError: the disk's own error (full, read-only …), with `path` as its file name.
    """
    if parents:
        path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem[:100]}.{uuid.uuid4().hex[:8]}.tmp{path.suffix}")
    try:
        yield temporary
        with open(temporary, "rb") as handle:
            if durable:
                os.fsync(handle.fileno())
            os.fchmod(handle.fileno(), mode)
        os.replace(temporary, path)
        if durable:
            sync_folder(path.parent)
    except OSError as error:
        if error.filename in (None, str(temporary)):
            error.filename = str(path)  # ENOSPC of a write names no file at all
        raise
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` survive a power loss."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(
    path: Path, content: bytes, *, durable: bool = True, mode: int = SHARED_FILE, parents: bool = True
) -> Path:
    """Replace `path` by `content`; a private file is never readable by others, not even for a moment."""
    with replacing(path, durable=durable, mode=mode, parents=parents) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
    return path


def write_text(path: Path, text: str) -> Path:
    """Replace `path` by `text`, UTF-8."""
    return write_bytes(path, text.encode())


def encode(value: Any) -> bytes:
    """The one canonical JSON form: equal values have equal bytes and equal hashes.

    Every text can be written: half a surrogate pair, as in a file name that is no UTF-8, becomes its JSON escape.
    """
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace")


def write_json(path: Path, value: Any) -> Path:
    """Replace `path` by JSON for people: indented, sorted. NaN and infinity are a ValueError: they are not JSON."""
    return write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def parse_json(text: str | bytes) -> Any:
    """The parsed text. ValueError for whatever is not JSON, nested beyond any use included: never a crash."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deep to be read") from None


def read_json(path: Path) -> Any:
    """The parsed file. Raises OSError where there is none, ValueError where it is not JSON."""
    return parse_json(path.read_text(encoding="utf-8"))


def peek_json(path: Path) -> Any:
    """The parsed file, or None where it is missing or not (yet) whole."""
    try:
        return parse_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def create_json(path: Path, value: Any) -> bool:
    """Write `value`, private, only if `path` does not exist yet; False when somebody else was first.

    Atomic, on NFS too: a hard link appears whole or fails; unlike O_EXCL it leaves no empty file for others to read.
    Disks without hard links get O_EXCL.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    write_bytes(temporary, encode(value) + b"\n", durable=False, mode=PRIVATE_FILE, parents=False)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError:
        return _create_exclusively(path, value)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)
    return True


def _create_exclusively(path: Path, value: Any) -> bool:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(encode(value) + b"\n")
    return True


def append_line(path: Path, value: Any) -> None:
    """Append one JSON line to a private file (single writer at a time)."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, PRIVATE_FILE)
    with os.fdopen(descriptor, "ab") as stream:
        stream.write(encode(value) + b"\n")


def read_lines(path: Path) -> list[Any]:
    """The JSON lines of `path`; a torn last line (the writer was killed) is left out."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return []
    lines = []
    for line in raw.split(b"\n"):
        with contextlib.suppress(ValueError):
            lines.append(parse_json(line))
    return lines


def sha256_of(path: Path) -> str:
    """Hash of a file, or of a folder: over the lines "RELATIVE SHA256" of every file below it, sorted."""
    if not path.is_dir():
        with open(path, "rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    digest = hashlib.sha256()
    for file in sorted(found for found in path.rglob("*") if found.is_file()):
        digest.update(f"{file.relative_to(path)} {sha256_of(file)}\n".encode())
    return digest.hexdigest()


def damaged(result: dict[str, Any]) -> str | None:
    """The first of a result's `files` (path to sha256) that is missing or changed; None when all are as it says."""
    for name, expected in result.get("files", {}).items():
        try:
            if sha256_of(Path(name)) != expected:
                return str(name)
        except OSError:
            return str(name)
    return None


def make_folder(path: Path) -> Path:
    """Create `path` and its missing parents, readable by the owner alone. Existing folders keep their mode."""
    missing = []
    probe = path
    while not probe.exists():
        missing.append(probe)
        probe = probe.parent
    for folder in reversed(missing):
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, PRIVATE_FOLDER)
    return path


def refresh(folder: Path) -> None:
    """Have an NFS client look at a folder again: it may remember for half a minute that a file was not there."""
    with contextlib.suppress(FileNotFoundError):
        os.listdir(folder)


def place(source: Path, target: Path) -> Path:
    """Put a file where a reader looks for it: a hard link where the disk allows, else a copy."""
    with replacing(target) as temporary:
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


def held_bytes(folders: Sequence[Path]) -> dict[Path, int]:
    """Bytes that the disk gets back with each folder: a file that has another name elsewhere gives nothing back."""
    files = [(folder, path) for folder in folders for path in [folder, *folder.rglob("*")] if _is_file(path)]
    names: dict[int, int] = {}
    for _, path in files:
        names[path.stat().st_ino] = names.get(path.stat().st_ino, 0) + 1
    held, counted = dict.fromkeys(folders, 0), set()
    for folder, path in files:
        status = path.stat()
        if names[status.st_ino] == status.st_nlink and status.st_ino not in counted:
            counted.add(status.st_ino)
            held[folder] += status.st_blocks * 512
    return held


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


@contextmanager
def locked(path: Path, *, timeout_s: float | None = None, shared: bool = False) -> Iterator[int]:
    """Hold an advisory lock on `path`, exclusive or `shared`; yields its descriptor, which a child may inherit.

    Raises:
        TimeoutError: another process kept the lock for longer than `timeout_s` (None waits for ever).
    """
    how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, PRIVATE_FILE)
    try:
        if timeout_s is None:
            fcntl.flock(descriptor, how)
        else:
            _lock_until(descriptor, how, path, time.monotonic() + timeout_s)
        yield descriptor
    finally:
        os.close(descriptor)


def _lock_until(descriptor: int, how: int, path: Path, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise TimeoutError(f"{path} is held by another process") from None
            time.sleep(0.02)
