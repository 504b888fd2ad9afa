"""Jobs one after another in this process, each in a folder of its own below a run.

A job that was done is not done again: its receipt is kept beside the identity of its request and of the code, and is
used only where both are equal and every file is as it was left. What is stale is made anew, whatever its name says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from concept_core import steps
from concept_core.cav.artifacts import read_cav
from concept_core.corpus.rows import read_fasta
from concept_core.corpus.windows import read_windows
from concept_core.evaluation.threshold_registry import read_registry
from concept_core.jobs.concept_eval import Evaluated, ScanSource, Source, concept_eval
from concept_core.jobs.detect import Detected, checked_thresholds, detect
from concept_core.jobs.embed import embed
from concept_core.jobs.scan import scan
from concept_core.jobs.sensitivity import Sensed, sensitivity
from concept_core.jobs.train_cav import TrainedCav, train_cav
from concept_core.layout import CavFiles, DetectionFiles, Layout
from concept_core.plans import ConceptPlan
from concept_core.predictions import Merged, merge
from study_core import job
from study_core.errors import BadInput
from study_core.files import damaged, peek_json, place, place_tree, read_json, sha256_of, write_json
from study_core.job import Content, Context, Receipt, Request, received
from study_core.plan import identity

Q = TypeVar("Q", bound=Request)
R = TypeVar("R", bound=Receipt)
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Place:
    """The `Context` of a job that runs here."""

    folder: Path
    adjustments: Mapping[str, Any] = field(default_factory=dict)

    def should_stop(self) -> bool:
        return False

    def progress(self, **fields: Any) -> None:
        pass


@cache
def code_sha256() -> str:
    """Hash of the sources that a job here may reach; command line and report are left out."""
    core, ground = Path(__file__).parent, Path(job.__file__).parent
    files = [path for root in (core, ground) for path in root.rglob("*.py")]
    kept = [path for path in files if not {"cli", "report"} & set(path.parts[-3:])]
    return identity({str(path.relative_to(core.parent)): sha256_of(path) for path in sorted(kept)})


@dataclass(frozen=True)
class Local:
    """Runs jobs below `root`/jobs and remembers their receipts."""

    root: Path
    tell: Tell = lambda line: None
    kept_only: frozenset[str] = frozenset()
    """Jobs (`embed`, `train_cav`) that must be there already, made from the same files by the same code."""

    def ask(self, function: Callable[[Q, Context], R], request: Q, kind: type[R], name: str) -> R:
        """The receipt of a request: kept from before where nothing changed, else made now."""
        folder = self.root / "jobs" / name
        wanted = identity({"job": function.__name__, "code": code_sha256(), **request.identity()})
        kept = peek_json(folder / "receipt.json")
        if kept and kept.get("request") == wanted and damaged(kept) is None:
            return received(kind, kept["receipt"])
        if function.__name__ in self.kept_only:
            state = "not there" if kept is None else "made from other files, options or code"
            raise BadInput(f"{name} is {state}", file=folder, remedy="run without the skip option")
        self.tell(name)
        receipt = function(request, Place(folder))
        saved = {"request": wanted, "receipt": receipt.model_dump(mode="json"), "files": receipt.files()}
        write_json(folder / "receipt.json", saved)
        return receipt


@dataclass(frozen=True)
class Trained:
    """Receipts of all training jobs, by network and for the controls."""

    networks: tuple[steps.Network, ...]
    by_network: Mapping[str, tuple[TrainedCav, ...]]
    controls: tuple[TrainedCav, ...]

    def sources(self) -> list[Source]:
        return steps.sources(self.networks, {**self.by_network, **{one.source: (one,) for one in self.controls}})


@dataclass(frozen=True)
class Study:
    """One plan on one table of windows, in one run's folder."""

    plan: ConceptPlan
    layout: Layout
    registry: Path
    device: str = "auto"
    tell: Tell = lambda line: None
    kept_only: frozenset[str] = frozenset()

    @property
    def model(self) -> str:
        """Name of the model's stores, CAVs and evaluation."""
        return steps.networks(self.plan, self.registry)[0].name

    @property
    def local(self) -> Local:
        return Local(self.layout.root, self.tell, self.kept_only)

    def windows(self) -> Content:
        """The run's table of windows. Raises BadInput where there is none."""
        read_windows(self.layout.windows)
        return Content.of(self.layout.windows)

    def embed(self) -> dict[str, Content]:
        """The store of each network, by name; placed under embeddings/."""
        from concept_core.jobs.embed import Embedded

        windows, stores = self.windows(), {}
        for network in steps.networks(self.plan, self.registry):
            request = steps.embed_request(self.plan, network, windows, self.device)
            made = self.local.ask(embed, request, Embedded, f"embed-{network.name}")
            place_tree(made.store.path, self.layout.embeddings(network.name).root)
            stores[network.name] = made.store
        return stores

    def train(self, *, layer: int | None = None) -> Trained:
        """CAVs of every network and control, placed under cavs/; of one layer (and layer 0) where one is named."""
        windows, stores = self.windows(), self.embed()
        networks = steps.networks(self.plan, self.registry)
        found: dict[str, tuple[TrainedCav, ...]] = {}
        for network in networks:
            if layer is not None and layer not in network.layers:
                raise BadInput(f"no layer {layer}", remedy=f"one of {network.layers}")
            chosen = [one for one in steps.trained_layers(network) if layer is None or one in (0, layer)]
            requests = [steps.train_request(self.plan, network, one, windows, stores[network.name]) for one in chosen]
            found[network.name] = tuple(
                self._placed(
                    self.local.ask(train_cav, one, TrainedCav, f"train_cav-{network.name}-L{one.layer}"), network.name
                )
                for one in requests
            )
        controls = tuple(
            self._placed(self.local.ask(train_cav, one, TrainedCav, f"train_cav-{one.source}"), one.source)
            for one in steps.control_requests(self.plan, windows)
        )
        return Trained(networks, found, controls)

    def _placed(self, trained: TrainedCav, name: str) -> TrainedCav:
        place_tree(trained.cav.path, self.layout.cavs(name).root)
        return trained

    def evaluate(self, *, dropped_share: float, smoke_passed: int | None) -> Evaluated:
        """Scan the detection test's proteins and measure; placed under evaluations/."""
        from concept_core.jobs.scan import Scanned

        windows, trained = self.windows(), self.train()
        scans = []
        for network in trained.networks:
            request = steps.scan_request(self.plan, network, trained.by_network[network.name], windows, self.device)
            made = self.local.ask(scan, request, Scanned, f"scan-{network.name}")
            scans.append(ScanSource(name=network.name, role=network.role, tracks=made.tracks))
        wanted = steps.eval_request(
            self.plan, trained.sources(), scans, windows, dropped_share=dropped_share, smoke_passed=smoke_passed
        )
        evaluated = self.local.ask(concept_eval, wanted, Evaluated, "concept_eval")
        place_tree(evaluated.evaluation.path, self.layout.evaluation(self.model).root)
        return evaluated

    def sensitivity(self) -> dict[str, Any]:
        """True TCAV of the model on held-out positives; the table lies under evaluations/."""
        stores, trained = self.embed(), self.train()
        network = trained.networks[0]
        request = steps.sensitivity_request(
            self.plan, network, trained.by_network[network.name], self.windows(), stores[network.name], self.device
        )
        made = self.local.ask(sensitivity, request, Sensed, "sensitivity")
        place(made.table.path, self.layout.evaluation(self.model).sensitivity)
        table: dict[str, Any] = read_json(made.table.path)
        return table

    def detect(self, fasta: Path, files: DetectionFiles, *, cav: Path, thresholds: Path) -> Merged:
        """Scan a FASTA file in shards with a CAV folder at its thresholds, and merge.

        Raises:
            BadInput: no proteins, no CAV, or thresholds of another model, CAV, layer, window or context.
        """
        count = len(read_fasta(fasta, unknown_max=1.0))
        network = steps.networks(self.plan, self.registry)[0]
        layer, model = read_registry(thresholds).layer, read_registry(thresholds).model
        if model != network.name:
            what = f"thresholds were set for model {model}, asked is {network.name}"
            raise BadInput(what, file=thresholds, remedy="name that model, or run evaluate for this one")
        read = read_cav(CavFiles(cav, self.plan.cav.version), layer)
        method = self.plan.detection.threshold_method
        checked_thresholds(thresholds, read, window=self.plan.data.window, plan=self.plan.embedding, method=method)
        requests = steps.detect_requests(
            self.plan, network, Content.of(fasta), count, cav=Content.of(cav), thresholds=Content.of(thresholds),
            layer=layer, device=self.device,
        )  # fmt: skip
        at = Local(files.root, self.tell)
        made = [at.ask(detect, one, Detected, f"detect-{number:05d}") for number, one in enumerate(requests)]
        facts = {
            "input": fasta.name, "model": network.name, "layer": layer, "cav_sha256": read.sha256, "method": method,
            "threshold": read_registry(thresholds).value(method), "residues": sum(one.residues for one in made),
        }  # fmt: skip
        return merge(files, [one.shard.path for one in made], facts)
