"""The smoke test: six named tests of the whole chain on a handful of windows, in a folder of its own.

With five windows a class no figure means anything: what is asked is that everything opens, is finite, has its shape,
and reads back. `smoke_test_metrics.json` says which of the six passed, in which time, and what was found.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from concept_core.config import Config
from concept_core.corpus.assemble import Source, assemble
from concept_core.corpus.rows import Row, read_rows
from concept_core.corpus.windows import write_windows
from concept_core.layout import Layout
from concept_core.models.registry import chosen_layers, open_model, registered
from concept_core.plans import NEGATIVES, ConceptPlan
from study_core.errors import BadInput
from study_core.files import peek_json, sha256_of, write_json

TESTS = (
    "model_loading",
    "dataset_creation",
    "embedding_extraction",
    "cav_training",
    "evaluation",
    "artifact_validation",
)


@dataclass
class Smoke:
    """One smoke test of a configuration; each test builds on those before it."""

    config: Config
    layout: Layout
    samples: int
    device: str = "auto"
    found: dict[str, Any] = field(default_factory=dict)

    def run(self) -> dict[str, Any]:
        """All six, in order; after a failure the rest are told as not run. Writes the metrics."""
        tests: dict[str, dict[str, Any]] = {}
        for name in TESTS:
            if any(not one["passed"] for one in tests.values()):
                tests[name] = {"passed": False, "seconds": 0.0, "error": "not run: a test before it failed"}
                continue
            tests[name] = _timed(getattr(self, name))
        metrics = {
            "tests": tests,
            "passed": all(one["passed"] for one in tests.values()),
            "model": self.config.plan.model.name,
            "samples": self.samples,
            "seconds": sum(one["seconds"] for one in tests.values()),
        }
        write_json(self.layout.smoke_metrics, metrics)
        return metrics

    @property
    def plan(self) -> ConceptPlan:
        """The configuration's plan, as small as a handful of windows allows."""
        plan = self.config.plan
        return plan.model_copy(
            update={
                "model": plan.model.model_copy(update={"untrained": False, "concept_free": None}),
                "data": plan.data.model_copy(update={"folds": 2, "min_positives": 2, "min_groups": 2, "held_out": 0.2}),
                "cav": plan.cav.model_copy(update={"random_cavs": 2, "null_refits": 5}),
                "evaluation": plan.evaluation.model_copy(update={"bootstrap": 20}),
            }
        )

    def model_loading(self) -> dict[str, Any]:
        model = registered(self.config.paths.model_registry, self.config.plan.model.name)
        opened = open_model(model, device=self.device)
        states = opened.hidden_states(["MKCPECGKSFSQSSNLQKHQRTHTGEKPY", "MKV"], [opened.num_layers])
        _ask(states[0][opened.num_layers].shape[0] == 29 and states[1][opened.num_layers].shape[0] == 3, "shapes")
        _ask(all(np.isfinite(one[opened.num_layers]).all() for one in states), "a state is not finite")
        self.found["layers"] = chosen_layers(self.plan.model, model.entry)
        return {"hidden_size": opened.hidden_size, "layers": list(self.found["layers"])}

    def dataset_creation(self) -> dict[str, Any]:
        paths = self.config.paths
        positives = _unrelated(read_rows(paths.positives), self.samples)
        negatives = _unrelated(read_rows(paths.negatives), self.samples)
        made = assemble(Source(positives, negatives, paths.positives, paths.negatives), self.plan.data)
        write_windows(self.layout.windows, made.windows)
        strata = {window.stratum for window in made.windows}
        _ask({"pos", *NEGATIVES} <= strata, f"strata {sorted(strata)}")
        return {"windows": len(made.windows), "strata": sorted(strata)}

    def embedding_extraction(self) -> dict[str, Any]:
        self.found["stores"] = self._study().embed()
        files = self.layout.embeddings(self._study().model)
        for layer in self.found["layers"]:
            positive, negative = (
                np.load(path, allow_pickle=False) for path in (files.positives(layer), files.negatives(layer))
            )
            _ask(positive.shape[1:] == negative.shape[1:], f"layer {layer}: shapes {positive.shape}, {negative.shape}")
            _ask(bool(np.isfinite(positive).all() and np.isfinite(negative).all()), f"layer {layer}: not finite")
            distinct = sha256_of(files.positives(layer)) != sha256_of(files.negatives(layer))
            _ask(distinct, f"layer {layer}: positives and negatives are the same bytes")
        return {"layers": list(self.found["layers"]), "window": int(positive.shape[1])}

    def cav_training(self) -> dict[str, Any]:
        trained = self._study().train()
        name = self._study().model
        files = self.layout.cavs(name)
        norms = {layer: float(np.linalg.norm(np.load(files.concept(layer)))) for layer in self.found["layers"]}
        _ask(all(np.isfinite(norm) for norm in norms.values()), f"CAV norms {norms}")
        return {"cavs": len(trained.by_network[name]), "norms": {str(layer): norm for layer, norm in norms.items()}}

    def evaluation(self) -> dict[str, Any]:
        evaluated = self._study().evaluate(dropped_share=0.0, smoke_passed=None)
        values = [one.value for one in evaluated.measures if one.value is not None]
        _ask(bool(values) and bool(np.isfinite(values).all()), "a measured number is not finite")
        return {"measures": len(values), "layer": evaluated.layer}

    def artifact_validation(self) -> dict[str, Any]:
        files = self.layout.cavs(self._study().model)
        checked = 0
        for layer in self.found["layers"]:
            manifest = peek_json(files.manifest(layer))
            _ask(isinstance(manifest, dict), f"layer {layer}: no manifest")
            for name, entry in manifest["files"].items():
                path = files.root / name
                right = path.is_file() and path.stat().st_size == entry["bytes"] and sha256_of(path) == entry["sha256"]
                _ask(right, f"{path} is not what the manifest says")
                checked += 1
        pickles = [path.name for path in self.layout.root.rglob("*") if path.suffix in (".pkl", ".pickle", ".pt")]
        _ask(not pickles, f"pickles were written: {pickles}")
        return {"files": checked}

    def _study(self) -> Any:
        from concept_core.local import Study

        return Study(self.plan, self.layout, self.config.paths.model_registry, self.device)


def _timed(test: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    started = time.perf_counter()
    try:
        facts = test()
    except Exception as error:  # whatever breaks is what a smoke test is for: it is told, not hidden
        told = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return {"passed": False, "seconds": time.perf_counter() - started, "error": told}
    return {"passed": True, "seconds": time.perf_counter() - started, **facts}


def _ask(holds: bool, what: str) -> None:
    if not holds:
        raise BadInput(what)


def _unrelated(rows: list[Row], count: int) -> tuple[Row, ...]:
    """The first rows of `count` different homology groups."""
    from concept_core.corpus.homology import groups

    first: dict[int, Row] = {}
    for number, row in zip(groups([row.sequence for row in rows]), rows, strict=True):
        first.setdefault(number, row)
    return tuple(first.values())[:count]
