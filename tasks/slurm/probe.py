"""A job that only looks around: what a profile's jobs find on their node. Standard library only."""

from __future__ import annotations

import os
import platform
import time
from typing import Any

from tasks.slurm.usage import gpu_handles, import_nvml


def probe(arguments: dict[str, Any], context: Any) -> dict[str, Any]:
    """Node, interpreter, GPUs and scratch folder of this job, after `seconds` (default 0).

    `cpus` is what was asked for, `affinity` how many cores this process may really use.
    """
    end = time.time() + float(arguments.get("seconds", 0.0))
    while time.time() < end and not context.should_stop():
        time.sleep(0.1)
    nvml = import_nvml()
    names = [nvml.nvmlDeviceGetName(handle) for handle in gpu_handles(nvml)] if nvml else []
    return {
        "node": os.environ.get("SLURMD_NODENAME") or platform.node(),
        "python": platform.python_version(),
        "affinity": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "cpus": int(os.environ.get("SLURM_CPUS_PER_TASK") or os.cpu_count() or 0),
        "gpus": names,
        "cuda_visible_devices": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        "scratch": os.environ.get("TMPDIR", ""),
        "ended": time.time(),
    }
