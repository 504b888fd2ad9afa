"""The denoiser's steps on a cluster: each one's request, from what a flow looked up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from denoise_core.corpus.manifest import Manifest
from denoise_core.corpus.store import Corpus
from denoise_core.evaluation.measurement import Reference
from denoise_core.evaluation.thresholds import GateThresholds
from denoise_core.jobs.audit import MeasurePanel, Unseen, measure_panel
from denoise_core.jobs.denoise import Denoise, Denoised, denoise
from denoise_core.jobs.fold import FoldScored, ScoreFold, score_fold
from denoise_core.jobs.train import Train, Trained, train
from denoise_core.plans import TrainingPlan
from study_core.errors import BadInput
from study_core.job import Content
from study_core.plan import changed
from tasks.denoise import judging
from tasks.denoise.inputs import Data
from tasks.denoise.judging import PanelReport
from tasks.dispatch import Ask, Cluster


def corpus_content(corpus: Corpus) -> Content:
    """A corpus, named by its spectra and their rows."""
    return Content(path=corpus.root, sha256=corpus.sha256)


def manifest_content(manifest: Manifest) -> Content:
    """A manifest on disk, named by its rows."""
    if manifest.path is None:
        raise BadInput("this manifest lies in no file", remedy="store it first")
    return Content(path=manifest.path, sha256=manifest.rows_sha256)


def _contents(manifests: Mapping[str, Manifest], *names: str) -> dict[str, Content]:
    return {name: manifest_content(manifests[name]) for name in names or manifests}


def training(
    name: str,
    plan: TrainingPlan,
    corpus: Corpus,
    training: Manifest,
    validation: Manifest,
    *,
    init: Path | None = None,
    epoch: int | None = None,
    device: str = "auto",
) -> Ask[Trained]:
    """The job that trains `name`, to an epoch chosen elsewhere or by its own validation; equal plan and inputs give
    the same job."""
    request = Train(
        plan=plan,
        corpus=corpus_content(corpus),
        train=manifest_content(training),
        val=manifest_content(validation),
        init=Content.of(init) if init else None,
        epoch=epoch,
        device=device,
    )
    return Ask(train, request, f"train-{name}", "train")


def fold_training(
    fold: int, plan: TrainingPlan, corpus: Corpus, manifests: Mapping[str, Manifest], device: str
) -> Ask[Trained]:
    """The job that trains one fold, under the seed's file names."""
    name = f"Track_H_fold_{fold:02d}"
    files = {"files": {
        "log_dir": f"logs/{name}", "checkpoint_dir": f"checkpoints/{name}",
        "audit_log": f"logs/{name}/auditing_manifest.log", "speed_log_json": f"fold_{fold:02d}_speed.json",
    }}  # fmt: skip
    whole = changed(plan, files)
    return training(f"fold_{fold:02d}", whole, corpus, manifests["train"], manifests["val"], device=device)


def trained(cluster: Cluster, asked: Ask[Trained]) -> Trained:
    """Train, and hold the best checkpoint against its recorded hash."""
    receipt = cluster.run_one(asked)
    receipt.best.checked()
    return receipt


def audit(
    cluster: Cluster,
    data: Data,
    checkpoints: Sequence[Path],
    thresholds: GateThresholds,
    *,
    incumbent: Path | None = None,
    own_filter: Path | None = None,
    margin: float = 0.0,
    expected_hash: str = "",
    reference: Reference = "loo",
    selected_on: Sequence[str] = (),
    started_on: Sequence[str] = (),
    unseen: Unseen | None = None,
    device: str = "auto",
) -> PanelReport:
    """Measure checkpoints on the panel by a job, and judge them here: another threshold asks for no other job.

    Verdicts by rank, each beside `incumbent`, the model in production. One that is among the checkpoints is measured
    once. `own_filter`: a candidate, too, and the first where nothing shows that the checkpoints are worth more.
    """
    every_path = checkpoints if own_filter is None else [*checkpoints, own_filter]
    asked = [Content.of(path) for path in dict.fromkeys(every_path)]
    held = Content.of(incumbent) if incumbent else None
    known = [content.sha256 for content in asked]
    every = asked if held is None or held.sha256 in known else [*asked, held]
    request = MeasurePanel(
        corpus=corpus_content(data.corpus),
        panel=manifest_content(data.panel),
        training=manifest_content(data.training),
        checkpoints=tuple(every),
        unseen=unseen,
        reference=reference,
        device=device,
    )
    receipt = cluster.ask(measure_panel, request, name="audit-panel", stage="evaluate")
    return judging.judged(
        cluster.run, data, receipt, thresholds,
        candidates=len(asked),
        incumbent=None if held is None else [content.sha256 for content in every].index(held.sha256),
        own_filter=None if own_filter is None else len(asked) - 1,
        margin=margin, expected_hash=expected_hash, selected_on=selected_on, started_on=started_on,
    )  # fmt: skip


def denoising(
    name: str,
    corpus: Corpus,
    manifests: Mapping[str, Manifest],
    checkpoint: Path,
    *,
    layout: Any,
    batch_size: int,
    device: str = "auto",
) -> Ask[Denoised]:
    """The job that denoises whole manifests through one checkpoint."""
    request = Denoise(
        corpus=corpus_content(corpus),
        manifests=_contents(manifests),
        checkpoint=Content.of(checkpoint),
        layout=layout,
        batch_size=batch_size,
        device=device,
    )
    return Ask(denoise, request, f"denoise-{name}", "denoise")


def fold_scoring(name: str, corpus: Corpus, manifests: Mapping[str, Manifest], outputs: Denoised) -> Ask[FoldScored]:
    """The job that scores a fold's validation and test outputs beside the controls."""
    request = ScoreFold(
        corpus=corpus_content(corpus),
        train=manifest_content(manifests["train"]),
        splits=_contents(manifests, "val", "test"),
        denoised={split: outputs.outputs[split].folder for split in ("val", "test")},
    )
    return Ask(score_fold, request, f"evaluate-{name}", "evaluate")
