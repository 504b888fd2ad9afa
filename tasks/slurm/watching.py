"""Following one job's log and progress without reading anything twice."""

from __future__ import annotations

import codecs
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.slurm import files

FIRST_LOOK_BYTES = 64 << 10  # a flow that attaches late sees the end of a long log, not all of it again
CHUNK_BYTES = 256 << 10  # at most this much of one log in one look


class Tail:
    """Whole new lines of a growing file, from a remembered offset; a cut or half-written line waits for its end."""

    def __init__(self) -> None:
        self._follow(None)

    def _follow(self, path: Path | None) -> None:
        self._path = path
        self._offset = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._rest = ""

    def read(self, path: Path, *, last: bool = False) -> str:
        """New text of `path` up to its last whole line; with `last`, up to its end. Empty when there is none."""
        if path != self._path:
            self._follow(path)  # another Slurm job, another file
            self._skip_to_end_of_long(path)
        text = self._rest + self._decoder.decode(self._new_bytes(path, CHUNK_BYTES if not last else 64 * CHUNK_BYTES))
        if last:
            self._rest = ""
            return text.rstrip("\n")
        whole, newline, self._rest = text.rpartition("\n")
        return whole if newline else ""

    def _skip_to_end_of_long(self, path: Path) -> None:
        size = _size(path)
        if size > FIRST_LOOK_BYTES:
            self._offset = size - FIRST_LOOK_BYTES
            head = self._new_bytes(path, FIRST_LOOK_BYTES)
            self._offset = size - FIRST_LOOK_BYTES + head.find(b"\n") + 1

    def _new_bytes(self, path: Path, most: int) -> bytes:
        size = _size(path)
        if size < self._offset:  # cut or replaced: begin again
            self._offset = 0
        if size == self._offset:
            return b""
        try:
            with path.open("rb") as stream:
                stream.seek(self._offset)
                content = stream.read(most)
        except FileNotFoundError:
            return b""
        self._offset += len(content)
        return content


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def last_lines(path: Path, most: int = 16 << 10) -> str:
    """The end of a log, for a diagnosis."""
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, _size(path) - most))
            return stream.read().decode(errors="replace")
    except FileNotFoundError:
        return ""


class Stamped:
    """A JSON file that is parsed again only after it changed."""

    def __init__(self, parse: Callable[[Path], Any] = files.peek_json) -> None:
        self._parse = parse
        self._stamp: tuple[int, int, int] | None = None
        self._content: Any = None

    def read(self, path: Path) -> Any:
        """The newest content, None where the file is missing."""
        try:
            found = os.stat(path)
        except FileNotFoundError:
            return None
        stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
        if stamp != self._stamp:
            self._content, self._stamp = self._parse(path), stamp
        return self._content
