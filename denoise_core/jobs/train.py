"""Train one model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from denoise_core.plans import TrainingPlan
from study_core.device import device_for
from study_core.job import Content, Context, Receipt, Request, Where
from study_core.paths import below


class Train(Request):
    """What is trained on what. `corpus`, `train` and `val` are named by what counts in them (rows, spectra).

    `epoch`: chosen elsewhere; None: chosen on `val`.
    """

    plan: TrainingPlan
    corpus: Content
    train: Content
    val: Content
    init: Content | None = None
    epoch: int | None = None
    device: Where[str] = "auto"


class Trained(Receipt):
    """A finished training: its best checkpoint, the best few by validation, and its figures."""

    best: Content
    top: tuple[Content, ...]
    folder: Path
    metrics_csv: Path
    best_epoch: int
    best_sam_deg: float | None
    epochs_run: int
    figures: dict[str, Any]


def train(request: Train, context: Context) -> Trained:
    """Train to the end, or on from the last epoch on disk."""
    from denoise_core.corpus.manifest import read_manifest
    from denoise_core.corpus.store import open_corpus
    from denoise_core.training import Hooks, TrainingInputs
    from denoise_core.training import train as run_training

    plan = request.plan
    audit_log = below(context.folder, plan.files.audit_log)
    audit_log.parent.mkdir(parents=True, exist_ok=True)
    audit_log.touch()
    done = run_training(
        plan,
        TrainingInputs(
            open_corpus(request.corpus.path),
            read_manifest(request.train.path),
            read_manifest(request.val.path),
            request.init.path if request.init else None,
            request.epoch,
        ),
        context.folder,
        device=device_for(request.device),
        hooks=Hooks(
            progress=lambda fields: context.progress(**fields),
            should_stop=context.should_stop,
            adjustments=dict(context.adjustments),
        ),
    )
    return _receipt(done.to_json(), context.folder)


def _receipt(done: dict[str, Any], folder: Path) -> Trained:
    best = Content.of(Path(done.pop("checkpoint")))
    top = tuple(Content.of(Path(path)) for path in done.pop("top"))
    named = {name: done.pop(name) for name in ("metrics_csv", "best_epoch", "best_sam_deg", "epochs_run")}
    return Trained(best=best, top=top or (best,), folder=folder, figures=done, **named)
