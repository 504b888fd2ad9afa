"""One JSON state for every process of a user on this machine, and this process's own memory where it cannot be used.

What is shared here only saves questions to the scheduler. A folder that a cleaner removed is made again; one that is
full or locked away costs a warning, and more questions: never a wait, never a job.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks.slurm import files
from tasks.slurm.watching import Stamped

log = logging.getLogger("tasks.slurm")


class Shared:
    """`folder/name`, a dictionary. The newer of the file and of what this process failed to write counts."""

    def __init__(self, folder: Path, name: str) -> None:
        self._path, self._file = folder / name, Stamped()
        self._own: dict[str, Any] = {}
        self._warned = ""

    def read(self) -> dict[str, Any]:
        """The state; empty at first."""
        try:
            state: dict[str, Any] = self._file.read(self._path) or {}
        except OSError as error:
            self._warn(error)
            state = {}
        unwritten = bool(self._own) and self._own.get("tried", 0.0) >= state.get("tried", 0.0)
        return self._own if unwritten else state

    def write(self, state: dict[str, Any]) -> None:
        """Replace the state, for everybody where the disk allows it."""
        try:
            files.make_folder(self._path.parent)
            files.write_json(self._path, state, durable=False)
            self._own, self._warned = {}, ""
        except OSError as error:
            self._own = state
            self._warn(error)

    @contextlib.contextmanager
    def turn(self) -> Iterator[bool]:
        """Whether it is this process's turn to renew the state: False while another one is at it."""
        with contextlib.ExitStack() as stack:
            try:
                files.make_folder(self._path.parent)
                stack.enter_context(files.locked(self._path.with_suffix(".lock"), timeout_s=0))
                mine = True
            except TimeoutError:
                mine = False
            except OSError as error:  # no lock to be had: everybody asks for himself
                self._warn(error)
                mine = True
            yield mine

    def _warn(self, error: OSError) -> None:
        text = f"{self._path}: {error.strerror or error}"
        if text != self._warned:
            log.warning("%s; this process asks the scheduler for itself", text)
            self._warned = text
