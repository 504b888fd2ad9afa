"""Following one job's log and progress without reading anything twice."""

from __future__ import annotations

import codecs
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.slurm import files

FIRST_LOOK_BYTES = 64 << 10  # a flow that attaches late sees the end of a long log, not all of it again
CHUNK_BYTES = 256 << 10  # at most this much of one log in one look
END_BYTES = 1 << 20  # and in the last one, its end: where a traceback stands
LINE_CHARACTERS = 16 << 10  # kept of a line without an end
DRAW_S = 1.0  # a line that is drawn again is shown at most this often


class Tail:
    """Whole new lines of a growing file, from a remembered offset; a cut or half-written line waits for its end.

    A line that is drawn again and again (a progress bar, by carriage returns) is shown as it is, at most once a second.
    Memory is bounded: of a line without an end its own end is kept, and of what nobody had time to read the last part.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._drawn = clock, float("-inf")
        self._follow(None)

    def _follow(self, path: Path | None) -> None:
        self._path = path
        self._offset = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._rest, self._left_out = "", 0

    def read(self, path: Path, *, last: bool = False) -> str:
        """New text of `path` up to its last whole line; with `last`, up to its end. Empty when there is none."""
        if path != self._path:
            self._follow(path)  # another Slurm job, another file
            self._skip_to_end_of_long(path)
        skipped = self._skip_to_the_end(path) if last else 0
        text = self._rest + self._decoder.decode(self._new_bytes(path, END_BYTES if last else CHUNK_BYTES))
        if skipped:
            text = f"[... {skipped} bytes left out ...]\n{text}"
        whole, newline, rest = text.rpartition("\n")
        if last:
            whole, newline, rest = text.rstrip("\n"), "\n", ""
        shown = "\n".join(map(_settled, whole.split("\n"))) if newline else ""
        if newline and self._left_out:
            shown, self._left_out = f"[... {self._left_out} characters left out ...]{shown}", 0
        self._rest = rest
        return shown or self._drawing()

    def _drawing(self) -> str:
        """The unfinished line: bounded, and shown where it is being drawn."""
        drawn = self._rest.rpartition("\r")
        if drawn[1]:
            now, self._rest = _settled(drawn[0]), drawn[1] + drawn[2]
            if now and self._clock() - self._drawn >= DRAW_S:
                self._drawn = self._clock()
                return now
        surplus = len(self._rest) - LINE_CHARACTERS
        if surplus > 0:
            self._left_out += surplus
            self._rest = self._rest[surplus:]
        return ""

    def _skip_to_the_end(self, path: Path) -> int:
        """Leave out what is too much for the last look; the number of bytes."""
        surplus = _size(path) - self._offset - END_BYTES
        if surplus <= 0:
            return 0
        self._offset, self._rest = self._offset + surplus, ""
        self._decoder.reset()
        return surplus

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


def _settled(line: str) -> str:
    """What a terminal shows of a line in the end: the text after its last carriage return."""
    *_, shown = [piece for piece in line.split("\r") if piece] or [""]
    return shown


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
    except OSError:  # the diagnosis does without
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
