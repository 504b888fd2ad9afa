"""Act B: calibrator head + loss rebalance from the warm checkpoint → the same gates → ship, or Act C's report."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from flows.parameters import ActBPlan
from tasks import act_c, audit, denoise, orphans, outcome, promotion, showing, trigger
from tasks import denoise_jobs as jobs
from tasks.dispatch import job, on_cluster


@flow(
    name="act-b", flow_run_name=outcome.run_name("fallback"), log_prints=True,
    on_crashed=[orphans.withdraw], on_cancellation=[orphans.withdraw],
)  # fmt: skip
@outcome.routed
def act_b(plan: ActBPlan) -> State[Any]:
    """The fallback when Act of God fails a gate. Losses are rebalanced by what failed; the same gates decide.

    Stage 1 trains the calibrator head with the backbone frozen, stage 2 everything at a tenth of the rate. If the gates
    fail again nothing ships: **Act C** is a ranked report, production is untouched, and the run waits for a person.
    A second Act B for the same source run is refused.
    """
    plan = trigger.completed(plan)
    where = plan.where
    run = audit.open_run("act-b", plan, label=plan.label)
    trigger.link_source(run, plan.source_run)
    if (other := outcome.claim(run, plan.source_run)) is not None:
        return outcome.duplicate(run, f"Act B for {plan.source_run} is {other}")
    data = denoise.verify_panel(plan.corpus, plan.panel.manifest, plan.panel.expected_hash)
    seed = denoise.checkpoint_file(plan.checkpoint)
    base = denoise.recipe(plan.training.recipe, "act_of_god", where.profile, plan.training.changes)
    stages, multipliers = denoise.act_b_stages(base, plan.failed_gates)
    run.event("rebalance", f"Rebalanced for {', '.join(plan.failed_gates) or 'no gate'}", multipliers=multipliers)
    recipe = stages["act_b_stage2"]
    audit.publish_plan(run, recipe.model_dump(mode="json"), denoise.differences(recipe))
    audit.publish_table(run, "rebalance", multipliers, "What Act B changed, and for which failed gate")

    with on_cluster(run, where.profile, detach=where.detach, fresh=where.fresh) as cluster:
        checkpoint = seed
        for name, recipe in stages.items():
            spec = jobs.training_spec(
                name, recipe, data.corpus, data.training, data.panel, init=checkpoint, device=where.device
            )
            trained = jobs.trained(name, job(cluster, *cluster.send([spec])))
            checkpoint = trained.best
        spec = jobs.audit_spec(
            data, [*trained.top[: plan.top_k], seed], plan.gates, incumbent=promotion.production_model(),
            expected_hash=plan.panel.expected_hash, selected_on=data.panel.groups, device=where.device,
        )  # fmt: skip
        report = jobs.panel_report(job(cluster, *cluster.send([spec])))

    showing.publish(run, data, trained, report)
    if report.best.passed:
        return outcome.ship(run, report, plan.approval)
    act_c.report(run, report, source=plan.source_run)
    promotion.archive_failed(run, "act_b", report.best.sentence())
    return outcome.refused(run, report.best)
