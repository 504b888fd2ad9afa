"""Act of God: warm start → train on everything but the panel → panel QA → ship, or Failed and Act B."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from tasks import artifacts, channels, comparison, orphans, outcome
from tasks.denoise import fallback, inputs, show, steps, warm_start
from tasks.denoise.parameters import WarmStartPlan
from tasks.dispatch import on_cluster
from tasks.run import open_run


@flow(
    name="act-of-god", flow_run_name=outcome.run_name("warm-start"), log_prints=True,
    on_crashed=[orphans.withdraw], on_cancellation=[orphans.withdraw],
)  # fmt: skip
@outcome.routed
def act_of_god(plan: WarmStartPlan = WarmStartPlan()) -> State[Any]:
    """Warm-start from fold 02, train on all but the panel, judge by the gates; ship, or end **Failed** and start Act B.

    *Ships* only when every readiness gate passes on the fixed panel and the model now in production is no better there.
    *Fails* as `GateFailed`, naming the gates: diagnostics archived as `god_run_failed_YYYYMMDD`, Act B started.
    Running it again with the same plan re-attaches to what is running and reuses what is done.
    """
    where = plan.where
    run = open_run("act-of-god", plan, tenant=inputs.TENANT, label=plan.label)
    data = inputs.verify_panel(plan.corpus, plan.panel.manifest, plan.panel.expected_hash)
    run = channels.settled(run, data.line)
    inputs.incumbent(run, data.corpus)  # one of another grid is refused now, not after the training
    recipe = inputs.recipe(plan.training.recipe, "act_of_god", where.profile, plan.training.changes, data.corpus)
    inside = inputs.inside(data, plan.epoch_chosen_on, plan.start.fold)
    artifacts.publish_plan(run, recipe.model_dump(mode="json"), inputs.differences(recipe))

    with on_cluster(run, where.profile, detach=where.detach, fresh=where.fresh) as cluster:
        done = warm_start.carry_out(cluster, plan, data, recipe, inside)
        trained = done.trained
        own_filter = inputs.own_filter(trained.best.path) if done.unresolved == "filter" else None
        report = steps.audit(
            cluster, data, [content.path for content in trained.top[: plan.top_k]], plan.gates,
            incumbent=inputs.incumbent(run, data.corpus), margin=plan.production.margin, own_filter=own_filter,
            expected_hash=plan.panel.expected_hash,
            selected_on=(inside.chosen_on if inside else data.panel).groups, device=where.device,
            started_on=inputs.started_on(plan.start.checkpoint, plan.start.fold, data.corpus), unseen=done.unseen,
        )  # fmt: skip

    shown = show.publish(run, data, trained, report)
    if comparison.own_gates_passed(report.best):
        return outcome.ship(run, report.best, report.incumbent, plan.production, plan.approval, shown.again)
    fallback.archive(run, "god_run", report.best.sentence())
    fallback.start(run, plan)
    return outcome.refused(run, report.best)
