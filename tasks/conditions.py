"""Jobs that hang together: folds, doses and views, layers. Arrays; follow-ups as their inputs end; one loss costs one.

stored = Condition(embedding)
trained = Condition(lambda: training(stored.receipt.store), "train", needs=[stored])
for one in ended(cluster, [stored, trained]):
    print(one.name, one.state, one.reason)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Generic, Literal, TypeVar

from study_core.errors import BadInput
from study_core.job import Receipt
from tasks.dispatch import Ask, Cluster, Future, JobLost
from tasks.slurm.dispatcher import Job

R = TypeVar("R", bound=Receipt)


class Skipped(Exception):
    """A condition is not asked for; why, in a line."""


@dataclass(eq=False)
class Condition(Generic[R]):
    """One job of a set, and what became of it."""

    ask: Ask[R] | Callable[[], Ask[R]]  # the question, or what puts it once all that it waits for has ended
    name: str = ""  # until it is put
    keep: Callable[[R], object] = lambda receipt: None  # brings its files home; BadInput or OSError: lost after all
    needs: Sequence[Condition[Any]] = ()  # without the receipt of each it is skipped
    after: Sequence[Condition[Any]] = ()  # it waits for these, however they end
    inside: Condition[Any] | None = None  # whose allocation it may share, where the profile says so
    begun: Callable[[bool], object] = lambda reused: None  # told once it is in the queue, or was done before
    error: Exception | None = None  # why it has no receipt; `Skipped` from the start: it is not asked for
    job: Job | None = None
    found: R | None = None

    def __post_init__(self) -> None:
        self.name = self.ask.name if isinstance(self.ask, Ask) else self.name

    @property
    def state(self) -> Literal["", "done", "lost", "skipped"]:
        """How it ended; empty before that."""
        if self.error is not None:
            return "skipped" if isinstance(self.error, Skipped) else "lost"
        return "done" if self.found is not None else ""

    @property
    def reason(self) -> str:
        """Why there is no receipt, in a line."""
        return self.error.line if isinstance(self.error, JobLost) else str(self.error or "")

    @property
    def cause(self) -> str:
        """The reason in a word."""
        return self.error.outcome.cause if isinstance(self.error, JobLost) else "unusable" if self.error else ""

    @property
    def receipt(self) -> R:
        """What it left. Raises what it was lost by."""
        if self.found is None:
            raise self.error or LookupError(f"{self.name} has not ended")
        return self.found


def ended(cluster: Cluster, conditions: Sequence[Condition[Any]]) -> Iterator[Condition[Any]]:
    """Send every condition as soon as nothing it waits for is left; yield each as it ends: done, lost or skipped.

    Those that are ready together travel as one array a stage. What the caller does with one that is yielded is done
    before its follow-ups are asked for. An error of another kind than a loss stays loud.

    Raises:
        ValueError: some wait for one another, or for a condition that is not among them.
    """
    waiting, open_ = list(conditions), set(conditions)  # an end is one once the caller is through with it
    under_way: dict[Future, tuple[Condition[Any], Ask[Any]]] = {}
    ends: SimpleQueue[Future] = SimpleQueue()
    while waiting or under_way:
        ready = [
            one for one in waiting if all(before.state and before not in open_ for before in (*one.needs, *one.after))
        ]
        waiting = [one for one in waiting if one not in ready]
        asks = {one: asked for one in ready if (asked := _put(cluster, one)) is not None}
        for host in dict.fromkeys(one.inside for one in asks):
            group = [one for one in asks if one.inside is host]
            jobs = cluster.send([asks[one] for one in group], array=True, inside=host.job if host else None)
            for one, sent in zip(group, jobs, strict=True):
                one.job = sent
                one.begun(sent.key in cluster.reused)
                future = cluster.begin(sent)
                under_way[future] = one, asks[one]
                future.add_done_callback(ends.put)
        if unasked := [one for one in ready if one not in asks]:
            for one in unasked:
                yield one
                open_.discard(one)
            continue  # they may be all that others waited for
        if not under_way:
            raise ValueError(f"waiting for what never ends: {', '.join(one.name for one in waiting)}")
        for future in [ends.get(), *(ends.get() for _ in range(ends.qsize()))]:
            one, asked = under_way.pop(future)
            _receive(cluster, one, asked, future)
            yield one
            open_.discard(one)


def receipts(conditions: Sequence[Condition[R]]) -> tuple[R, ...]:
    """What each left, in their order. Raises what the first was lost by: what was skipped follows from that."""
    lost = [one for one in conditions if one.state == "lost"]
    return tuple(one.receipt for one in (*lost, *conditions))


def _put(cluster: Cluster, one: Condition[R]) -> Ask[R] | None:
    """Its question; None, and the reason noted, where there is none."""
    try:
        for need in one.needs:
            if need.state != "done":
                raise Skipped(f"it needs {need.name}, which was {need.state}")
        if one.error is not None:
            raise one.error
        asked = one.ask if isinstance(one.ask, Ask) else one.ask()
    except (Skipped, BadInput, OSError) as error:
        _note(cluster, one, error)
        return None
    one.name = asked.name
    return asked


def _receive(cluster: Cluster, one: Condition[R], asked: Ask[R], future: Future) -> None:
    try:
        result = future.result()
    except JobLost as lost:  # is in the log already
        one.error = lost
        return
    try:
        receipt = asked.receipt(result)
        one.keep(receipt)
        one.found = receipt
    except (BadInput, OSError) as error:
        _note(cluster, one, error)


def _note(cluster: Cluster, one: Condition[Any], error: Exception) -> None:
    one.error = error
    cluster.run.event("skip" if one.state == "skipped" else "lost", f"{one.name} {one.state}: {one.reason}")
