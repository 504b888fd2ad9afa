"""The study's jobs in their order: embed a network each → a CAV a layer and control each → scans → evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from prefect.futures import PrefectFuture, as_completed

from concept_core import steps
from concept_core.jobs.concept_eval import Evaluated, ScanSource, Source, concept_eval
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
from tasks.dispatch import Ask, Cluster, JobLost, job

R = TypeVar("R", bound=Receipt)
Future = PrefectFuture[dict[str, Any]]


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
    tested = _sent(cluster, [smoke_test(study)])
    stores = _sent(cluster, [_embedding(study, network, windows) for network in study.networks], array=True)
    controls = _sent(cluster, [_training(one) for one in steps.control_requests(study.plan, windows)], array=True)
    trained: dict[str, list[tuple[Future, Ask[Any]]]] = {one.name: [] for one in study.networks}
    embedded: dict[str, Content] = {}
    lost: list[JobLost] = []
    for network, receipt in _as_they_end(cluster, stores, study.networks, lost):
        embedded[network.name] = receipt.store
        requests = steps.train_requests(study.plan, network, windows, receipt.store)
        trained[network.name] = _sent(cluster, [_training(one) for one in requests], array=True)
    by_source = {name: _received(cluster, pairs, lost) for name, pairs in trained.items()}
    by_source |= {one.source: (one,) for one in _received(cluster, controls, lost)}
    smoked = _received(cluster, tested, lost)
    if lost:
        raise lost[0]
    scans, sensed = _scans(cluster, study, windows, by_source, embedded)
    request = steps.eval_request(
        study.plan, _sources(study, by_source), scans, windows,
        dropped_share=dropped_share, smoke_passed=smoked[0].passed,
    )  # fmt: skip
    evaluated = cluster.ask(concept_eval, request, name=f"evaluate-{study.model}", stage="concept_eval")
    return Measured(smoked[0], by_source, evaluated, sensed)


def detections(cluster: Cluster, wanted: Scan) -> tuple[Detected, ...]:
    """Scan every shard, as one array. Raises JobLost once all have ended."""
    requests = steps.detect_requests(
        wanted.plan, wanted.network, wanted.fasta, wanted.proteins, cav=wanted.probe, thresholds=wanted.thresholds,
        layer=wanted.scanner.layer, device=wanted.form.where.device,
    )  # fmt: skip
    asks = [Ask(detect, one, f"detect-{one.first:06d}", "detect") for one in requests]
    lost: list[JobLost] = []
    found: tuple[Detected, ...] = _received(cluster, _sent(cluster, asks, array=True), lost)
    if lost:
        raise lost[0]
    return found


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


def _scans(
    cluster: Cluster, study: Study, windows: Content, trained: dict[str, tuple[TrainedCav, ...]],
    stores: dict[str, Content],
) -> tuple[list[ScanSource], Sensed | None]:  # fmt: skip
    """Whole proteins through every network, beside it the sensitivity where it is asked for."""
    requests = [steps.scan_request(study.plan, one, trained[one.name], windows, study.device) for one in study.networks]
    asks = [Ask(scan, one, f"scan-{one.network.name}", "detect") for one in requests]
    sent, lost = _sent(cluster, asks, array=True), list[JobLost]()
    sensing: list[tuple[Future, Ask[Any]]] = []
    if study.plan.sensitivity.on:
        model = study.networks[0]
        request = steps.sensitivity_request(
            study.plan, model, trained[model.name], windows, stores[model.name], study.device
        )
        sensing = _sent(cluster, [Ask(sensitivity, request, f"sensitivity-{model.name}", "embed")])
    tracks: tuple[Scanned, ...] = _received(cluster, sent, lost)
    sensed: tuple[Sensed, ...] = _received(cluster, sensing, lost)
    if lost:
        raise lost[0]
    found = [
        ScanSource(name=network.name, role=network.role, tracks=one.tracks)
        for network, one in zip(study.networks, tracks, strict=True)
    ]
    return found, sensed[0] if sensed else None


def _sources(study: Study, trained: dict[str, tuple[TrainedCav, ...]]) -> list[Source]:
    """Every training as a source of the evaluation."""
    found = [steps.source(network.role, one) for network in study.networks for one in trained[network.name]]
    controls = [steps.source("bag20", one) for one in trained.get("bag20", ())]
    return found + controls + [steps.source("dipeptide", one) for one in trained.get("dipeptide", ())]


def _sent(cluster: Cluster, asks: Sequence[Ask[Any]], *, array: bool = False) -> list[tuple[Future, Ask[Any]]]:
    """Submit, as one array or alone; each job's future with what it was asked."""
    if not asks:
        return []
    handles = cluster.send(asks, array=array)
    return [(job.submit(cluster, handle), ask) for handle, ask in zip(handles, asks, strict=True)]


def _received(cluster: Cluster, sent: Sequence[tuple[Future, Ask[Any]]], lost: list[JobLost]) -> tuple[Any, ...]:
    """Receipts in the order of the questions, once all have ended; what was lost is added to `lost`."""
    found = (_outcome(cluster, future, ask, lost) for future, ask in sent)
    return tuple(one for one in found if one is not None)


def _as_they_end(
    cluster: Cluster, sent: Sequence[tuple[Future, Ask[Any]]], networks: Sequence[Network], lost: list[JobLost]
) -> Iterator[tuple[Network, Embedded]]:
    known = {future: (ask, network) for (future, ask), network in zip(sent, networks, strict=True)}
    for future in as_completed(list(known)):
        ask, network = known[future]
        if (receipt := _outcome(cluster, future, ask, lost)) is not None:
            yield network, receipt


def _outcome(cluster: Cluster, future: Future, ask: Ask[R], lost: list[JobLost]) -> R | None:
    try:
        return ask.receipt(future.result())
    except JobLost as error:
        cluster.run.event("lost-step", f"{ask.name} lost: {error.line}", cause=error.outcome.cause)
        lost.append(error)
        return None
