"""The study's jobs in their order: embed a network each → a CAV a layer and control each → scans → evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from concept_core import steps
from concept_core.jobs.concept_eval import Evaluated, ScanSource, concept_eval
from concept_core.jobs.detect import Detected, detect
from concept_core.jobs.embed import Embedded, embed
from concept_core.jobs.scan import Scanned, scan
from concept_core.jobs.sensitivity import Sensed, sensitivity
from concept_core.jobs.smoke import SmokeTest, SmokeTested, smoke
from concept_core.jobs.train_cav import TrainCav, TrainedCav, train_cav
from concept_core.plans import ControlsPlan, DetectionPlan, EvaluationPlan, GatePlan, SensitivityPlan
from concept_core.steps import Network
from study_core.job import Content, Receipt
from tasks.concept.inputs import Scan, Study
from tasks.conditions import Condition, ended, receipts
from tasks.dispatch import Ask, Cluster

R = TypeVar("R", bound=Receipt)
Trainings = list[Condition[TrainedCav]]


@dataclass(frozen=True)
class Measured:
    """What the jobs left, for the judge and the report."""

    smoke: SmokeTested
    trained: dict[str, tuple[TrainedCav, ...]]
    """By network, and one each for bag20 and dipeptide."""
    evaluated: Evaluated
    sensed: Sensed | None


def measure(cluster: Cluster, study: Study, windows: Content, dropped_share: float) -> Measured:
    """Run every job; one that is lost costs those that need it, the others end first and are kept.

    Raises:
        JobLost: the first one that ended without a result.
    """
    plan, model, name = study.plan, study.networks[0], f"evaluate-{study.model}"
    smoked = Condition(smoke_test(study))
    stores = {one.name: Condition(_embedding(study, one, windows)) for one in study.networks}
    trained = {one.name: _trainings(study, one, windows, stores[one.name]) for one in study.networks}
    trained |= {one.source: [Condition(_training(one))] for one in steps.control_requests(plan, windows)}
    scans = [_scan(study, one, windows, trained[one.name]) for one in study.networks]
    sensed = [_sensitivity(study, windows, stores[model.name], trained[model.name])] if plan.sensitivity.on else []
    layers = [one for found in trained.values() for one in found]

    def evaluation() -> Ask[Evaluated]:
        sources = steps.sources(study.networks, {source: receipts(found) for source, found in trained.items()})
        tracks = [
            ScanSource(name=network.name, role=network.role, tracks=one.tracks)
            for network, one in zip(study.networks, receipts(scans), strict=True)
        ]
        request = steps.eval_request(
            plan, sources, tracks, windows, dropped_share=dropped_share, smoke_passed=smoked.receipt.passed
        )
        return Ask(concept_eval, request, name, "concept_eval")

    evaluated = Condition(evaluation, name, needs=[smoked, *layers, *scans])
    every: list[Condition[Any]] = [smoked, *stores.values(), *layers, *scans, *sensed, evaluated]
    _all(cluster, every)
    by_source = {source: receipts(found) for source, found in trained.items()}
    return Measured(smoked.receipt, by_source, evaluated.receipt, sensed[0].receipt if sensed else None)


def detections(cluster: Cluster, wanted: Scan) -> tuple[Detected, ...]:
    """Scan every shard, as one array. Raises JobLost once all have ended."""
    requests = steps.detect_requests(
        wanted.plan, wanted.network, wanted.fasta, wanted.proteins, cav=wanted.probe, thresholds=wanted.thresholds,
        layer=wanted.scanner.layer, device=wanted.form.where.device,
    )  # fmt: skip
    return _all(cluster, [Condition(Ask(detect, one, f"detect-{one.first:06d}", "detect")) for one in requests])


def _all(cluster: Cluster, conditions: Sequence[Condition[R]]) -> tuple[R, ...]:
    for _ in ended(cluster, conditions):
        pass
    return receipts(conditions)


def smoke_test(study: Study) -> Ask[SmokeTested]:
    """Six tests of the chain with this model. What only judges or reports is no part of them."""
    told = {"gates": GatePlan(), "sensitivity": SensitivityPlan(), "controls": ControlsPlan()}
    plan = study.plan.model_copy(update={**told, "evaluation": EvaluationPlan(), "detection": DetectionPlan()})
    network, paths = study.networks[0], study.config.paths
    request = SmokeTest(
        plan=plan, name=network.name, entry=network.entry, positives=Content.of(paths.positives),
        negatives=Content.of(paths.negatives), model=network.model, tokenizer=network.tokenizer, device=study.device,
    )  # fmt: skip
    return Ask(smoke, request, f"smoke-{network.name}", "embed")


def _embedding(study: Study, network: Network, windows: Content) -> Ask[Embedded]:
    request = steps.embed_request(study.plan, network, windows, study.device)
    return Ask(embed, request, f"embed-{network.name}", "embed")


def _training(request: TrainCav) -> Ask[TrainedCav]:
    layer = f"-L{request.layer}" if request.features == "layer" else ""
    return Ask(train_cav, request, f"cav-{request.source}{layer}", "train_cav")


def _trainings(study: Study, network: Network, windows: Content, store: Condition[Embedded]) -> Trainings:
    """A CAV a layer of a network."""

    def asked(layer: int) -> Ask[TrainedCav]:
        return _training(steps.train_request(study.plan, network, layer, windows, store.receipt.store))

    layers = steps.trained_layers(network)
    return [Condition(partial(asked, one), f"cav-{network.name}-L{one}", needs=[store]) for one in layers]


def _scan(study: Study, network: Network, windows: Content, trained: Trainings) -> Condition[Scanned]:
    """Whole proteins through a network."""

    def asked() -> Ask[Scanned]:
        request = steps.scan_request(study.plan, network, receipts(trained), windows, study.device)
        return Ask(scan, request, name, "detect")

    name = f"scan-{network.name}"
    return Condition(asked, name, needs=trained)


def _sensitivity(study: Study, windows: Content, store: Condition[Embedded], trained: Trainings) -> Condition[Sensed]:
    model = study.networks[0]

    def asked() -> Ask[Sensed]:
        found = receipts(trained), windows, store.receipt.store
        return Ask(sensitivity, steps.sensitivity_request(study.plan, model, *found, study.device), name, "embed")

    name = f"sensitivity-{model.name}"
    return Condition(asked, name, needs=[store, *trained])
