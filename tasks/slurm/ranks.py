"""The ranks of a distributed function, as Slurm numbers them and torchrun names them. Standard library only.

srun starts the runner once a rank, so that every rank gets Slurm's signals; torchrun itself would die of them.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from tasks.slurm import files

PATIENCE_S = 120.0  # ranks begin within this of each other, imports and a slow disk included
NAMES = {
    "RANK": "SLURM_PROCID", "LOCAL_RANK": "SLURM_LOCALID", "WORLD_SIZE": "SLURM_NTASKS",
    "GROUP_RANK": "SLURM_NODEID", "LOCAL_WORLD_SIZE": "SLURM_NTASKS_PER_NODE",
}  # fmt: skip


def distributed() -> bool:
    """Whether the profile's stage says so."""
    return bool(os.environ.get("GATED_DISTRIBUTED"))


def own() -> int:
    """This process's number among those that srun started."""
    return int(os.environ.get("SLURM_PROCID") or 0)


def start() -> str:
    """This start of this Slurm job: its id, and how often it was requeued."""
    return f"{os.environ.get('SLURM_JOB_ID', '')}.{os.environ.get('SLURM_RESTART_COUNT', '0')}"


def environment() -> dict[str, str]:
    """What torchrun would set for this rank; nothing for a function in one process."""
    if not distributed():
        return {}
    return {name: os.environ[slurms] for name, slurms in NAMES.items() if slurms in os.environ}


def leader(folder: Path) -> str:
    """The first rank's incarnation of this very start; empty when it did not begin in time."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        files.refresh(folder)
        found = files.peek_json(folder / "incarnation.json") or {}
        if found.get("start") == start():
            return str(found["id"])
        time.sleep(0.2)
    return ""
