"""The study's jobs: each one's request, and where its receipt's files belong in the hub."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ptycho_core.base import with_base
from ptycho_core.comparison_matrix import ComparisonJob, comparison_request
from ptycho_core.design import ALL, SPLITS, Seeds, StudyDesign, dose_name, get_study_design
from ptycho_core.evaluation.thresholds import StudyThresholds, thresholds_for
from ptycho_core.generation import merge_run_manifest
from ptycho_core.jobs.compare import Compared, compare
from ptycho_core.jobs.generate import Generate, Generated, generate
from ptycho_core.jobs.reconstruct import Reconstruct, Reconstructed, reconstruct
from ptycho_core.jobs.train import Train, Trained, train
from ptycho_core.layout import Layout, claim_hub
from ptycho_core.matrix import TrainingJob
from ptycho_core.recipes import recipe_for
from ptycho_core.reconstruction_matrix import ReconstructionJob, options_for
from study_core.errors import BadInput
from study_core.files import place
from study_core.job import Content
from study_core.plan import changed
from tasks.dispatch import Ask
from tasks.provenance import ROOT, artifacts_root
from tasks.ptycho.parameters import DoseOverlapPlan


@dataclass(frozen=True)
class Study:
    """A plan made definite: its design, its hub, the thresholds it is judged by."""

    plan: DoseOverlapPlan
    design: StudyDesign
    layout: Layout
    thresholds: StudyThresholds
    base_npz: Path | None

    @property
    def device(self) -> str:
        return self.plan.where.device


def open_study(plan: DoseOverlapPlan) -> Study:
    """The study of a plan; equal plans share one hub, `artifacts/fly64/<hash>`.

    Raises:
        BadInput: an option or a base file that cannot be used, before anything is submitted.
    """
    base_npz = None
    design = get_study_design(plan.size)
    options = design.model_dump() | {"doses": tuple(dict.fromkeys(sorted(plan.doses)))}
    seeds = Seeds.model_validate(options["seeds"])
    if plan.training.seeds:
        seeds = seeds.model_copy(update={"training": plan.training.seeds})
    if plan.base.seed:
        seeds = seeds.model_copy(update={"object": plan.base.seed})
    options |= {"seeds": seeds.model_dump()}
    options |= {"iterations": plan.training.iterations} if plan.training.iterations else {}
    options |= {"epochs": plan.iterative.epochs} if plan.iterative.epochs else {}
    design = _checked(options)
    if plan.base.npz:
        base_npz = Path(plan.base.npz)
        base_npz = ROOT / base_npz
        design = with_base(design, base_npz, image=plan.base.object, scan=plan.base.scan, tile=plan.base.tile)
    thresholds = changed(thresholds_for(design), plan.gates)
    hub = artifacts_root() / "fly64" / design.sha256()[:12]
    claim_hub(hub, design)
    return Study(plan, design, Layout(hub), thresholds, base_npz)


def _checked(options: Mapping[str, object]) -> StudyDesign:
    from pydantic import ValidationError

    try:
        return StudyDesign.model_validate(options)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise BadInput(str(first["msg"]).removeprefix("Value error, "), remedy="change the plan") from None


# ---- one dose: patterns and views -----------------------------------------------------------------------------


def generation(study: Study, dose: float) -> Ask[Generated]:
    """The job that simulates a dose; equal however the study is judged."""
    base = Content.of(study.base_npz) if study.base_npz else None
    request = Generate(design=study.design.for_data(dose), dose=dose, base_npz=base)
    return Ask(generate, request, f"generate-{dose_name(dose)}", "generate")


def place_generated(study: Study, done: Generated) -> None:
    """Bring a dose into the hub; what an earlier run left and this one skipped is taken away."""
    layout, dose = study.layout, done.dose
    for view in (ALL, *study.design.views):
        for split in SPLITS:
            target, content = layout.dataset(dose, view, split), done.datasets.get(f"{view}_{split}")
            if content is None:
                target.unlink(missing_ok=True)
                continue
            place(content.checked(), target)
            if view != ALL:
                layout.skip(dose, view, split).unlink(missing_ok=True)
    place(done.truth.checked(), layout.truth(dose))
    place(done.truth_train.checked(), layout.truth_train(dose))
    for name, content in done.records.items():
        place(content.path, layout.hub / name)
    merge_run_manifest(layout, {dose: done.entry})


# ---- one cell of the matrix -----------------------------------------------------------------------------------


def training(study: Study, job: TrainingJob) -> Ask[Trained]:
    """The job that trains a cell. Its inputs hold no truth; the supervised arm's is the train half alone."""
    request = Train(
        recipe=recipe_for(study.design, job.arm, job.gridsize, job.seed),
        train=Content.of(job.train),
        test=Content.of(job.test),
        truth=Content.of(job.truth) if job.truth else None,
        device=study.device,
    )
    return Ask(train, request, "train-" + _short(job.name), "train")


def place_trained(job: TrainingJob, done: Trained) -> None:
    """Bring a training into the hub. Raises BadInput where its bundle is not what was recorded."""
    for content in (done.bundle, done.history, done.record):
        place(content.checked(), job.artifact_dir / content.path.name)


def reconstruction(study: Study, job: ReconstructionJob) -> Ask[Reconstructed]:
    """The LSQML job of a cell; its one input starts flat."""
    options = options_for(study.design, study.plan.iterative.noise)
    request = Reconstruct(options=options, patterns=Content.of(job.patterns), device=study.device)
    return Ask(reconstruct, request, "lsqml-" + _short(f"{dose_name(job.dose)} {job.view}"), "reconstruct")


def place_reconstructed(job: ReconstructionJob, done: Reconstructed) -> None:
    """Bring a reconstruction into the hub. Raises BadInput where it is not what was recorded."""
    for content in (done.reconstruction, done.record):
        place(content.checked(), job.folder / content.path.name)


def comparison(study: Study, job: ComparisonJob) -> Ask[Compared]:
    """The job that compares a cell's arms as they lie in the hub now: the first to open the test half's truth."""
    request = comparison_request(job, study.design, study.layout.hub, study.device)
    return Ask(compare, request, "compare-" + _short(job.name), "evaluate")


def place_compared(job: ComparisonJob, done: Compared) -> None:
    """Bring a compared cell into the hub."""
    for content in (done.metrics, done.table, *done.images.values()):
        place(content.checked(), job.folder / content.path.name)


def _short(name: str) -> str:
    """A job's name in the queue: `1000-dense-gs2`."""
    return name.removeprefix("dose_").replace(" ", "-")
