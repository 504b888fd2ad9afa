"""The dispatcher's control files: `study_core.files`, private (0600, folders 0700) and in canonical JSON.

Both the dispatcher and the runner on the node go through here; nothing else in this package opens a file for writing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from study_core import files as _files
from study_core.files import (
    PRIVATE_FILE,
    SHARED_FILE,
    append_line,
    create_json,
    damaged,
    encode,
    locked,
    make_folder,
    peek_json,
    read_lines,
    refresh,
    sha256_of,
    sync_folder,
)

__all__ = [
    "PRIVATE_FILE", "SHARED_FILE", "append_line", "create_json", "damaged", "encode", "locked", "make_folder",
    "peek_json", "read_lines", "refresh", "sha256_of", "sync_folder", "write_bytes", "write_json",
]  # fmt: skip


def write_bytes(path: Path, content: bytes, *, durable: bool = True, mode: int = PRIVATE_FILE) -> None:
    """Replace `path` by `content`, readable by the owner alone. A job's folder that was moved away stays away."""
    _files.write_bytes(path, content, durable=durable, mode=mode, parents=False)


def write_json(path: Path, value: Any, *, durable: bool = True) -> None:
    """Replace `path` by canonical JSON, readable by the owner alone."""
    write_bytes(path, encode(value) + b"\n", durable=durable)
