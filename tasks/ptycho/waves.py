"""The study's three waves: doses as one array; trainings and reconstructions as two; comparisons as inputs end.

One lost job costs its own cells and no other: its reason stands in the manifest, and the comparison of its cell shows
an empty arm.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

from prefect.futures import PrefectFuture, as_completed

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
from study_core.errors import BadInput
from study_core.files import sha256_of
from study_core.job import Receipt
from tasks.dispatch import Ask, Cluster, JobLost, job
from tasks.ptycho import steps
from tasks.ptycho.steps import Study

R = TypeVar("R", bound=Receipt)
Skips = list[dict[str, Any]]


@dataclass
class Progress:
    """What became of the study's jobs."""

    lost: dict[str, str] = field(default_factory=dict)
    """Name of a job that has no result, and why in a line."""
    skips: Skips = field(default_factory=list)
    bundles: int = 0
    cells: int = 0

    @property
    def delivered(self) -> bool:
        """Whether there is a bundle or a compared cell: a run without either did nothing."""
        return bool(self.bundles or self.cells)


@dataclass
class Cell:
    """A cell and the names of the jobs whose ends it waits for."""

    job: ComparisonJob
    waits: set[str]
    future: PrefectFuture[dict[str, Any]] | None = None
    asked: Ask[Compared] | None = None


def generate(cluster: Cluster, study: Study, progress: Progress) -> None:
    """Simulate every dose, as one array; bring each into the hub as it ends."""
    asks = [steps.generation(study, dose) for dose in study.design.doses]
    for future, ask in _ended(_sent(cluster, asks)):
        receipt = _outcome(cluster, ask, future, progress)
        if receipt is None:
            continue
        steps.place_generated(study, receipt)
        for skip in receipt.skips:
            where = f"dose {skip['dose']:g} {skip['view']} {skip['split']}"
            cluster.run.event("skip", f"skipped: {where}: {skip['reason']}", skip=skip)
        cluster.run.event("placed", f"{ask.name}: patterns and views in {study.layout.dose(receipt.dose).name}")


def train_and_reconstruct(cluster: Cluster, study: Study, progress: Progress) -> None:
    """Both arrays in one wave; as the last input of a cell ends, its comparison is sent."""
    trainings = [(steps.training(study, one), one) for one in _training_jobs(study, progress)]
    solvers = _solvers(study)
    _write_training(study, [], progress)
    cells = _cells(study, trainings, solvers)
    trained = _sent(cluster, [ask for ask, _ in trainings])
    solved = _sent(cluster, [ask for ask, _ in solvers])
    of_training = {ask.name: one for ask, one in trainings}
    of_solver = {ask.name: one for ask, one in solvers}
    both: dict[PrefectFuture[dict[str, Any]], Ask[Any]] = {**trained, **solved}
    for future, ask in _ended(both):
        receipt = _outcome(cluster, ask, future, progress)
        if ask.name in of_training:
            _end_training(study, of_training[ask.name], receipt, progress, ask.name)
        else:
            _end_solving(study, of_solver[ask.name], receipt, progress, ask.name)
        for cell in cells:
            cell.waits.discard(ask.name)
        compare_ready(cluster, study, cells)
    compare_ready(cluster, study, cells)
    finish(cluster, study, cells, progress)


def compare_ready(cluster: Cluster, study: Study, cells: Sequence[Cell]) -> None:
    """Send the comparison of each cell that waits for nothing any more."""
    for cell in cells:
        if not cell.waits and cell.future is None:
            cell.asked = steps.comparison(study, cell.job)
            (handle,) = cluster.send([cell.asked])
            cell.future = job.submit(cluster, handle)


def finish(cluster: Cluster, study: Study, cells: Sequence[Cell], progress: Progress) -> None:
    """Bring every comparison into the hub and write its manifest."""
    entries, skips = [], Skips()
    build_comparison_jobs(study.design, study.layout.hub, skip_events=skips)
    for cell in cells:
        assert cell.future is not None
        assert cell.asked is not None
        done = _outcome(cluster, cell.asked, cell.future, progress)
        if done is not None:
            try:
                steps.place_compared(cell.job, done)
            except BadInput as error:
                progress.lost[cell.asked.name], done = str(error), None
        if done is None:
            entries.append(comparison_entry(cell.job, study.layout, None, "failed", progress.lost[cell.asked.name]))
        else:
            entries.append(comparison_entry(cell.job, study.layout, done, "success"))
            progress.cells += 1
    write_comparison_manifest(study.layout, study.design, entries, skips, dry_run=False)


