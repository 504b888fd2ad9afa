"""The virtual clock and who lives on it: processes that take turns, sleep, stop, are killed. One loop, no threads.

A process is a greenlet: it runs until it sleeps, then the loop wakes whoever is due next. So the real code, which calls
`sleep` deep inside a wait, needs no change to take turns with others.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from greenlet import GreenletExit, greenlet  # type: ignore[import-untyped]

EPOCH = 1_900_000_000.0  # virtual seconds begin here: later than the age of any real file


class Killed(BaseException):
    """kill -9: the process does nothing more. Every door refuses it from then on, `finally` blocks included."""


@dataclass
class Host:
    """A machine with a clock of its own, ahead of the true time by `skew` seconds."""

    name: str
    skew: float = 0.0


@dataclass(eq=False)
class Process:
    """One process on a host. `stopped` is SIGSTOP: it is not woken before that time."""

    name: str
    host: Host
    pid: int
    born: float
    environ: dict[str, str] = field(default_factory=dict)
    locks: set[int] = field(default_factory=set)
    handlers: dict[int, Callable[[int, Any], None]] = field(default_factory=dict)
    dead: bool = False
    ended: bool = False
    killed: bool = False
    stopped: float = 0.0
    status: int | None = None
    body: Any = None
    log: Any = None


class World:
    """Time, processes and the history's own record of what happened."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.now = EPOCH
        self.processes: list[Process] = []
        self.record: list[str] = []
        self.current: Process | None = None
        self.release: Callable[[Process], None] = lambda process: None  # set by the disk: a dead process's locks
        self._queue: list[tuple[float, int, Process]] = []
        self._order, self._pids = itertools.count(), itertools.count(1000)
        self._hub = greenlet.getcurrent()
        self._closed = False

    # -- time
    def clock(self) -> float:
        """The time on the current process's host."""
        return self.now + (self.current.host.skew if self.current else 0.0)

    def sleep(self, seconds: float) -> None:
        """Let others have their turn."""
        process = self.gate()
        heapq.heappush(self._queue, (self.now + max(seconds, 0.0), next(self._order), process))
        self._hub.switch()
        self.gate()

    def gate(self) -> Process:
        """The current process, if it may still do anything."""
        process = self.current
        if process is None or process.dead or self._closed:
            raise Killed()
        return process

    def note(self, text: str) -> None:
        """One line of the history."""
        who = self.current.name if self.current else "site"
        self.record.append(f"{self.now - EPOCH:8.2f} {who:<18} {text}")

    # -- processes
    def spawn(self, name: str, host: Host, body: Callable[[], int | None], after: float = 0.0, **more: Any) -> Process:
        """Start a process `after` seconds from now; `body` returns its exit status."""
        process = Process(name, host, next(self._pids), self.now + after, **more)

        def run() -> None:
            try:
                process.status = body() or 0
            except (Killed, GreenletExit):
                process.killed = True
            finally:
                process.ended = process.dead = True
                if not self._closed:
                    self.release(process)

        process.body = greenlet(run, self._hub)
        self.processes.append(process)
        heapq.heappush(self._queue, (self.now + after, next(self._order), process))
        return process

    def kill(self, process: Process) -> None:
        """kill -9, from outside or at a crash point."""
        if process.dead:
            return
        process.dead = process.killed = True
        self.note(f"kill -9 {process.name}")
        self.release(process)
        if process is self.current:
            raise Killed()

    def run(self, until: Callable[[], bool], limit: float) -> bool:
        """Turn after turn until `until`; False when `limit` seconds passed first or nobody is left."""
        end = self.now + limit
        while not until():
            if not self._queue or self._queue[0][0] > end:
                return False
            when, _, process = heapq.heappop(self._queue)
            self.now = max(self.now, when)
            if process.dead:
                continue
            if process.stopped > self.now:
                heapq.heappush(self._queue, (process.stopped, next(self._order), process))
                continue
            self.current = process
            try:
                process.body.switch()
            finally:
                self.current = None
        return True

    def close(self) -> None:
        """Unwind everybody: nothing of this history may run later."""
        self._closed = True
        for process in self.processes:
            if process.body is not None and not process.body.dead:
                process.dead = True
                if process.body:
                    process.body.throw(GreenletExit)
