"""The job that scans a shard of a FASTA file with one CAV, at thresholds that were set for that CAV and no other."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from concept_core.cav.artifacts import Cav, read_cav
from concept_core.corpus.rows import Protein, stream_fasta
from concept_core.detection import call, ranked, track
from concept_core.embedding import residue_states
from concept_core.evaluation.threshold_registry import ThresholdRegistry, read_registry
from concept_core.layout import CavFiles
from concept_core.models.registry import ModelEntry, Registered, open_model
from concept_core.plans import DetectionPlan, EmbeddingPlan
from concept_core.predictions import SHOWN, Prediction, Shard, prediction, write_shard
from study_core.errors import BadInput, TrainingInterrupted
from study_core.job import Content, Context, Receipt, Request, Where
from study_core.paths import Name, Words


class Detect(Request):
    """Records `first` … `last` − 1 of a FASTA file (None: to the end), a CAV folder, its thresholds, the model."""

    embedding: EmbeddingPlan
    detection: DetectionPlan
    name: Name
    entry: ModelEntry
    layer: int
    window: int
    pattern: Words | None
    proteins: Content
    first: int = 0
    last: int | None = None
    cav: Content
    version: Name = "v1"
    thresholds: Content
    model: Content
    tokenizer: Content | None = None
    device: Where[str] = "auto"


class Detected(Receipt):
    """A shard: predictions, and the tracks of its best proteins."""

    shard: Content
    proteins: int
    positive: int
    residues: int


def checked_thresholds(file: Path, cav: Cav, *, window: int, plan: EmbeddingPlan, method: str) -> ThresholdRegistry:
    """The registry, if it is this CAV's and has the method's threshold. Raises BadInput."""
    registry = read_registry(file).checked(
        cav_sha256=cav.sha256, layer=cav.layer, window=window, context=plan.context, file=file
    )
    registry.value(method)
    return registry


def detect(request: Detect, context: Context) -> Detected:
    """Scan the shard.

    Raises:
        BadInput: thresholds of another CAV, layer, window or context, or no records in the range.
        TrainingInterrupted: between two proteins, when asked to stop.
    """
    cav = read_cav(CavFiles(request.cav.checked(), request.version), request.layer)
    plan, file = request.detection, request.thresholds.checked()
    registry = checked_thresholds(
        file, cav, window=request.window, plan=request.embedding, method=plan.threshold_method
    )
    proteins = list(islice(stream_fasta(request.proteins.checked(), unknown_max=1.0), request.first, request.last))
    if not proteins:
        raise BadInput(f"no records from {request.first} on", file=request.proteins.path, remedy="fewer shards")
    found = _scan(request, cav, registry, proteins, context)
    best = {one.accession for one in ranked([one.call for one in found])[:SHOWN]}
    shard = Shard(
        predictions=tuple(one.record for one in found),
        tracks={one.call.accession: one.track for one in found if one.call.accession in best},
    )
    folder = write_shard(context.folder / "shard", shard)
    return Detected(
        shard=Content.of(folder), proteins=len(found), positive=sum(one.call.positive for one in found),
        residues=sum(len(letters) for _, letters in proteins),
    )  # fmt: skip


def _scan(
    request: Detect, cav: Cav, registry: ThresholdRegistry, proteins: list[Protein], context: Context
) -> list[Prediction]:
    folder = request.model.checked()
    tokenizer = request.tokenizer.checked() if request.tokenizer else folder
    registered = Registered(
        name=request.name, entry=request.entry, folder=folder, tokenizer=tokenizer, registry=Path("model_registry.yaml")
    )
    model = open_model(registered, device=request.device, dtype=request.embedding.dtype)
    budget = max(64, request.embedding.tokens_per_batch >> int(context.adjustments.get("batch_halvings", 0)))
    letters = [protein.sequence for protein in proteins]
    streamed = residue_states(
        model, letters, (request.layer,), tokens_per_batch=budget, overlap=request.embedding.overlap,
        longest=request.embedding.context,
    )  # fmt: skip
    found: dict[int, Prediction] = {}
    for number, states in streamed:
        if context.should_stop():
            raise TrainingInterrupted(f"stopped after {len(found)} of {len(proteins)} proteins")
        plain, centred = (track(states[request.layer], probe, request.window) for probe in (cav.plain, cav.centred))
        one = call(proteins[number].accession, len(letters[number]), plain, centred, registry, request.detection)
        found[number] = prediction(one, plain, letters[number], request.pattern)
        if len(found) % 50 == 0 or len(found) == len(proteins):
            context.progress(done=len(found), total=len(proteins), stage="detect")
    return [found[number] for number in sorted(found)]
