"""Five-fold cross-validation: folds as one array → denoise train/val/test of each as it ends → the summary."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from tasks import artifacts, orphans, outcome
from tasks.denoise import folds, inputs, review
from tasks.denoise.parameters import CrossValidationPlan
from tasks.dispatch import on_cluster
from tasks.run import open_run


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
    run = open_run("cross-validation", plan, label=plan.label)
    corpus = inputs.corpus_at(plan.corpus)
    recipe = inputs.recipe(plan.training.recipe, "track_h", where.profile, folds.changes(plan), corpus)
    artifacts.publish_plan(run, recipe.model_dump(mode="json"), inputs.differences(recipe))
    asked = folds.prepare(run, recipe, plan, corpus)
    with on_cluster(run, where.profile, detach=where.detach, fresh=where.fresh or not plan.skip_existing) as cluster:
        folds.carry_out(cluster, asked, plan)
        earlier = folds.earlier(cluster, recipe, plan, corpus)
    return review.summarise(run, asked, earlier)
