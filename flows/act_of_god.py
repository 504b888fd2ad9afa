"""Act of God: warm start → train on everything but the panel → panel QA → ship, or Failed and Act B."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from flows.parameters import WarmStartPlan
from tasks import audit, denoise, orphans, outcome, promotion, showing, trigger
from tasks import denoise_jobs as jobs
from tasks.dispatch import job, on_cluster


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
    run = audit.open_run("act-of-god", plan, label=plan.label)
    data = denoise.verify_panel(plan.corpus, plan.panel.manifest, plan.panel.expected_hash)
    recipe = denoise.recipe(plan.training.recipe, "act_of_god", where.profile, plan.training.changes)
    audit.publish_plan(run, recipe.model_dump(mode="json"), denoise.differences(recipe))

    with on_cluster(run, where.profile, detach=where.detach, fresh=where.fresh) as cluster:
        start = plan.start
        checkpoint = denoise.existing_start(run, start.checkpoint, start.fold, data.corpus)
        if checkpoint is None:
            fold_recipe = denoise.recipe(start.training.recipe, "track_h", where.profile, start.training.changes)
            spec, _ = jobs.fold_spec(start.fold, fold_recipe, plan.corpus, where.device)
            checkpoint = jobs.trained("fold", job(cluster, *cluster.send([spec]))).best
        denoise.record_start(run, checkpoint)

        spec = jobs.training_spec(
            "god_run", recipe, data.corpus, data.training, data.panel, init=checkpoint, device=where.device
        )
        trained = jobs.trained("god_run", job(cluster, *cluster.send([spec])))
        spec = jobs.audit_spec(
            data, trained.top[: plan.top_k], plan.gates, incumbent=promotion.production_model(),
            expected_hash=plan.panel.expected_hash, selected_on=data.panel.groups, device=where.device,
            unseen=denoise.unseen_of(start.checkpoint, start.fold, plan.corpus, checkpoint),
        )  # fmt: skip
        report = jobs.panel_report(job(cluster, *cluster.send([spec])))

    showing.publish(run, data, trained, report)
    if report.best.passed:
        return outcome.ship(run, report, plan.approval)
    promotion.archive_failed(run, "god_run", report.best.sentence())
    trigger.act_b(run, plan.model_dump(mode="json"), checkpoint=report.best.candidate, failed=report.best.failed_gates)
    return outcome.refused(run, report.best)
