"""Whose cluster a root's live jobs are in.

Another cluster, asked about them (a shell with another SLURM_CONF), knows none of them: each would be called lost and
run again beside itself, and its number, cancelled there, may be somebody else's job.
"""

from __future__ import annotations

import contextlib

from study_core.errors import BadInput
from tasks.slurm import files
from tasks.slurm.journal import Journal
from tasks.slurm.scheduler import Scheduler

RECORD = "cluster.json"


def verify(journal: Journal, scheduler: Scheduler, executor: str) -> None:
    """Take the root for the scheduler's cluster, unless jobs of another one are live in it.

    A scheduler that cannot name its cluster now (its controller is away, or it is this machine) is let pass.

    Raises:
        BadInput: they are; names both clusters and the jobs.
    """
    own, path = scheduler.cluster(), journal.root / RECORD
    known = (files.peek_json(path) or {}).get("name", own)
    if not own or (known == own and path.exists()):
        return
    if known != own and (live := [one for one in journal.live() if one.executor == executor and one.attempt.token]):
        names = ", ".join(sorted({one.spec["name"] for one in live})[:5]) + (" …" if len(live) > 5 else "")
        raise BadInput(
            f"{journal.root}: {len(live)} live jobs ({names}) are in the cluster {known}, and this shell asks {own}",
            remedy=f"go back to the SLURM_CONF of {known}, or give {own} a folder of its own: GATED_ARTIFACTS",
        )
    with contextlib.suppress(OSError):  # a disk in trouble: at the next call
        files.write_json(path, {"name": own})
