"""The denoiser's cluster jobs: what each is asked to do, and what its receipt says. A few lines each over the core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from denoise_core.corpus.manifest import Manifest
from denoise_core.corpus.store import Corpus
from denoise_core.plans import TrainingPlan
from study_core.errors import BadInput
from study_core.files import sha256_of
from study_core.plan import identity
from study_core.verdict import Verdict, read_verdict
from tasks.denoise import Data, changed, fold_data
from tasks.dispatch import JobSpec


@dataclass(frozen=True)
class Trained:
    """A finished training: its best checkpoint, the ranked rest, and its logs."""

    name: str
    best: Path
    best_sha256: str
    top: tuple[Path, ...]
    folder: Path
    receipt: Mapping[str, Any]


@dataclass(frozen=True)
class PanelReport:
    """What the panel audit said of every checkpoint, best first."""

    best: Verdict
    verdicts: tuple[Verdict, ...]
    incumbent: Verdict | None
    folder: Path


def training_spec(
    name: str,
    plan: TrainingPlan,
    corpus: Corpus,
    training: Manifest,
    validation: Manifest,
    *,
    init: Path | None = None,
    device: str = "auto",
) -> JobSpec:
    """The job that trains `name`; equal plan and inputs give the same job."""
    inputs = {"corpus": corpus.sha256, "train": training.rows_sha256, "val": validation.rows_sha256}
    if init is not None:
        inputs["init"] = sha256_of(init)
    return JobSpec(
        name=f"train-{name}",
        function="denoise_core.jobs:train",
        stage="train",
        arguments={"plan": plan.model_dump(mode="json")},
        places={
            "device": device,
            "corpus": str(corpus.root),
            "train_manifest": str(training.path),
            "val_manifest": str(validation.path),
            "init_checkpoint": str(init) if init else None,
        },
        inputs={**inputs, "plan": identity(plan)},
    )


def fold_spec(fold: int, plan: TrainingPlan, corpus: str, device: str) -> tuple[JobSpec, dict[str, Manifest]]:
    """The job that trains one fold, under the seed's file names."""
    opened, manifests = fold_data(corpus, fold)
    name = f"Track_H_fold_{fold:02d}"
    files = {"files": {
        "log_dir": f"logs/{name}", "checkpoint_dir": f"checkpoints/{name}",
        "audit_log": f"logs/{name}/auditing_manifest.log", "speed_log_json": f"fold_{fold:02d}_speed.json",
    }}  # fmt: skip
    spec = training_spec(
        f"fold_{fold:02d}", changed(plan, files), opened, manifests["train"], manifests["val"], device=device
    )
    return spec, manifests


def trained(name: str, receipt: Mapping[str, Any]) -> Trained:
    """A training's receipt, its best checkpoint checked against its hash."""
    best = Path(receipt["checkpoint"])
    if sha256_of(best) != receipt["sha256"]:
        raise BadInput("the checkpoint is not the one its training recorded", file=best, remedy="run with fresh=true")
    return Trained(
        name=name,
        best=best,
        best_sha256=receipt["sha256"],
        top=tuple(Path(path) for path in receipt.get("top", ())) or (best,),
        folder=best.parent.parent.parent,
        receipt=receipt,
    )


def audit_spec(
    data: Data,
    checkpoints: Sequence[Path],
    thresholds: BaseModel,
    *,
    incumbent: Path | None = None,
    expected_hash: str = "",
    reference: str = "loo",
    selected_on: Sequence[str] = (),
    unseen: Mapping[str, Path] | None = None,
    device: str = "auto",
) -> JobSpec:
    """The job that judges checkpoints on the panel."""
    hashes = {f"checkpoint_{number}": sha256_of(path) for number, path in enumerate(checkpoints)}
    hashes |= {f"unseen_{name}": sha256_of(path) for name, path in (unseen or {}).items()}
    if incumbent:
        hashes["incumbent"] = sha256_of(incumbent)
    return JobSpec(
        name="audit-panel",
        function="denoise_core.jobs:audit_panel",
        stage="evaluate",
        arguments={
            "thresholds": thresholds.model_dump(mode="json"),
            "expected_hash": expected_hash or None,
            "reference": reference,
            "selected_on": list(selected_on),
        },
        places={
            "device": device,
            "corpus": str(data.corpus.root),
            "panel": str(data.panel.path),
            "training": str(data.training.path),
            "checkpoints": [str(path) for path in checkpoints],
            "incumbent": str(incumbent) if incumbent else None,
            "unseen": {name: str(path) for name, path in (unseen or {}).items()},
        },
        inputs={**data.inputs, **hashes},
    )


def panel_report(receipt: Mapping[str, Any]) -> PanelReport:
    """The audit's receipt as verdicts, best first."""
    verdicts = tuple(read_verdict(Path(path)) for path in receipt["verdicts"])
    incumbent = receipt.get("incumbent")
    return PanelReport(
        best=verdicts[0],
        verdicts=verdicts,
        incumbent=read_verdict(Path(incumbent)) if incumbent else None,
        folder=Path(receipt["folder"]),
    )


def denoise_spec(
    name: str,
    corpus: Corpus,
    manifests: Mapping[str, Manifest],
    checkpoint: Path,
    *,
    layout: str,
    batch_size: int,
    device: str = "auto",
) -> JobSpec:
    """The job that denoises whole manifests through one checkpoint."""
    inputs = {name: manifest.rows_sha256 for name, manifest in manifests.items()}
    return JobSpec(
        name=f"denoise-{name}",
        function="denoise_core.jobs:denoise",
        stage="denoise",
        arguments={"layout": layout, "batch_size": batch_size},
        places={
            "device": device,
            "corpus": str(corpus.root),
            "manifests": {name: str(manifest.path) for name, manifest in manifests.items()},
            "checkpoint": str(checkpoint),
        },
        inputs={"corpus": corpus.sha256, "checkpoint": sha256_of(checkpoint), **inputs},
    )


def fold_evaluation_spec(
    name: str, corpus: Corpus, manifests: Mapping[str, Manifest], denoised: Mapping[str, Mapping[str, Any]]
) -> JobSpec:
    """The job that scores a fold's validation and test outputs beside the controls."""
    splits = {split: manifests[split] for split in ("val", "test")}
    outputs = {split: Path(denoised[split]["folder"]) for split in splits}
    return JobSpec(
        name=f"evaluate-{name}",
        function="denoise_core.jobs:evaluate_fold",
        stage="evaluate",
        places={
            "corpus": str(corpus.root),
            "training": str(manifests["train"].path),
            "splits": {split: str(manifest.path) for split, manifest in splits.items()},
            "denoised": {split: str(folder) for split, folder in outputs.items()},
        },
        inputs={
            "corpus": corpus.sha256,
            **{split: manifest.rows_sha256 for split, manifest in manifests.items()},
            **{f"denoised_{split}": denoised[split]["sha256"] for split in splits},
        },
    )
