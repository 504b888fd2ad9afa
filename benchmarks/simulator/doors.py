"""Where the simulation is put under the shipped code: module attributes, replaced for one history and put back.

Every module of `tasks.slurm` and the file layer get the simulated `os`, `time`, `fcntl`, `subprocess` … in place of the
real ones, whichever of them they import. So code that is rewritten stays simulated without a word here.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import pkgutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import psutil

import study_core.files as base
import tasks.slurm
from benchmarks.simulator.disk import Disk, SimulatedLocks, SimulatedOs, SimulatedTime
from benchmarks.simulator.site import Programs
from benchmarks.simulator.world import World
from tasks.slurm import dispatcher, faults, files, poller, runner, snapshot, submit, surroundings, watching  # noqa: F401  (loaded to be patched)


class _Face:
    """A module with some names replaced."""

    def __init__(self, real: ModuleType, **names: Any) -> None:
        self._real = real
        self.__dict__.update(names)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class _Sampler:
    """The node's sampler without its thread."""

    def __init__(self, path: Path, interval_s: float, world: World) -> None:
        self._world, self._started = world, world.clock()

    def start(self) -> _Sampler:
        return self

    def finish(self) -> dict[str, Any]:
        elapsed = self._world.clock() - self._started
        used = {"cpu_seconds": elapsed, "max_rss_bytes": 1 << 20, "gpu_utilisation": None}
        return {
            "started": self._started, "elapsed_seconds": elapsed, **used, "gpu_memory_bytes": None, "gpu_samples": 0,
        }  # fmt: skip


def _modules() -> list[ModuleType]:
    names = [
        one.name for one in pkgutil.iter_modules(tasks.slurm.__path__, "tasks.slurm.") if "__main__" not in one.name
    ]
    return [base, *(importlib.import_module(name) for name in names)]


MODULES = _modules()
IDENTITY = "simulated"  # of the job function's code: the same in every history


def _faces(world: World, disk: Disk, programs: Programs) -> dict[str, Any]:
    def process_of(pid: int | None = None) -> Any:
        mine = world.gate()
        found = [one for one in world.processes if one.pid == (pid or mine.pid) and one.host is mine.host]
        if not found or found[0].dead:
            raise psutil.NoSuchProcess(pid or mine.pid)
        return _Face(psutil, pid=found[0].pid, create_time=lambda: found[0].born, is_running=lambda: True)

    def listen(number: int, handler: Any) -> None:
        world.gate().handlers[int(number)] = handler

    real = {name: importlib.import_module(name) for name in ("socket", "signal", "secrets", "shutil", "time")}
    return {
        "os": SimulatedOs(disk),
        "time": SimulatedTime(world, real["time"]),
        "fcntl": SimulatedLocks(world),
        "subprocess": programs,
        "psutil": _Face(psutil, Process=process_of, pid_exists=lambda pid: _exists(process_of, pid)),
        "socket": _Face(real["socket"], gethostname=lambda: world.gate().host.name),
        "signal": _Face(real["signal"], signal=listen),
        "secrets": _Face(real["secrets"], token_hex=lambda size=4: f"{world.rng.getrandbits(8 * size):0{2 * size}x}"),
        "shutil": _Face(real["shutil"], which=lambda name, **_: f"/usr/bin/{name}"),
    }


def _exists(process_of: Callable[[int], Any], pid: int) -> bool:
    try:
        return bool(process_of(pid))
    except psutil.NoSuchProcess:
        return False


class _Environment(dict[str, str]):
    """The current process's environment, for a default argument that was bound long ago."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def get(self, name: str, otherwise: Any = None) -> Any:
        return self._world.gate().environ.get(name, otherwise)

    def __getitem__(self, name: str) -> str:
        return self._world.gate().environ[name]


@contextlib.contextmanager
def simulated(world: World, disk: Disk, programs: Programs, reach: Callable[[str], None]) -> Iterator[None]:
    """The shipped code runs in `world` while the block lasts."""
    undo: list[tuple[Any, str, Any]] = []
    missing = object()

    def put(holder: Any, name: str, value: Any) -> None:
        undo.append((holder, name, getattr(holder, name, missing)))
        setattr(holder, name, value)

    def seen(read: Callable[[Path], Any], absent: Callable[[], Any]) -> Callable[[Path], Any]:
        return lambda path: absent() if disk.unseen(path) else read(path)

    for name, face in _faces(world, disk, programs).items():
        for module in MODULES:
            if getattr(module, name, None) is sys.modules.get(name, missing):
                put(module, name, face)
    peek = seen(files.peek_json, lambda: None)
    put(files, "peek_json", peek)
    put(files, "read_lines", seen(files.read_lines, list))
    put(watching.Stamped.__init__, "__defaults__", (peek,))
    put(faults, "reach", reach)
    put(logging.getLogger("tasks.slurm"), "disabled", True)  # the record says it
    if hasattr(dispatcher, "reach"):
        put(dispatcher, "reach", lambda function: SimpleNamespace(identity=IDENTITY))
    put(snapshot, "verify", lambda folder, expected: None)
    put(runner, "Sampler", lambda path, interval_s: _Sampler(path, interval_s, world))
    put(surroundings.slurm_id, "__defaults__", (_Environment(world),))
    put(
        runner,
        "print",
        lambda *words, file=None, **_: _print(world, words, "strict" if file is None else "backslashreplace"),
    )
    if hasattr(poller, "_Queue"):
        put(poller, "_queue", functools.cache(lambda folder: poller._Queue(folder / "queue.json")))
    try:
        yield
    finally:
        world.close()
        for holder, name, old in reversed(undo):
            if old is missing:
                delattr(holder, name)
            else:
                setattr(holder, name, old)


def _print(world: World, words: tuple[object, ...], errors: str) -> None:
    process = world.gate()
    if process.log is not None:
        with open(process.log, "a", errors=errors) as stream:
            stream.write(" ".join(str(word) for word in words) + "\n")
