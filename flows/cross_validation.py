"""Five-fold cross-validation: folds as one array → denoise train/val/test of each as it ends → the summary."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from flows.parameters import CrossValidationPlan
from tasks import audit, campaign, campaign_review, denoise, orphans, outcome
from tasks.dispatch import on_cluster


@flow(
    name="cross-validation", flow_run_name=outcome.run_name("five-fold"), log_prints=True,
    on_crashed=[orphans.withdraw], on_cancellation=[orphans.withdraw],
)  # fmt: skip
@outcome.routed
def cross_validation(plan: CrossValidationPlan) -> State[Any]:
    """Train, denoise and summarise each fold (3 samples a treatment to train, 1 to validate, 1 to test).

    A failed fold does not stop the others: the run then ends **Failed** with a table of which and why. Running it again
    finishes what is missing and repeats nothing. Shipping the best fold is not offered: it leaves a fifth of the data
    unused and is not representative.
    """
    where = plan.where
    run = audit.open_run("cross-validation", plan, label=plan.label)
    recipe = denoise.recipe(plan.training.recipe, "track_h", where.profile, campaign.changes(plan))
    audit.publish_plan(run, recipe.model_dump(mode="json"), denoise.differences(recipe))
    folds = campaign.prepare(run, recipe, plan)
    with on_cluster(run, where.profile, detach=where.detach, fresh=where.fresh or not plan.skip_existing) as cluster:
        for fold in campaign.trained(cluster, folds):
            campaign.denoise(cluster, fold, plan)
        campaign.finish(cluster, folds)
        earlier = campaign.earlier(cluster, recipe, plan)
    return campaign_review.summarise(run, folds, earlier)
