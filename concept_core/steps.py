"""A plan as typed requests, step by step: the flow and the command line ask for the same jobs.

data → embed a network each → train a CAV a layer and control each → scan a network each → evaluate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from concept_core.jobs.concept_eval import ConceptEval, Role, ScanSource, Source
from concept_core.jobs.detect import Detect
from concept_core.jobs.embed import Embed
from concept_core.jobs.scan import Scan
from concept_core.jobs.sensitivity import MeasureSensitivity
from concept_core.jobs.train_cav import TrainCav, TrainedCav
from concept_core.layout import untrained
from concept_core.models.registry import ModelEntry, chosen_layers, located, portable, registered
from concept_core.plans import ConceptPlan
from study_core.job import Content
from study_core.plan import Frozen

NetworkRole = Literal["model", "untrained", "concept_free"]


class Network(Frozen):
    """A network of the study: the model, or one of the relatives that serve as controls."""

    role: NetworkRole
    name: str
    entry: ModelEntry
    model: Content
    tokenizer: Content | None
    untrained_seed: int | None
    layers: tuple[int, ...]


def networks(plan: ConceptPlan, registry: Path) -> tuple[Network, ...]:
    """The model and its controls, with layer 0 of each; named by the registry, also where a folder stands for a key.

    Raises BadInput where the registry or a folder lacks one.
    """
    made = [_network(plan, registry, plan.model.name, "model", None)]
    if plan.model.untrained:
        made.append(_network(plan, registry, plan.model.name, "untrained", plan.model.seed))
    if plan.model.concept_free is not None:
        made.append(_network(plan, registry, plan.model.concept_free, "concept_free", None))
    return tuple(made)


def _network(plan: ConceptPlan, registry: Path, name: str, role: NetworkRole, seed: int | None) -> Network:
    found = registered(registry, name)
    folder, tokenizer = located(found)
    layers = chosen_layers(plan.model, found.entry)
    return Network(
        role=role,
        name=untrained(found.name) if seed is not None else found.name,
        entry=portable(found),
        model=Content.of(folder),
        tokenizer=Content.of(tokenizer) if tokenizer else None,
        untrained_seed=seed,
        layers=tuple(sorted({0, *layers})),
    )


def embed_request(plan: ConceptPlan, network: Network, windows: Content, device: str = "auto") -> Embed:
    """Windows through one network."""
    return Embed(
        plan=plan.embedding, name=network.name, entry=network.entry, layers=network.layers, windows=windows,
        model=network.model, tokenizer=network.tokenizer, untrained_seed=network.untrained_seed, device=device,
    )  # fmt: skip


def trained_layers(network: Network) -> list[int]:
    """Layers that get a CAV: layer 0 only where it is the model's."""
    return [layer for layer in network.layers if layer or network.role == "model"]


def train_request(plan: ConceptPlan, network: Network, layer: int, windows: Content, store: Content) -> TrainCav:
    """A CAV of one layer; the untrained network needs no null."""
    return TrainCav(
        plan=plan.cav, source=network.name, layer=layer, windows=windows, store=store,
        null=network.role != "untrained",
    )  # fmt: skip


def control_requests(plan: ConceptPlan, windows: Content) -> tuple[TrainCav, ...]:
    """The bag of residues and the dipeptides."""
    wanted: list[Literal["bag20", "dipeptide"]] = []
    wanted += ["bag20"] if plan.controls.bag else []
    wanted += ["dipeptide"] if plan.controls.dipeptide else []
    return tuple(TrainCav(plan=plan.cav, source=name, features=name, windows=windows) for name in wanted)


def sources(networks: Sequence[Network], trained: Mapping[str, Sequence[TrainedCav]]) -> list[Source]:
    """Every training's receipt, by the name of its network or control, as a source of the evaluation."""
    roles: dict[str, Role] = {"bag20": "bag20", "dipeptide": "dipeptide", **{one.name: one.role for one in networks}}
    return [
        Source(name=one.source, role=roles[name], layer=one.layer, cav=one.cav, scores=one.scores, null=one.null)
        for name, found in trained.items()
        for one in found
    ]


def scan_request(
    plan: ConceptPlan, network: Network, trained: Sequence[TrainedCav], windows: Content, device: str = "auto"
) -> Scan:
    """The detection test's proteins through one network, by the CAVs of its layers above 0."""
    above = sorted((one for one in trained if one.layer), key=lambda one: one.layer)
    return Scan(
        network=embed_request(plan, network, windows, device), detection=plan.detection,
        pattern=plan.data.concept.pattern, seed=plan.data.seed, layers=tuple(one.layer for one in above),
        version=plan.cav.version, cavs=tuple(one.cav for one in above),
    )  # fmt: skip


def sensitivity_request(
    plan: ConceptPlan, network: Network, trained: Sequence[TrainedCav], windows: Content, store: Content, device: str
) -> MeasureSensitivity:
    """True TCAV of the model's layers above 0."""
    above = sorted((one for one in trained if one.layer), key=lambda one: one.layer)
    return MeasureSensitivity(
        plan=plan.sensitivity, cav_plan=plan.cav, network=embed_request(plan, network, windows, device),
        ligands=plan.data.concept.ligand_residues, store=store, layers=tuple(one.layer for one in above),
        cavs=tuple(one.cav for one in above),
    )  # fmt: skip


def detect_requests(
    plan: ConceptPlan, network: Network, proteins: Content, count: int, *, cav: Content, thresholds: Content,
    layer: int, device: str = "auto",
) -> tuple[Detect, ...]:  # fmt: skip
    """A request a shard of a FASTA file of `count` records."""
    size = plan.detection.proteins_per_shard
    return tuple(
        Detect(
            embedding=plan.embedding, detection=plan.detection, name=network.name, entry=network.entry, layer=layer,
            window=plan.data.window, pattern=plan.data.concept.pattern, proteins=proteins, first=first,
            last=min(count, first + size), cav=cav, version=plan.cav.version, thresholds=thresholds,
            model=network.model, tokenizer=network.tokenizer, device=device,
        )
        for first in range(0, count, size)
    )  # fmt: skip


def eval_request(
    plan: ConceptPlan, sources: Sequence[Source], scans: Sequence[ScanSource], windows: Content, *,
    dropped_share: float, smoke_passed: int | None,
) -> ConceptEval:  # fmt: skip
    """The evaluation of everything that was trained on these windows."""
    model = next(one.name for one in sources if one.role == "model")
    return ConceptEval(
        evaluation=plan.evaluation, detection=plan.detection, controls=plan.controls, concept=plan.data.concept,
        model=model, context=plan.embedding.context, null_refits=plan.cav.null_refits, seed=plan.data.seed,
        dropped_share=dropped_share, smoke_passed=smoke_passed, sources=tuple(sources), scans=tuple(scans),
        windows=windows, version=plan.cav.version,
    )  # fmt: skip
