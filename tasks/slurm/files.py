"""Durable small files: temporary name, fsync, rename. Private by default (0600, folders 0700). Standard library only.

Both the dispatcher and the runner on the node go through here, so nothing else in this package opens a file for
writing, and a reader on any machine sees either the old content or the new one, never half of it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700
SHARED_FILE = 0o644  # a table for everyone who may see the folder, the auditor included


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


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` survive a power loss."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, content: bytes, *, durable: bool = True, mode: int = PRIVATE_FILE) -> None:
    """Replace `path` by `content`; `durable` also forces it, and its name, onto the disk."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def encode(value: Any) -> bytes:
    """One canonical JSON form, so that equal values have equal bytes and equal hashes."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def write_json(path: Path, value: Any, *, durable: bool = True) -> None:
    """Write `value` as canonical JSON by temporary name and rename."""
    write_bytes(path, encode(value) + b"\n", durable=durable)


def read_json(path: Path) -> Any:
    """The parsed file, or None where it is missing or not (yet) whole."""
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def create_json(path: Path, value: Any) -> bool:
    """Write `value` only if `path` does not exist yet; False when somebody else was first. Atomic, also on NFS.

    A hard link either appears whole or fails: unlike O_EXCL it leaves no empty file for others to read. Disks without
    hard links get O_EXCL.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    write_json(temporary, value, durable=False)
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
    """Append one JSON line (single writer at a time)."""
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
            lines.append(json.loads(line))
    return lines


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's bytes, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sha256_of(path: Path) -> str:
    """Hash of a file, or of a folder: over the lines "RELATIVE SHA256" of every file below it, sorted."""
    if not path.is_dir():
        return sha256_file(path)
    digest = hashlib.sha256()
    for file in sorted(found for found in path.rglob("*") if found.is_file()):
        digest.update(f"{file.relative_to(path)} {sha256_file(file)}\n".encode())
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


@contextlib.contextmanager
def locked(path: Path, *, timeout_s: float | None = None) -> Iterator[int]:
    """Hold an exclusive advisory lock on `path`; yields its descriptor, which a child may inherit to keep the lock.

    Raises:
        TimeoutError: another process kept the lock for longer than `timeout_s` (None waits for ever).
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, PRIVATE_FILE)
    try:
        if timeout_s is None:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        else:
            _lock_until(descriptor, path, time.monotonic() + timeout_s)
        yield descriptor
    finally:
        os.close(descriptor)


def _lock_until(descriptor: int, path: Path, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise TimeoutError(f"{path} is held by another process") from None
            time.sleep(0.02)
