"""Panel QA: the audit of existing checkpoints, ranked. Judges, never ships."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from tasks import orphans, outcome
from tasks.denoise import inputs, show, steps
from tasks.denoise.parameters import PanelQAPlan
from tasks.dispatch import on_cluster
from tasks.run import open_run


@flow(
    name="panel-qa", flow_run_name=outcome.run_name("audit"), log_prints=True,
    on_crashed=[orphans.withdraw], on_cancellation=[orphans.withdraw],
)  # fmt: skip
@outcome.routed
def panel_qa(plan: PanelQAPlan) -> State[Any]:
    """Judge checkpoints on the fixed panel: every gate, every control, top-k ranked by composite score.

    Ends **Completed** when the best one passes every gate, **GateFailed** otherwise. Ships nothing.
    """
    where = plan.where
    run = open_run("panel-qa", plan, label=plan.label)
    data = inputs.verify_panel(plan.corpus, plan.panel.manifest, plan.panel.expected_hash, plan.training_manifest)
    checkpoints = inputs.checkpoints_of(plan.checkpoints, data.corpus)[: plan.top_k]
    with on_cluster(run, where.profile, detach=where.detach, fresh=where.fresh) as cluster:
        report = steps.audit(
            cluster, data, checkpoints, plan.gates, expected_hash=plan.panel.expected_hash,
            reference=plan.reference, device=where.device,
        )  # fmt: skip
    show.publish(run, data, None, report)
    if report.best.passed:
        return outcome.conclude(run, report.best.sentence())
    return outcome.refused(run, report.best)
