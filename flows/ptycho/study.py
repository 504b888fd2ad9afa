"""Dose and overlap in ptychography: simulate → train and reconstruct → compare as inputs end → judge."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from tasks import orphans, outcome
from tasks.dispatch import on_cluster
from tasks.ptycho import show, steps, waves
from tasks.ptycho.parameters import DoseOverlapPlan
from tasks.run import open_run


@flow(
    name="ptycho", flow_run_name=outcome.run_name("dose-overlap"), log_prints=True,
    on_crashed=[orphans.withdraw], on_cancellation=[orphans.withdraw],
)  # fmt: skip
@outcome.routed
def dose_overlap(plan: DoseOverlapPlan = DoseOverlapPlan()) -> State[Any]:
    """Compare networks and LSQML over dose and overlap: doses as one array, trainings and reconstructions as two, and
    each cell compared as its inputs end.

    *Completes* only when every gate passes in every cell. *Fails* as `GateFailed`, naming gates and cells; a lost job
    costs its own cells, every other is reported. A view that is too thin is skipped with its reason. Running it again
    with the same plan repeats nothing that is done.
    """
    where = plan.where
    run = open_run("ptycho", plan, label=plan.label)
    study = steps.open_study(plan)
    run.event("design", f"Study {study.design.sha256()[:12]} in {study.layout.hub}", design=study.design.to_dict())
    progress = waves.Progress()
    with on_cluster(run, where.profile, detach=where.detach, fresh=where.fresh) as cluster:
        waves.generate(cluster, study, progress)
        waves.train_and_reconstruct(cluster, study, progress)
    return show.conclude(run, study, progress)
