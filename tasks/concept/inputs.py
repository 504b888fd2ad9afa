"""A plan made definite before anything is sent: configuration, networks, windows; for a scan, probe and proteins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from concept_core.candidate import THRESHOLDS, Scanner, cav_files, read_scanner
from concept_core.cav.artifacts import read_cav
from concept_core.config import Config, read_config
from concept_core.corpus.rows import read_fasta
from concept_core.jobs.detect import checked_thresholds
from concept_core.layout import Layout
from concept_core.models.registry import registered
from concept_core.plans import ConceptPlan, GatePlan
from concept_core.prepare import make_windows
from concept_core.steps import Network, networks
from study_core.errors import BadInput
from study_core.job import Content
from study_core.plan import changed, identity
from tasks import channels, promotion
from tasks.channels import Line
from tasks.concept.parameters import ProbePlan, ScanPlan
from tasks.located import located

EXTRA = ("transformers", "sklearn", "safetensors")


@dataclass(frozen=True)
class Study:
    """A plan made definite. `networks` are the model and its twins, the model first."""

    form: ProbePlan
    config: Config
    networks: tuple[Network, ...]

    @property
    def plan(self) -> ConceptPlan:
        return self.config.plan

    @property
    def model(self) -> str:
        """The model's registry key: name of its CAVs and evaluation."""
        return self.networks[0].name

    @property
    def device(self) -> str:
        return self.form.where.device

    @property
    def registry(self) -> str:
        return registry_of(self.plan.data.concept.name, self.model)


def registry_of(concept: str, model: str) -> str:
    """Whose production a probe replaces: a concept's in one model."""
    return f"concept-{concept}@{model}"


def study_of(form: ProbePlan) -> Study:
    """The form's study.

    Raises:
        BadInput: a file, option or model that cannot be used, or the extra that is not installed.
    """
    _installed()
    config = read_config(located(form.config), model=form.model or None)
    changes = {**form.changes}
    if form.concept_free:
        changes["model"] = {**changes.get("model", {}), "concept_free": form.concept_free}
    if form.sensitivity:
        changes["sensitivity"] = {**changes.get("sensitivity", {}), "on": True}
    changes["gates"] = {**changes.get("gates", {}), **_other_than_default(form.gates)}
    config = config.model_copy(update={"plan": changed(config.plan, changes)})
    return Study(form, config, networks(config.plan, config.paths.model_registry))


def line_of(study: Study, facts: Mapping[str, Any]) -> Line:
    """What its probes are judged on: the rows, and the table of windows that was made of them."""
    return Line(str(study.config.paths.positives.parent), identity(facts["made_from"]), str(facts["windows_sha256"]))


@task(task_run_name="windows and split", persist_result=False, cache_policy=NO_CACHE)
def windows(study: Study, layout: Layout) -> dict[str, Any]:
    """The table of windows in the run's folder and its facts: guardrail, strata, groups, held-out part."""
    return make_windows(study.config, layout)


@dataclass(frozen=True)
class Scan:
    """A probe with its thresholds and model, and how many proteins there are."""

    form: ScanPlan
    plan: ConceptPlan
    scanner: Scanner
    probe: Content
    thresholds: Content
    network: Network
    fasta: Content
    proteins: int
    facts: dict[str, Any]
    """What the scan's summary says beside its counts."""


def scan_of(form: ScanPlan) -> Scan:
    """The form's scan, everything checked that a job would trip over.

    Raises:
        BadInput: no such file, nothing in production, thresholds of another CAV, or another model than the probe's.
    """
    _installed()
    if not form.fasta:
        raise BadInput("no FASTA file is named", remedy="name one as fasta")
    fasta, folder = located(form.fasta), located(form.probe) if form.probe else _in_production(form)
    scanner = read_scanner(folder)
    given = form.model if Path(form.model).is_dir() else scanner.model
    config = read_config(located(form.config), model=given)
    changes = {
        "embedding": scanner.embedding.model_dump(), "cav": {"version": scanner.version},
        "model": {"layers": [scanner.layer], "untrained": False},
        "data": {"window": scanner.window, "concept": scanner.concept.model_dump()},
        "detection": {"proteins_per_shard": form.per_job, **({"threshold_method": form.method} if form.method else {})},
    }  # fmt: skip
    plan = changed(config.plan, changes)
    network = networks(plan, config.paths.model_registry)[0]
    if network.model.sha256 != scanner.model_sha256:
        here, there = network.model.sha256[:12], scanner.model_sha256[:12]
        what = f"model {scanner.model} is {here}, the probe was trained on {there}"
        raise BadInput(what, file=network.model.path, remedy="register that model, or probe this one")
    thresholds = Content.of(folder / THRESHOLDS)
    return Scan(
        form=form, plan=plan, scanner=scanner, probe=Content.of(folder), thresholds=thresholds, network=network,
        fasta=Content.of(fasta), proteins=len(read_fasta(fasta, unknown_max=1.0)),
        facts={"input": fasta.name, **_threshold(plan, scanner, folder, thresholds.path)},
    )  # fmt: skip


def _threshold(plan: ConceptPlan, scanner: Scanner, folder: Path, file: Path) -> dict[str, Any]:
    """The scan's threshold and the CAV that it was set for. Raises BadInput where it was set for another."""
    cav, method = read_cav(cav_files(folder, scanner), scanner.layer), plan.detection.threshold_method
    registry = checked_thresholds(file, cav, window=scanner.window, plan=scanner.embedding, method=method)
    return {
        "model": scanner.model, "layer": scanner.layer, "cav_sha256": cav.sha256, "method": method,
        "threshold": registry.value(method),
    }  # fmt: skip


def _in_production(form: ScanPlan) -> Path:
    name = registered(read_config(located(form.config)).paths.model_registry, form.model).name
    model = promotion.checked_model(channels.in_use(registry_of(form.concept, name), form.channel))
    if model is None:
        what = f"no probe of {form.concept} in {name} is in production"
        raise BadInput(what, remedy="run concept/probe until one ships, or name the folder `candidate` of a run")
    return model


def _other_than_default(gates: GatePlan) -> dict[str, float]:
    return {name: value for name, value in gates if value != GatePlan.model_fields[name].default}


def _installed() -> None:
    missing = [name for name in EXTRA if find_spec(name) is None]
    if missing:
        raise BadInput(f"{missing[0]} is not installed", remedy="pip install -e '.[concept]' (make concept does it)")
