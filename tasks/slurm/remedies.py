"""Cause -> what to do next, as one table. Each row is applied at most `limit` times to a job, and audited.

- time limit, preemption, requeue: run again; the job resumes from its own checkpoint
- node failure, killed, lost: run again; a node is left out after its second failure
- out of memory (host or CUDA): batch halved, accumulation doubled, at most three times
- a disk that is full, or fails: run again
- NaN loss: half the rate and gradient clipping, once
- a bug, a cancellation, a refusal: no retry
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Remedy:
    """One row: how often, what changes in the job, whether the node is to blame."""

    action: str
    limit: int
    family: str = ""  # causes that share one count
    halve_batch: bool = False
    lr_factor: float = 1.0
    grad_clip: float | None = None
    blames_node: bool = False


TABLE: dict[str, Remedy] = {
    "interrupted": Remedy("resume from checkpoint", limit=100),
    "preempted": Remedy("resume from checkpoint", limit=100),
    "time_limit": Remedy("resume from checkpoint", limit=20),
    "overran": Remedy("resume from the last checkpoint", limit=2),  # ended at the limit without stopping in order
    "node_fail": Remedy("run again on another node", limit=5, blames_node=True),
    "launch_failed": Remedy("run again on another node", limit=3, blames_node=True),
    "killed": Remedy("run again", limit=2, blames_node=True),
    "disk_full": Remedy("run again", limit=3),
    "disk_error": Remedy("run again on another node", limit=2, blames_node=True),
    "vanished": Remedy("run again", limit=3),
    "lost_result": Remedy("run again", limit=1),
    "dependency": Remedy("wait for the repaired dependency", limit=10),
    "oom": Remedy("halve the batch", limit=3, family="memory", halve_batch=True),
    "cuda_oom": Remedy("halve the batch", limit=3, family="memory", halve_batch=True),
    "nan_loss": Remedy("halve the rate, clip gradients", limit=1, lr_factor=0.5, grad_clip=1.0),
}
# a disk's own errors, raised by whatever reads or writes: no bug of the job's, whose next run may fare better
_DISKS = {
    errno.ENOSPC: "disk_full", errno.EDQUOT: "disk_full", errno.EIO: "disk_error", errno.ESTALE: "disk_error",
    errno.EREMOTEIO: "disk_error", errno.ENOTCONN: "disk_error",
}  # fmt: skip
NO_RETRY = ("exception", "cancelled", "rejected", "code_changed", "deadline")

NODE_FAILURES_BEFORE_EXCLUSION = 2


@dataclass(frozen=True)
class Adjustments:
    """What the remedies so far ask of the job function (`context.adjustments`)."""

    batch_halvings: int = 0
    lr_factor: float = 1.0
    grad_clip: float | None = None

    def after(self, remedy: Remedy) -> Adjustments:
        """These adjustments with one more remedy on top."""
        return Adjustments(
            batch_halvings=self.batch_halvings + int(remedy.halve_batch),
            lr_factor=self.lr_factor * remedy.lr_factor,
            grad_clip=remedy.grad_clip if remedy.grad_clip is not None else self.grad_clip,
        )

    def to_json(self) -> dict[str, Any]:
        """As the job function sees them."""
        return {"batch_halvings": self.batch_halvings, "lr_factor": self.lr_factor, "grad_clip": self.grad_clip}


@dataclass(frozen=True)
class Decision:
    """The next attempt: its remedy's name, its adjustments, and the nodes it must not run on."""

    action: str
    adjustments: Adjustments
    exclude: tuple[str, ...] = field(default=())


def decide(causes: Sequence[tuple[str, str]], adjustments: Adjustments) -> Decision | None:
    """What to do after the last of `causes`, each (cause, node), oldest first. None: give up.

    The count runs over the whole history, so a dispatcher that was killed in between decides the same again.
    """
    cause = causes[-1][0]
    remedy = TABLE.get(cause)
    if remedy is None:
        return None
    family = remedy.family or cause
    used = sum(1 for past, _ in causes[:-1] if _family(past) == family)
    if used >= remedy.limit:
        return None
    return Decision(remedy.action, adjustments.after(remedy), excluded_nodes(causes))


def excluded_nodes(causes: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Nodes that failed at least twice, in order of their name."""
    failures: dict[str, int] = {}
    for cause, node in causes:
        if node and cause in TABLE and TABLE[cause].blames_node:
            failures[node] = failures.get(node, 0) + 1
    return tuple(sorted(node for node, count in failures.items() if count >= NODE_FAILURES_BEFORE_EXCLUSION))


def _family(cause: str) -> str:
    remedy = TABLE.get(cause)
    return (remedy.family or cause) if remedy else cause


def cause_of(error: BaseException) -> str:
    """Cause of an exception: its own `job_cause` (or that of what it was raised from), memory, else "exception"."""
    seen: BaseException | None = error
    while seen is not None:
        declared = getattr(seen, "job_cause", None)
        if declared in TABLE or declared in NO_RETRY:
            return str(declared)
        if isinstance(seen, MemoryError):
            return "oom"
        if isinstance(seen, OSError) and seen.errno in _DISKS:
            return _DISKS[seen.errno]
        if type(seen).__name__ == "OutOfMemoryError" or "CUDA out of memory" in text_of(seen):
            return "cuda_oom"
        seen = seen.__cause__ or seen.__context__
    return "exception"


def text_of(error: BaseException) -> str:
    """Its text; an exception whose own `__str__` fails has none."""
    try:
        return str(error)
    except Exception:
        return ""
