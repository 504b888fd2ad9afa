"""Count → judge in the flow → ship or refuse."""

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from pydantic import Field
from toy_core.jobs.count import Count, count
from toy_core.judging import Gates, judged

from study_core.files import write_json
from study_core.job import Content
from study_core.verdict import Verdict, changed_thresholds
from tasks import blessings, channels, comparison, orphans, outcome
from tasks.bundle import write_bundle
from tasks.channels import Line
from tasks.dispatch import on_cluster
from tasks.parameters import Approval, Common, Production
from tasks.run import open_run

PANEL = "none"


class ToyPlan(Common):
    text: str = ""
    gates: Gates = Field(default_factory=Gates)
    production: Production = Field(default_factory=Production)
    approval: Approval = Field(default_factory=Approval)


@flow(name="toy", on_crashed=[orphans.withdraw], on_cancellation=[orphans.withdraw])
@outcome.routed
def toy(plan: ToyPlan = ToyPlan()) -> State[Any]:
    """Ship the counts of a text that has enough words."""
    run = channels.settled(open_run("toy", plan), Line("", "", PANEL))
    with on_cluster(run, plan.where.profile) as cluster:
        text = Content.of(Path(plan.text))
        done = cluster.ask(count, Count(text=text), name="count", stage="count")
    gates = judged(done.measures, plan.gates)
    words = next(row.value for row in done.measures if row.metric == "words")
    verdict = Verdict(
        candidate=str(done.model.path), candidate_sha256=done.model.sha256, panel_sha256=PANEL, score=words,
        gates=gates, judge="toy_core.judging:replay", changed_thresholds=changed_thresholds(plan.gates, Gates()),
    )  # fmt: skip
    now = blessings.production(run.registry, run.channel)
    incumbent = now.verdict if now else None
    verdict = comparison.beside(verdict, incumbent, plan.production.margin, other_data=run.channel_named)
    write_json(run.folder / "measures.json", [row.model_dump(mode="json") for row in done.measures])
    write_json(run.folder / "verdict.json", verdict.model_dump(mode="json"))
    write_bundle(run.folder, {}, run.folder / "auditors_bundle.zip")
    if not comparison.own_gates_passed(verdict):
        return outcome.refused(run, verdict)
    return outcome.ship(run, verdict, incumbent, plan.production, plan.approval)
