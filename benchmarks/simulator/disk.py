"""The file layer's system calls as a shared disk and a page of faults: full, removed, slow to show a new name.

Stands in for `os`, `time`, `fcntl` and a few more in `study_core.files` and every module of `tasks.slurm`: the real
functions run on real files in a real folder, but time, locks and faults are the history's.

NFS: a client that looked for a name in vain may go on believing that it is not there for `lag` seconds, until it lists
the folder; a `stat` may show the file that was replaced for up to three seconds (attribute cache). An `open` of a name
that exists is always fresh (close-to-open).
"""

from __future__ import annotations

import errno
import fcntl as real_fcntl
import os as real_os
from pathlib import Path
from typing import Any

from benchmarks.simulator.world import Process, World

ATTRIBUTE_CACHE_S = 3.0


class Disk:
    """Faults of the file layer, by folder and by host."""

    def __init__(self, world: World, shared: Path, lag: float) -> None:
        self.world, self.shared, self.lag = world, str(shared), lag
        self.full: set[str] = set()  # folders whose disk has no space left
        self.full_hosts: set[str] = set()  # hosts whose quota on the shared disk is used up
        self._missed: dict[tuple[str, str], float] = {}
        self._replaced: dict[str, tuple[float, str, real_os.stat_result]] = {}
        self._writes = 0
        world.release = self.release

    # -- faults
    def check(self, path: str) -> None:
        """ENOSPC where the disk is full."""
        process = self.world.gate()
        full = any(path.startswith(folder) for folder in self.full)
        if full or (process.host.name in self.full_hosts and path.startswith(self.shared)):
            raise OSError(errno.ENOSPC, real_os.strerror(errno.ENOSPC), path)

    def unseen(self, path: Any) -> bool:
        """Whether this host still believes that `path` is not there."""
        host, name = self.world.gate().host.name, str(path)
        if not self.lag or not name.startswith(self.shared):
            return False
        since = self._missed.get((host, name))
        if since is not None and self.world.now - since < self.lag:
            return True
        if not real_os.path.exists(name):
            self._missed[host, name] = self.world.now
        return False

    def made(self, path: str) -> None:
        """The writer's own host sees its work at once; the stamp is the server's time."""
        host = self.world.gate().host.name
        self._missed.pop((host, path), None)
        self._writes += 1  # no two writes have one stamp, even where a disk gives an inode number out again
        stamp = int(self.world.now * 1e6) * 1000 + self._writes
        real_os.utime(path, ns=(stamp, stamp))

    def listed(self, folder: str) -> None:
        """Listing a folder refreshes what the host believes about it."""
        host = self.world.gate().host.name
        for key in [one for one in self._missed if one[0] == host and real_os.path.dirname(one[1]) == folder]:
            del self._missed[key]
        for name in [one for one in self._replaced if real_os.path.dirname(one) == folder]:
            del self._replaced[name]

    def before_replace(self, path: str) -> None:
        """Remember what others may still see."""
        if self.lag and path.startswith(self.shared):
            try:
                self._replaced[path] = (self.world.now, self.world.gate().host.name, real_os.stat(path))
            except FileNotFoundError:
                return

    def stat(self, path: Any) -> real_os.stat_result:
        """As the host's attribute cache has it."""
        name = str(path)
        if self.unseen(name):
            raise FileNotFoundError(errno.ENOENT, real_os.strerror(errno.ENOENT), name)
        old = self._replaced.get(name)
        if old and old[1] != self.world.gate().host.name and self.world.now - old[0] < min(self.lag, ATTRIBUTE_CACHE_S):
            return old[2]
        return real_os.stat(path)

    # -- locks
    def hold(self, descriptor: int) -> None:
        """The current process has a lock file open."""
        process = self.world.gate()
        process.locks.add(descriptor)

    def release(self, process: Process) -> None:
        """Close what a dead process had locked."""
        for descriptor in process.locks:
            real_os.close(descriptor)
        process.locks.clear()


class SimulatedOs:
    """`os` on the simulated disk and in the simulated process."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def __getattr__(self, name: str) -> Any:
        return getattr(real_os, name)

    @property
    def environ(self) -> dict[str, str]:
        """The current process's own."""
        process = self._disk.world.current
        return process.environ if process else {}

    def getpid(self) -> int:
        return self._disk.world.gate().pid

    def getuid(self) -> int:
        return 1000

    def umask(self, mode: int) -> int:
        return mode

    def chdir(self, path: Any) -> None:
        self._disk.world.gate()

    def open(self, path: Any, flags: int, mode: int = 0o777) -> int:
        self._disk.world.gate()
        name = str(path)
        if flags & real_os.O_CREAT and not (name.endswith(".lock") and real_os.path.exists(name)):
            self._disk.check(name)
        descriptor = real_os.open(path, flags, mode)
        if name.endswith(".lock"):
            self._disk.hold(descriptor)
        elif flags & real_os.O_CREAT:
            self._disk.made(name)
        return descriptor

    def close(self, descriptor: int) -> None:
        process = self._disk.world.current
        if process is not None and descriptor in process.locks:
            process.locks.discard(descriptor)
            real_os.close(descriptor)
        elif process is not None and not process.dead:
            real_os.close(descriptor)

    def fsync(self, descriptor: int) -> None:
        self._disk.world.gate()

    def replace(self, source: Any, target: Any) -> None:
        self._disk.check(str(target))
        self._disk.before_replace(str(target))
        real_os.replace(source, target)
        self._disk.made(str(target))

    def link(self, source: Any, target: Any) -> None:
        self._disk.check(str(target))
        real_os.link(source, target)
        self._disk.made(str(target))

    def stat(self, path: Any, **more: Any) -> real_os.stat_result:
        return self._disk.stat(path) if not isinstance(path, int) else real_os.stat(path, **more)

    def listdir(self, path: Any = ".") -> list[str]:
        self._disk.world.gate()
        self._disk.listed(str(path))
        return real_os.listdir(path)


class SimulatedTime:
    """`time`: the host's clock, and sleeping is letting others have their turn."""

    def __init__(self, world: World, real: Any) -> None:
        self._world, self._real = world, real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def time(self) -> float:
        return self._world.clock()

    def monotonic(self) -> float:
        return self._world.now

    def sleep(self, seconds: float) -> None:
        self._world.sleep(max(seconds, 0.25))  # looking more often costs turns and finds no more


class SimulatedLocks:
    """`fcntl`: real locks on real files, but waiting for one is sleeping on the virtual clock."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __getattr__(self, name: str) -> Any:
        return getattr(real_fcntl, name)

    def flock(self, descriptor: Any, how: int) -> None:
        self._world.gate()
        if how & real_fcntl.LOCK_NB or how & real_fcntl.LOCK_UN:
            real_fcntl.flock(descriptor, how)
            return
        while True:
            try:
                real_fcntl.flock(descriptor, how | real_fcntl.LOCK_NB)
                return
            except BlockingIOError:
                self._world.sleep(0.5)
