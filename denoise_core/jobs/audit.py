"""Judge checkpoints on the panel: every gate, every control, ranked."""

from __future__ import annotations

from pathlib import Path

from denoise_core.evaluation.thresholds import GateThresholds, Reference
from study_core.device import device_for
from study_core.job import Content, Context, Receipt, Request, Where
from study_core.plan import Frozen


class Unseen(Frozen):
    """A fold's own model and manifests, for figures on groups that neither training nor any choice has seen."""

    checkpoint: Content
    train: Content
    val: Content
    test: Content


class AuditPanel(Request):
    """Which checkpoints are judged, on which panel, against which thresholds."""

    corpus: Content
    panel: Content
    training: Content | None = None
    checkpoints: tuple[Content, ...]
    incumbent: Content | None = None
    unseen: Unseen | None = None
    thresholds: GateThresholds = GateThresholds()
    expected_hash: str | None = None
    reference: Reference = "loo"
    selected_on: tuple[str, ...] = ()
    batch_size: Where[int] = 256
    device: Where[str] = "auto"


class PanelAudited(Receipt):
    """Verdict files by rank, the incumbent's beside them, and the folder of the published tables."""

    verdicts: tuple[Content, ...]
    incumbent: Content | None
    summary: Path
    folder: Path


def audit_panel(request: AuditPanel, context: Context) -> PanelAudited:
    """Denoise the panel through each checkpoint, audit each, rank, write what an auditor reads."""
    from denoise_core.corpus.manifest import read_manifest
    from denoise_core.corpus.store import open_corpus
    from denoise_core.evaluation.panel import audit_checkpoints

    unseen = request.unseen
    receipt = audit_checkpoints(
        open_corpus(request.corpus.path),
        read_manifest(request.panel.path),
        read_manifest(request.training.path) if request.training else None,
        [checkpoint.path for checkpoint in request.checkpoints],
        out=context.folder / "final_analytics" / "panel_eval",
        thresholds=request.thresholds,
        incumbent=request.incumbent.path if request.incumbent else None,
        expected_hash=request.expected_hash,
        reference=request.reference,
        selected_on=request.selected_on,
        unseen={name: getattr(unseen, name).path for name in Unseen.model_fields} if unseen else None,
        batch_size=request.batch_size,
        device=device_for(request.device),
        progress=lambda done, total, what: context.progress(done=done, total=total, stage=what),
    )
    return PanelAudited(
        verdicts=tuple(Content.of(Path(path)) for path in receipt["verdicts"]),
        incumbent=Content.of(Path(receipt["incumbent"])) if receipt["incumbent"] else None,
        summary=Path(receipt["summary"]),
        folder=Path(receipt["folder"]),
    )
