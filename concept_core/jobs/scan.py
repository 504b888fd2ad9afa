"""The job that scans the proteins of the detection test: every protein by a probe that has not seen its group.

One forward a protein serves all layers. What is stored are tracks, a number a window, not states. Where windows were
embedded in a limited context, a protein is shown in overlapping pieces of that context, so that states are of one kind.
"""

from __future__ import annotations

from concept_core.cav.artifacts import read_folds
from concept_core.corpus.windows import read_windows
from concept_core.embedding import residue_states
from concept_core.evaluation.proteins import test_proteins
from concept_core.evaluation.tracks import TrackWriter, residue_projections, unseen_tracks
from concept_core.jobs.embed import Embed, network_of
from concept_core.layout import CavFiles
from concept_core.plans import DetectionPlan
from study_core.errors import TrainingInterrupted
from study_core.job import Content, Context, Receipt, Request
from study_core.paths import Name, Words


class Scan(Request):
    """A network as it embedded the windows, and the CAV folder of each layer (in the order of `layers`)."""

    network: Embed
    detection: DetectionPlan
    pattern: Words | None
    seed: int
    layers: tuple[int, ...]
    cavs: tuple[Content, ...]
    version: Name = "v1"


class Scanned(Receipt):
    """Tracks of every layer, plain and centred."""

    tracks: Content
    proteins: int
    residues: int


def scan(request: Scan, context: Context) -> Scanned:
    """Write the tracks; raises TrainingInterrupted between two proteins when asked to stop (it begins again)."""
    windows = read_windows(request.network.windows.checked())
    proteins = test_proteins(windows, pattern=request.pattern, longest=request.detection.longest, seed=request.seed)
    model, plan = network_of(request.network), request.network.plan
    probes = {
        layer: read_folds(CavFiles(cav.checked(), request.version), layer)
        for layer, cav in zip(request.layers, request.cavs, strict=True)
    }
    width = windows[0].end - windows[0].start
    writer = TrackWriter(len(proteins))
    budget = max(64, plan.tokens_per_batch >> int(context.adjustments.get("batch_halvings", 0)))
    letters = [protein.sequence for protein in proteins]
    streamed = residue_states(
        model, letters, request.layers, tokens_per_batch=budget, overlap=plan.overlap, longest=plan.context
    )
    for done, (number, states) in enumerate(streamed, start=1):
        if context.should_stop():
            raise TrainingInterrupted(f"stopped after {done - 1} of {len(proteins)} proteins")
        one = proteins[number]
        for layer in request.layers:
            pair = unseen_tracks(states[layer], one.fold, probes[layer], width)
            known = residue_projections(states[layer], one.fold, probes[layer]) if one.domains else None
            writer.add(number, layer, pair, known)
        if done % 20 == 0 or done == len(proteins):
            context.progress(done=done, total=len(proteins), stage="scan")
    path = writer.write(context.folder / "tracks.safetensors")
    return Scanned(tracks=Content.of(path), proteins=len(proteins), residues=sum(map(len, letters)))
