"""Many texts: counted as one array, the counts of each counted as it ends, then one text that waits for all."""

from functools import partial
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from toy_core.jobs.count import Count, Counted, count

from study_core.errors import BadInput
from study_core.files import write_json
from study_core.job import Content
from tasks import outcome
from tasks.conditions import Condition, Skipped, ended
from tasks.dispatch import Ask, on_cluster
from tasks.parameters import Common
from tasks.run import open_run


class EachPlan(Common):
    texts: tuple[str, ...] = ()
    spoilt: tuple[str, ...] = ()  # names of texts that are not what they were when their job reads them
    unwanted: tuple[str, ...] = ()  # whose counts nobody can keep
    unasked: tuple[str, ...] = ()


def asked(text: Content, name: str) -> Ask[Counted]:
    return Ask(count, Count(text=text), name, "count")


@flow(name="toy")
@outcome.routed
def each(plan: EachPlan = EachPlan()) -> State[Any]:
    """How each condition ended, in the order of their ends."""
    run = open_run("toy-each", plan)

    def keep(name: str, done: Counted) -> None:
        if name in plan.unwanted:
            raise BadInput("nobody wants this", file=done.model.path)

    counts, again = [], []
    for path in map(Path, plan.texts):
        text = Content(path=path, sha256="0" * 64) if path.stem in plan.spoilt else Content.of(path)
        error = Skipped("nobody asks for it") if path.stem in plan.unasked else None
        one = Condition(asked(text, f"count-{path.stem}"), keep=partial(keep, path.stem), error=error)

        def follow_up(one: Condition[Counted] = one) -> Ask[Counted]:
            return asked(Content.of(one.receipt.model.path / "counts.json"), f"again-{one.name}")

        counts.append(one)
        again.append(Condition(follow_up, f"again {path.stem}", needs=[one]))
    last = Condition(lambda: asked(Content.of(Path(plan.texts[0])), "last"), "last", after=counts)
    with on_cluster(run, plan.where.profile) as cluster:
        ends = [(one.name, one.state, one.reason) for one in ended(cluster, [last, *again, *counts])]
    write_json(run.folder / "ends.json", ends)
    return outcome.conclude(run, f"{len(ends)} ended")
