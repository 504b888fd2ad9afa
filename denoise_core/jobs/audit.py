"""Measure checkpoints on the panel: everything that a verdict is made of, and no verdict."""

from __future__ import annotations

from denoise_core.evaluation.measurement import Reference
from study_core.device import device_for
from study_core.job import Content, Context, Receipt, Request, Where
from study_core.paths import Words
from study_core.plan import Frozen


class Held(Frozen):
    """A model and its manifests: neither its training nor any choice has seen the groups of `test`."""

    checkpoint: Content
    train: Content
    val: Content
    test: Content


class Unseen(Frozen):
    """Models for figures on groups that they have not seen, pooled; `what` says in words which."""

    what: Words
    models: tuple[Held, ...]


class MeasurePanel(Request):
    """Which checkpoints are measured, on which panel. No threshold: another one asks for no other job."""

    corpus: Content
    panel: Content
    training: Content | None = None
    checkpoints: tuple[Content, ...]
    unseen: Unseen | None = None
    reference: Reference = "loo"
    batch_size: Where[int] = 256
    device: Where[str] = "auto"


class PanelMeasured(Receipt):
    """A folder a checkpoint, in the order asked for: what was measured, and its spectra."""

    measured: tuple[Content, ...]


def measure_panel(request: MeasurePanel, context: Context) -> PanelMeasured:
    """Denoise the panel through each checkpoint and measure each, beside fitted controls."""
    from denoise_core.corpus.manifest import read_manifest
    from denoise_core.corpus.store import open_corpus
    from denoise_core.evaluation.checkpoints import measure_checkpoints

    unseen = request.unseen
    folders = measure_checkpoints(
        open_corpus(request.corpus.path),
        read_manifest(request.panel.path),
        read_manifest(request.training.path) if request.training else None,
        [checkpoint.path for checkpoint in request.checkpoints],
        out=context.folder / "measured",
        reference=request.reference,
        unseen=[{name: getattr(one, name).path for name in Held.model_fields} for one in unseen.models]
        if unseen
        else (),
        unseen_what=unseen.what if unseen else "",
        batch_size=request.batch_size,
        device=device_for(request.device),
        progress=lambda done, total, what: context.progress(done=done, total=total, stage=what),
    )
    return PanelMeasured(measured=tuple(Content.of(folder) for folder in folders))
