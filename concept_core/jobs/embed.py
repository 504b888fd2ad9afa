"""The job that embeds the labelled windows with one model: the model, its untrained or its concept-free twin."""

from __future__ import annotations

from pathlib import Path

from concept_core.corpus.windows import read_windows
from concept_core.layout import EmbeddingFiles
from concept_core.models.protein_lm import ProteinLM
from concept_core.models.registry import ModelEntry, Registered, open_model
from concept_core.plans import EmbeddingPlan
from concept_core.store import Made, write_store
from study_core.job import Content, Context, Receipt, Request, Where
from study_core.paths import Name


class Embed(Request):
    """Windows and a model; `untrained_seed` asks for fresh weights of the same architecture."""

    plan: EmbeddingPlan
    name: Name
    entry: ModelEntry
    layers: tuple[int, ...]
    windows: Content
    model: Content
    tokenizer: Content | None = None
    untrained_seed: int | None = None
    device: Where[str] = "auto"


class Embedded(Receipt):
    """The store's folder; `residues` went through the model in the attempt that finished it."""

    store: Content
    windows: int
    residues: int


def embed(request: Embed, context: Context) -> Embedded:
    """Write the store below the job's folder; finished shards of an earlier attempt are kept."""
    return embed_into(EmbeddingFiles(context.folder / "store"), request, context)


def embed_into(files: EmbeddingFiles, request: Embed, context: Context) -> Embedded:
    """The same, into `files`."""
    windows = read_windows(request.windows.checked())
    made = Made(
        model=request.name,
        model_sha256=request.model.sha256,
        windows_sha256=request.windows.sha256,
        layers=request.layers,
        untrained_seed=request.untrained_seed,
        context=request.plan.context,
        overlap=request.plan.overlap,
    )
    model = network_of(request)
    residues = write_store(
        files,
        windows,
        model,
        made,
        request.plan,
        halvings=int(context.adjustments.get("batch_halvings", 0)),
        tell=lambda done, total: context.progress(done=done, total=total, stage="embed"),
        should_stop=context.should_stop,
    )
    return Embedded(store=Content.of(files.root), windows=len(windows), residues=residues)


def network_of(request: Embed) -> ProteinLM:
    """The request's network, opened on its device. Raises BadInput where its files are not what was named."""
    return open_model(
        _registered(request), device=request.device, dtype=request.plan.dtype, untrained_seed=request.untrained_seed
    )


def _registered(request: Embed) -> Registered:
    folder = request.model.checked()
    tokenizer = request.tokenizer.checked() if request.tokenizer else folder
    return Registered(
        name=request.name, entry=request.entry, folder=folder, tokenizer=tokenizer, registry=Path("model_registry.yaml")
    )
