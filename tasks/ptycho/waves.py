"""The study's three waves: doses as one array; trainings and reconstructions as two; comparisons as inputs end.

One lost job costs its own cells and no other: its reason stands in the manifest, and the comparison of its cell shows
an empty arm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ptycho_core.comparison_matrix import (
    ComparisonJob,
    build_comparison_jobs,
    comparison_entry,
    write_comparison_manifest,
)
from ptycho_core.design import ALL
from ptycho_core.jobs.compare import Compared
from ptycho_core.jobs.reconstruct import Reconstructed
from ptycho_core.jobs.train import Trained
from ptycho_core.lsqml import INSTALL
from ptycho_core.manifests import bundle_result, empty_result, job_entry, write_training_manifest
from ptycho_core.matrix import TrainingJob, build_training_jobs
from ptycho_core.reconstruction_matrix import (
    ReconstructionJob,
    build_reconstruction_jobs,
    reconstruction_entry,
    write_reconstruction_manifest,
)
from study_core.files import sha256_of
from tasks.conditions import Condition, Skipped, ended
from tasks.dispatch import Cluster
from tasks.ptycho import steps
from tasks.ptycho.steps import Study

Skips = list[dict[str, Any]]
STATUS = {"done": "success", "lost": "failed", "skipped": "skipped"}
"""Words of the manifests."""


@dataclass
class Progress:
    """What became of the study's jobs."""

    lost: dict[str, str] = field(default_factory=dict)
    """Name of a job that has no result, and why in a line."""
    skips: Skips = field(default_factory=list)
    delivered: bool = False
    """Whether there is a bundle or a compared cell: a run without either did nothing."""

    def has(self, cluster: Cluster, one: Condition[Any]) -> bool:
        """Whether a job that ended left its result; its loss is told and named."""
        if one.state == "lost":
            self.lost[one.name] = one.reason
            cluster.run.event("cell", f"{one.name} lost: {one.reason}", cause=one.cause)
        return one.state == "done"


def generate(cluster: Cluster, study: Study, progress: Progress) -> None:
    """Simulate every dose, as one array; bring each into the hub as it ends."""
    doses = [
        Condition(steps.generation(study, dose), keep=partial(steps.place_generated, study))
        for dose in study.design.doses
    ]
    for one in ended(cluster, doses):
        if not progress.has(cluster, one):
            continue
        for skip in one.receipt.skips:
            where = f"dose {skip['dose']:g} {skip['view']} {skip['split']}"
            cluster.run.event("skip", f"skipped: {where}: {skip['reason']}", skip=skip)
        placed = study.layout.dose(one.receipt.dose).name
        cluster.run.event("placed", f"{one.name}: patterns and views in {placed}")


def train_and_reconstruct(cluster: Cluster, study: Study, progress: Progress) -> None:
    """Both arrays in one wave; as the last input of a cell ends, its comparison is sent."""
    trainings = {
        Condition(steps.training(study, one), keep=partial(steps.place_trained, one)): one
        for one in _training_jobs(study, progress)
    }
    solvers = _solvers(study)
    cells = _cells(study, trainings, solvers)
    _write_training(study, [], progress)
    for one in ended(cluster, [*trainings, *solvers, *cells]):
        found = progress.has(cluster, one)
        if one in trainings:
            _write_training(study, [_training_entry(study, trainings[one], one)], progress)
        elif one in solvers:
            entry = _solve_entry(study, solvers[one], one)
            write_reconstruction_manifest(study.layout, study.design, [entry], [], dry_run=False)
        progress.delivered |= found and one not in solvers
    skips = Skips()
    build_comparison_jobs(study.design, study.layout.hub, skip_events=skips)
    entries = [
        comparison_entry(job, study.layout, one.found, STATUS[one.state], one.reason or None)
        for one, job in cells.items()
    ]
    write_comparison_manifest(study.layout, study.design, entries, skips, dry_run=False)


def _training_jobs(study: Study, progress: Progress) -> list[TrainingJob]:
    arms: tuple[Any, ...] = ("pinn", "baseline") if study.plan.training.supervised else ("pinn",)
    return build_training_jobs(
        study.design, study.layout.hub, allow_missing=True, skip_events=progress.skips, arms=arms,
        seeds=study.design.seeds.training,
    )  # fmt: skip


def _solvers(study: Study) -> dict[Condition[Reconstructed], ReconstructionJob]:
    """The LSQML jobs; where pty-chi is missing each is skipped, its reason in the manifest."""
    fault = _lsqml_fault()
    jobs = build_reconstruction_jobs(study.design, study.layout.hub) if study.plan.iterative.run else []
    return {
        Condition(
            steps.reconstruction(study, one), keep=partial(steps.place_reconstructed, one),
            error=Skipped(fault) if fault else None,
        ): one
        for one in jobs
    }  # fmt: skip


def _lsqml_fault() -> str:
    """Why LSQML is not sent at all; what breaks on the node alone is that job's loss."""
    try:
        version("ptychi")
    except PackageNotFoundError:
        return f"pty-chi is not installed; {INSTALL}"
    return ""


def _cells(
    study: Study,
    trainings: Mapping[Condition[Trained], TrainingJob],
    solvers: Mapping[Condition[Reconstructed], ReconstructionJob],
) -> dict[Condition[Compared], ComparisonJob]:
    """Every cell with patterns; it waits for the networks of its view and of all positions, and for its own solver."""
    cells = {}
    for cell in build_comparison_jobs(study.design, study.layout.hub):
        after = [one for one, job in trainings.items() if job.dose == cell.dose and job.view in (cell.view, ALL)]
        own = [one for one, job in solvers.items() if (job.dose, job.view) == (cell.dose, cell.view)]
        ask, keep = partial(steps.comparison, study, cell), partial(steps.place_compared, cell)
        cells[Condition(ask, cell.name, keep=keep, after=[*after, *own])] = cell
    return cells


def _training_entry(study: Study, job: TrainingJob, one: Condition[Trained]) -> dict[str, Any]:
    if one.state != "done":
        return job_entry(job, study.layout, empty_result("failed", one.reason))
    bundle, done = job.artifact_dir / one.receipt.bundle.path.name, one.receipt
    return job_entry(job, study.layout, bundle_result(bundle, done.bundle.sha256, done.model_dump(), study.layout))


def _write_training(study: Study, entries: list[dict[str, Any]], progress: Progress) -> None:
    write_training_manifest(study.layout, study.design, entries, progress.skips, filters={}, dry_run=False)


def _solve_entry(study: Study, job: ReconstructionJob, one: Condition[Reconstructed]) -> dict[str, Any]:
    done = one.found
    return reconstruction_entry(
        job, study.layout, done.model_dump() if done else None, input_sha256=sha256_of(job.patterns),
        output=job.folder / done.reconstruction.path.name if done else None,
        output_sha256=done.reconstruction.sha256 if done else None,
        status=STATUS[one.state], error=one.reason or None,
    )  # fmt: skip
