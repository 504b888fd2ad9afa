"""What a job used, sampled where it runs: CPU time, peak memory, GPU use and energy through NVML where there is one.

Runs on the node in a daemon thread, so a slow import or a missing driver never delays the job. Standard library only;
`pynvml` is imported inside the thread.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from tasks.slurm import files

_RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # getrusage(2): kilobytes on Linux, bytes on macOS


def cpu_and_memory() -> dict[str, Any]:
    """CPU seconds (user + system) and peak resident bytes of this process and its ended children."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "cpu_seconds": own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime,
        "max_rss_bytes": max(own.ru_maxrss, children.ru_maxrss) * _RSS_UNIT,
    }


class Sampler:
    """Samples every `interval_s` seconds and keeps `path` up to date, so that a killed job leaves its last numbers."""

    def __init__(self, path: Path, interval_s: float, nvml: Callable[[], ModuleType | None] | None = None) -> None:
        self._path, self._interval = path, interval_s
        self._nvml = nvml or import_nvml
        self._started = time.time()
        self._utilisation: list[float] = []  # a sample: mean over this job's GPUs, percent
        self._gpu_memory = 0
        self._energy_before: float | None = None  # millijoules, by the GPUs' own counters
        self._energy: float | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="usage", daemon=True)

    def start(self) -> Sampler:
        """Begin to sample."""
        self._thread.start()
        return self

    def finish(self) -> dict[str, Any]:
        """Stop and return the numbers of this run."""
        self._stop.set()
        self._thread.join(timeout=2)
        return self.numbers()

    def numbers(self) -> dict[str, Any]:
        """Elapsed and CPU seconds, peak bytes, mean GPU use in percent, joules (None without a GPU, or uncounted)."""
        samples = list(self._utilisation)
        return {
            "started": self._started,
            "elapsed_seconds": time.time() - self._started,
            **cpu_and_memory(),
            "gpu_utilisation": sum(samples) / len(samples) if samples else None,
            "gpu_memory_bytes": self._gpu_memory or None,
            "gpu_samples": len(samples),
            "gpu_energy_joules": self._joules(),
        }

    def _joules(self) -> float | None:
        before, now = self._energy_before, self._energy
        if before is None or now is None or now < before:  # counted anew: its driver was loaded again
            return None
        return (now - before) / 1000

    def _run(self) -> None:
        module = self._nvml()
        handles = gpu_handles(module) if module else []
        if module and handles:
            self._energy_before = self._energy = _millijoules(module, handles)
        while not self._stop.wait(self._interval):
            if module and handles:
                self._sample_gpus(module, handles)
            try:
                files.write_json(self._path, self.numbers(), durable=False)
            except OSError:  # a full disk must not end the job; the numbers are a courtesy
                continue

    def _sample_gpus(self, module: ModuleType, handles: list[Any]) -> None:
        """What a part of a GPU (MIG) or an old driver does not count is left out, the rest is kept."""
        with contextlib.suppress(Exception):  # a GPU that fell off the bus is the job's own error to report
            memory = sum(module.nvmlDeviceGetMemoryInfo(handle).used for handle in handles)
            self._gpu_memory = max(self._gpu_memory, int(memory))
        with contextlib.suppress(Exception):
            rates = [module.nvmlDeviceGetUtilizationRates(handle).gpu for handle in handles]
            self._utilisation.append(sum(rates) / len(rates))
        self._energy = _millijoules(module, handles)


def _millijoules(module: ModuleType, handles: list[Any]) -> float | None:
    """What these GPUs have used since their driver was loaded; None where one does not count it."""
    try:
        return float(sum(module.nvmlDeviceGetTotalEnergyConsumption(handle) for handle in handles))
    except Exception:
        return None


def import_nvml() -> ModuleType | None:
    """The initialised NVML binding, or None where there is no driver."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:
        return None
    return pynvml  # type: ignore[no-any-return]


def gpu_handles(module: ModuleType, environment: dict[str, str] | None = None) -> list[Any]:
    """NVML handles of this job's own GPUs: by index, "GPU-..." or "MIG-..." from Slurm or CUDA; else all visible."""
    source = os.environ if environment is None else environment
    names = source.get("CUDA_VISIBLE_DEVICES") or source.get("SLURM_JOB_GPUS") or ""
    try:
        count = module.nvmlDeviceGetCount()
        every = [module.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
        if not names:
            return every
        own = [_named(module, every, name.strip()) for name in names.split(",")]
        return [handle for handle in own if handle is not None] or (every if names.replace(",", "").isdigit() else [])
    except Exception:
        return []


def _named(module: ModuleType, every: list[Any], name: str) -> Any:
    """The GPU of an index, of a UUID, or of a beginning of one, which CUDA takes too; None for no GPU's name."""
    if name.isdigit():
        return every[int(name)] if int(name) < len(every) else None
    with contextlib.suppress(Exception):
        return module.nvmlDeviceGetHandleByUUID(name)
    with contextlib.suppress(Exception):
        found = [handle for handle in every if _text(module.nvmlDeviceGetUUID(handle)).startswith(name)]
        return found[0] if len(found) == 1 else None
    return None


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
