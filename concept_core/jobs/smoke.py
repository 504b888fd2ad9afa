"""The job that runs the smoke test where the study will run: six tests of the whole chain on a handful of proteins."""

from __future__ import annotations

import tempfile
from pathlib import Path

from concept_core.config import Config, Paths
from concept_core.layout import Layout
from concept_core.models.registry import ModelEntry
from concept_core.plans import ConceptPlan
from concept_core.smoke import Smoke
from study_core.files import place, write_json
from study_core.job import Content, Context, Receipt, Request, Where
from study_core.paths import Name


class SmokeTest(Request):
    """The study's plan, rows and model."""

    plan: ConceptPlan
    name: Name
    entry: ModelEntry
    positives: Content
    negatives: Content
    model: Content
    tokenizer: Content | None = None
    samples: int = 5
    device: Where[str] = "auto"


class SmokeTested(Receipt):
    """smoke_test_metrics.json, and how many of the six passed."""

    metrics: Content
    passed: int


def smoke(request: SmokeTest, context: Context) -> SmokeTested:
    """Run the six; a test that fails is told in the metrics and costs gate 0, not the job."""
    with tempfile.TemporaryDirectory() as folder:
        layout = Layout(Path(folder))
        metrics = Smoke(_config(request, layout.root), layout, request.samples, request.device).run()
        path = place(layout.smoke_metrics, Layout(context.folder).smoke_metrics)
    return SmokeTested(metrics=Content.of(path), passed=sum(one["passed"] for one in metrics["tests"].values()))


def _config(request: SmokeTest, folder: Path) -> Config:
    """The request as a configuration: a registry of one model, its files where they lie."""
    tokenizer = str(request.tokenizer.checked()) if request.tokenizer else None
    where = {"checkpoint_path": str(request.model.checked()), "tokenizer_path": tokenizer}
    entry = request.entry.model_copy(update=where)
    registry = write_json(folder / "registry.yaml", {"models": {request.name: entry.model_dump(mode="json")}})
    paths = Paths(
        positives=request.positives.checked(), negatives=request.negatives.checked(), model_registry=registry,
        output=folder,
    )  # fmt: skip
    model = request.plan.model.model_copy(update={"name": request.name})
    return Config(file=registry, plan=request.plan.model_copy(update={"model": model}), paths=paths)
