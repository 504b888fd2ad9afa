"""The denoiser's steps on a cluster: each one's request, from what a flow looked up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from denoise_core.corpus.manifest import Manifest
from denoise_core.corpus.store import Corpus
from denoise_core.evaluation.thresholds import GateThresholds, Reference
from denoise_core.jobs.audit import AuditPanel, PanelAudited, Unseen, audit_panel
from denoise_core.jobs.denoise import Denoise, Denoised, denoise
from denoise_core.jobs.fold import FoldScored, ScoreFold, score_fold
from denoise_core.jobs.train import Train, Trained, train
from denoise_core.plans import TrainingPlan
from study_core.errors import BadInput
from study_core.job import Content
from study_core.plan import changed
from study_core.verdict import Verdict, read_verdict
from tasks import comparison
from tasks.denoise.inputs import Data
from tasks.dispatch import Ask, Cluster


@dataclass(frozen=True)
class PanelReport:
    """What the panel audit said of every checkpoint, best first."""

    best: Verdict
    verdicts: tuple[Verdict, ...]
    incumbent: Verdict | None
    folder: Path


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
    device: str = "auto",
) -> Ask[Trained]:
    """The job that trains `name`; equal plan and inputs give the same job."""
    request = Train(
        plan=plan,
        corpus=corpus_content(corpus),
        train=manifest_content(training),
        val=manifest_content(validation),
        init=Content.of(init) if init else None,
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
    margin: float = 0.0,
    expected_hash: str = "",
    reference: Reference = "loo",
    selected_on: Sequence[str] = (),
    unseen: Mapping[str, Content] | None = None,
    device: str = "auto",
) -> PanelReport:
    """Judge checkpoints on the panel; verdicts by rank, each beside the model in production (`incumbent`)."""
    request = AuditPanel(
        corpus=corpus_content(data.corpus),
        panel=manifest_content(data.panel),
        training=manifest_content(data.training),
        checkpoints=tuple(Content.of(path) for path in checkpoints),
        incumbent=Content.of(incumbent) if incumbent else None,
        unseen=Unseen(**unseen) if unseen else None,
        thresholds=thresholds,
        expected_hash=expected_hash or None,
        reference=reference,
        selected_on=tuple(selected_on),
        device=device,
    )
    receipt = cluster.ask(audit_panel, request, name="audit-panel", stage="evaluate")
    return panel_report(receipt, margin, data.judged_by(thresholds))


def panel_report(receipt: PanelAudited, margin: float, origin: Mapping[str, Any]) -> PanelReport:
    """The audit's receipt as verdicts, best first, each beside the model in production."""
    incumbent = read_verdict(receipt.incumbent.path) if receipt.incumbent else None
    judged = (read_verdict(content.path).model_copy(update=origin) for content in receipt.verdicts)
    verdicts = tuple(comparison.beside(verdict, incumbent, margin) for verdict in judged)
    return PanelReport(
        best=verdicts[0],
        verdicts=verdicts,
        incumbent=incumbent,
        folder=receipt.folder,
    )


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
