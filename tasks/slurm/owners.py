"""Who holds jobs, and whether they still live: leases on the disk, heartbeats beside them, clocks last."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from tasks.slurm import files
from tasks.slurm.shared import log

LEASE_S = 2.0
BEAT_S = 10.0
UNHEARD_S = 30.0  # an owner without any sign of life is dead only if none came for so long
ELSEWHERE_S = 900.0  # an owner on another machine that holds no lease counts as alive this long after its last beat


class Owners:
    """The owners of jobs below one root, seen by one of them."""

    def __init__(self, root: Path, own: str, clock: Callable[[], float] = time.time) -> None:
        self.own = own
        self._folder, self._clock = root / "owners", clock
        self._beaten = float("-inf")

    def beat(self, *, now: bool = False) -> None:
        """A heartbeat of this process, where one is due."""
        if not now and self._clock() - self._beaten < BEAT_S:
            return
        self._beaten = self._clock()
        path = self._file(self.own)
        born = psutil.Process().create_time()
        content = {"host": socket.gethostname(), "pid": os.getpid(), "born": born, "at": self._clock()}
        try:
            files.make_folder(self._folder)
            files.write_json(path, content, durable=False)
            path.with_suffix(".unheard").unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                os.utime(path.with_suffix(".lock"))  # in use: not for `prune`
        except OSError as error:
            log.info("no heartbeat: %s: %s", error.filename, error.strerror)

    @contextlib.contextmanager
    def alive(self) -> Iterator[None]:
        """While the block lasts, others can ask the disk whether this process lives, even while it is stopped.

        Any number of an owner's threads may hold this at once.
        """
        with contextlib.ExitStack() as stack:
            try:
                path = self._file(self.own).with_suffix(".lock")
                stack.enter_context(files.locked(path, timeout_s=LEASE_S, shared=True))
            except OSError as error:  # a disk without locks, or full: the heartbeat is left
                log.info("no lease: %s", error)
            yield

    def last_beat(self, owner: str) -> dict[str, Any] | None:
        """Its newest heartbeat."""
        content: dict[str, Any] | None = files.peek_json(self._file(owner))
        return content

    def dead(self, owner: str, grace_s: float) -> bool:
        """Clocks come last: first the disk's locks are asked, then this host's processes."""
        if self.leased(owner):
            return False
        beat = self.last_beat(owner)
        if beat is None:  # a cleaner took it, and its owner is about to write it anew; or nobody ever will
            return self._clock() - self._unheard(owner) > max(grace_s, UNHEARD_S)
        if beat["host"] != socket.gethostname():  # where locks do not reach, the disk's clock has to do
            self.beat(now=True)
            return self._silence(owner) > max(grace_s, ELSEWHERE_S)
        silent = self._clock() - beat["at"]
        try:
            alive = abs(psutil.Process(beat["pid"]).create_time() - beat["born"]) < 2
        except psutil.NoSuchProcess:
            alive = False
        return not alive and silent > grace_s

    def leased(self, owner: str) -> bool:
        """Whether a process of `owner` lives, by the word of the disk's lock manager."""
        path = self._file(owner).with_suffix(".lock")
        if not path.exists():
            return False
        try:
            with files.locked(path, timeout_s=0):
                return False
        except OSError:  # TimeoutError: it is held. Anything else: nobody can tell
            return True

    def _unheard(self, owner: str) -> float:
        """Since when it is known that an owner has no heartbeat: noted down by whoever finds that out first."""
        path = self._file(owner).with_suffix(".unheard")
        files.create_json(path, {"at": self._clock()})
        return float((files.peek_json(path) or {"at": self._clock()})["at"])

    def _silence(self, owner: str) -> float:
        """Seconds of the disk's own clock between its last heartbeat and this owner's; hosts' clocks may differ."""
        stamps = []
        for name in (self.own, owner):
            try:
                stamps.append(os.stat(self._file(name)).st_mtime)
            except OSError:
                return 0.0
        return stamps[0] - stamps[1]

    def _file(self, owner: str) -> Path:
        return self._folder / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', owner)}.json"
