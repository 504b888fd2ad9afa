"""The scheduler as the dispatcher sees it: order, look, ask the accounting, cancel. Slurm and a laptop both fit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Protocol

from tasks.slurm.entries import Submission
from tasks.slurm.states import Row


class Reply(Enum):
    """What an attempt to submit came to."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"  # the request itself is wrong; the same text will be refused again
    LATER = "later"  # a limit of the site; the same text may be accepted later
    DOUBTFUL = "doubtful"  # accepted or not: nobody knows yet


@dataclass(frozen=True)
class Answer:
    """Reply to an order, with the id (accepted) or the scheduler's own words.

    `gist` is the line that decided. `everybody`: the limit holds back every job of the user. Not `sure`: beside the
    refusal stands a lost answer, so the job is looked for first.
    """

    reply: Reply
    slurm_id: str = ""
    text: str = ""
    gist: str = ""
    everybody: bool = False
    sure: bool = True


@dataclass(frozen=True)
class View:
    """The queue as it was at `at`. `whole` False: some lines could not be read, so absence proves nothing."""

    at: float
    rows: dict[str, Row]
    whole: bool = True
    bases: dict[str, set[str]] = field(default_factory=dict)  # job name -> ids, of arrays without their tasks

    @classmethod
    def of(cls, at: float, rows: dict[str, Row], whole: bool = True) -> View:
        """A view with its index of names."""
        bases: dict[str, set[str]] = {}
        for row in rows.values():
            bases.setdefault(row.name, set()).add(row.id.partition("_")[0])
        return cls(at, rows, whole, bases)


@dataclass(frozen=True)
class Memory:
    """What the accounting knows about one id or name. `at` is None until it answered; `absent`: the site has none.

    `siblings`: names of other jobs under the same base id, as of the members of the same array.
    """

    rows: tuple[Row, ...] = ()
    at: float | None = None
    absent: bool = False
    siblings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Controller:
    """What the scheduler says of itself: since when it has run, and how long the queue still shows ended jobs."""

    began: float
    keeps_s: float


class Scheduler(Protocol):
    """Everything the dispatcher asks of a scheduler. No method raises for a scheduler that is down."""

    def order(self, submission: Submission, environment: dict[str, str], lock: int) -> Answer:
        """Submit the script of a journalled submission; whoever runs it inherits the descriptor `lock`."""

    def recall(self, submission: Submission) -> Answer | None:
        """Answer left behind by an order whose caller died; None when there is none on disk."""

    def view(self, submissions: Iterable[Submission]) -> View | None:
        """The newest view of the queue; None when none could be had yet."""

    def remember(self, what: Sequence[str], since: float) -> dict[str, Memory]:
        """Ask the accounting about ids and names."""

    def cancel(self, ids: Sequence[str]) -> None:
        """End jobs, waiting or running; unknown ids are ignored."""

    def release(self, slurm_id: str) -> None:
        """Let a waiting job start that the scheduler holds after a failed launch."""

    def exclude(self, slurm_id: str, nodes: Sequence[str]) -> bool:
        """Keep a waiting job away from exactly these nodes; whether it could be done."""

    def controller(self) -> Controller | None:
        """Asked anew each time; None where it cannot be told."""

    def cluster(self) -> str:
        """Name of the cluster that answers here; empty where it cannot be told, or there is none."""

    def max_array_size(self) -> int:
        """Most tasks of one array."""

    def log(self, submission: Submission, index: int, slurm_id: str) -> Path:
        """File with the output of one member."""
