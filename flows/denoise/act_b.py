"""Act B: calibrator head + loss rebalance from the warm checkpoint → the same gates → ship, or Act C's report."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from tasks import artifacts, channels, comparison, orphans, outcome, trigger
from tasks.denoise import act_c, fallback, inputs, show, steps
from tasks.denoise.parameters import ActBPlan
from tasks.dispatch import on_cluster
from tasks.run import open_run


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
    plan = fallback.completed(plan)
    where = plan.where
    run = open_run("act-b", plan, tenant=inputs.TENANT, label=plan.label)
    trigger.link_source(run, plan.source_run)
    if (other := outcome.claim(run, plan.source_run)) is not None:
        return outcome.duplicate(run, f"Act B for {plan.source_run} is {other}")
    data = inputs.verify_panel(plan.corpus, plan.panel.manifest, plan.panel.expected_hash)
    run = channels.settled(run, data.line)
    inputs.incumbent(run, data.corpus)  # one of another grid is refused now, not after the training
    seed = inputs.checkpoint_file(plan.checkpoint, data.corpus)
    base = inputs.recipe(plan.training.recipe, "act_of_god", where.profile, plan.training.changes, data.corpus)
    stages, multipliers = inputs.act_b_stages(base, plan.failed_gates)
    run.event("rebalance", f"Rebalanced for {', '.join(plan.failed_gates) or 'no gate'}", multipliers=multipliers)
    recipe = stages["act_b_stage2"]
    artifacts.publish_plan(run, recipe.model_dump(mode="json"), inputs.differences(recipe))
    artifacts.publish_table(run, "rebalance", multipliers, "What Act B changed, and for which failed gate")

    with on_cluster(run, where.profile, detach=where.detach, fresh=where.fresh) as cluster:
        checkpoint = seed
        for name, recipe in stages.items():
            asked = steps.training(
                name, recipe, data.corpus, data.training, data.panel, init=checkpoint, device=where.device
            )
            trained = steps.trained(cluster, asked)
            checkpoint = trained.best.path
        report = steps.audit(
            cluster, data, [*(content.path for content in trained.top[: plan.top_k]), seed], plan.gates,
            incumbent=inputs.incumbent(run, data.corpus), margin=plan.production.margin,
            expected_hash=plan.panel.expected_hash,
            selected_on=data.panel.groups, device=where.device,
        )  # fmt: skip

    shown = show.publish(run, data, trained, report)
    if comparison.own_gates_passed(report.best):
        return outcome.ship(run, report.best, report.incumbent, plan.production, plan.approval, shown.again)
    act_c.report(run, report, source=plan.source_run)
    fallback.archive(run, "act_b", report.best.sentence())
    return outcome.refused(run, report.best)