def _training_jobs(study: Study, progress: Progress) -> list[TrainingJob]:
    arms: tuple[Any, ...] = ("pinn", "baseline") if study.plan.training.supervised else ("pinn",)
    return build_training_jobs(
        study.design, study.layout.hub, allow_missing=True, skip_events=progress.skips, arms=arms,
        seeds=study.design.seeds.training,
    )  # fmt: skip


def _solvers(study: Study) -> list[tuple[Ask[Reconstructed], ReconstructionJob]]:
    """The LSQML jobs to send; where pty-chi is missing none, and each cell's reason in the manifest."""
    if not study.plan.iterative.run:
        return []
    jobs, fault = build_reconstruction_jobs(study.design, study.layout.hub), _lsqml_fault()
    if fault:
        unsent = [_solve_entry(study, one, None, "skipped", fault) for one in jobs]
        write_reconstruction_manifest(study.layout, study.design, unsent, [], dry_run=False)
        return []
    return [(steps.reconstruction(study, one), one) for one in jobs]


def _lsqml_fault() -> str:
    """Why LSQML is not sent at all; what breaks on the node alone is that job's loss."""
    try:
        version("ptychi")
    except PackageNotFoundError:
        return f"pty-chi is not installed; {INSTALL}"
    return ""


def _cells(
    study: Study,
    trainings: Sequence[tuple[Ask[Trained], TrainingJob]],
    solvers: Sequence[tuple[Ask[Reconstructed], ReconstructionJob]],
) -> list[Cell]:
    """Every cell with patterns, and what it waits for: networks of its view and of all positions, its own solver."""
    cells = []
    for one in build_comparison_jobs(study.design, study.layout.hub):
        waits = {ask.name for ask, job in trainings if job.dose == one.dose and job.view in (one.view, ALL)}
        waits |= {ask.name for ask, job in solvers if (job.dose, job.view) == (one.dose, one.view)}
        cells.append(Cell(one, waits))
    return cells


def _end_training(study: Study, one: TrainingJob, done: Any, progress: Progress, name: str) -> None:
    if done is not None:
        try:
            steps.place_trained(one, done)
        except BadInput as error:
            progress.lost[name], done = str(error), None
    if done is None:
        result = empty_result("failed", progress.lost[name])
    else:
        bundle = one.artifact_dir / done.bundle.path.name
        result = bundle_result(bundle, done.bundle.sha256, done.model_dump(), study.layout)
        progress.bundles += 1
    _write_training(study, [job_entry(one, study.layout, result)], progress)


def _write_training(study: Study, entries: list[dict[str, Any]], progress: Progress) -> None:
    write_training_manifest(study.layout, study.design, entries, progress.skips, filters={}, dry_run=False)


def _end_solving(
    study: Study, one: ReconstructionJob, done: Reconstructed | None, progress: Progress, name: str
) -> None:
    if done is not None:
        try:
            steps.place_reconstructed(one, done)
        except BadInput as error:
            progress.lost[name], done = str(error), None
    entry = _solve_entry(study, one, done, "success" if done else "failed", progress.lost.get(name))
    write_reconstruction_manifest(study.layout, study.design, [entry], [], dry_run=False)


def _solve_entry(
    study: Study, one: ReconstructionJob, done: Reconstructed | None, status: str, error: str | None
) -> dict[str, Any]:
    return reconstruction_entry(
        one, study.layout, done.model_dump() if done else None, input_sha256=sha256_of(one.patterns),
        output=one.folder / done.reconstruction.path.name if done else None,
        output_sha256=done.reconstruction.sha256 if done else None, status=status, error=error,
    )  # fmt: skip


def _sent(cluster: Cluster, asks: Sequence[Ask[R]]) -> dict[PrefectFuture[dict[str, Any]], Ask[R]]:
    """Send as one array; the future of each."""
    if not asks:
        return {}
    handles = cluster.send(asks, array=True)
    return {job.submit(cluster, handle): ask for handle, ask in zip(handles, asks, strict=True)}


def _ended(
    sent: Mapping[PrefectFuture[dict[str, Any]], Ask[R]],
) -> Iterator[tuple[PrefectFuture[dict[str, Any]], Ask[R]]]:
    """Each job as it ends."""
    for future in as_completed(list(sent)):
        yield future, sent[future]


def _outcome(cluster: Cluster, ask: Ask[R], future: PrefectFuture[dict[str, Any]], progress: Progress) -> R | None:
    """The receipt; None, noted and named, for a job that was lost."""
    try:
        return ask.receipt(future.result())
    except JobLost as lost:
        progress.lost[ask.name] = lost.line
        cluster.run.event("cell", f"{ask.name} lost: {lost.line}", cause=lost.outcome.cause)
        return None
