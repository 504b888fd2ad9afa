"""What a run of the denoiser shows: files collected into its folder, artifacts, report and auditor's bundle."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pandas as pd

from denoise_core.jobs.train import Trained
from study_core.files import place, place_tree, sha256_of, write_json
from study_core.markdown import markdown_table
from study_core.report.blocks import Page
from tasks import artifacts, compare
from tasks.bundle import write_bundle
from tasks.denoise.inputs import Data
from tasks.denoise.judging import PanelReport
from tasks.provenance import ROOT
from tasks.run import Run, logger
from tasks.runs import RunFacts


def collect(run: Run, trained: Trained) -> None:
    """Bring a training's logs and best checkpoint into the run's folder."""
    place(trained.best.path, run.folder / trained.best.path.relative_to(trained.folder))
    place_tree(trained.folder / "logs", run.folder / "logs")


def publish(run: Run, data: Data, trained: Trained | None, report: PanelReport) -> Shown:
    """Collect the run's files and show them: verdict, gates, controls, training curve, model card, comparison."""
    if trained is not None:
        collect(run, trained)
    write_json(run.folder / "verdict.json", report.best.model_dump(mode="json"))
    run.event("verdict", report.best.sentence(), gates=report.best.table(), candidate=report.best.candidate_sha256)
    artifacts.publish_table(run, "gates", report.best.table(), report.best.sentence())
    controls = report.best.facts.get("controls", [])
    artifacts.publish_table(run, "controls", controls, "The candidate beside the controls, same panel, same reference")
    artifacts.publish_markdown(run, "model-card", model_card(report, trained), "The verdict on half a page")
    if trained is not None:
        rows = csv_rows(trained.metrics_csv)
        artifacts.publish_table(run, "training-curve", rows, "One row an epoch, as in metrics.csv")
    shown = document(run, data)
    compared(run)
    return shown


@dataclass
class Shown:
    """A run's report and bundle: made once it is judged, and again once its candidate is in production or not."""

    run: Run
    data: Data
    page: Page
    artifacts: list[UUID | None] = field(default_factory=list)

    def again(self) -> None:
        """What became of the candidate stands on top of the report, and in the bundle that holds it."""
        from denoise_core.report.page import concluded

        self.page = concluded(self.page, self.run.folder)
        self.write()

    def write(self) -> None:
        from denoise_core.report.documents import bundle_documents
        from denoise_core.report.page import REPORT, write_page

        run, data = self.run, self.data
        path = write_page(self.page, run.folder / REPORT)
        run.event("report", f"Report: {path}", sha256=sha256_of(path))
        self.artifacts = artifacts.publish_page(run, "report", self.page, "Start here", self.artifacts)
        documents = bundle_documents(run.folder, data.corpus, data.panel, data.training)
        bundle = write_bundle(run.folder, documents, run.folder / "auditors_bundle.zip")
        run.event("bundle", f"Auditor's bundle: {bundle}", sha256=sha256_of(bundle))


def document(run: Run, data: Data) -> Shown:
    """The report, the same in pieces as artifacts, and the auditor's bundle."""
    from denoise_core.report.page import compose  # matplotlib takes a second: only a verdict pays
    from denoise_core.report.record import write_inputs

    write_inputs(run.folder, data.corpus, data.panel, data.training)
    shown = Shown(run, data, compose(run.folder, data.corpus, data.panel, data.training))
    shown.write()
    return shown


def compared(run: Run) -> None:
    """The run beside the one whose model is in production, or the last one on the same panel, as an artifact.

    Another run's folder may be damaged: that costs the picture, never this run.
    """
    from denoise_core.report.comparison import blocks
    from denoise_core.report.labels import gate_row
    from denoise_core.report.words import WORDS

    beside = compare.peer(run)
    if beside is None:
        return
    try:
        page = compare.page([RunFacts(run.folder), beside], partial(blocks, root=ROOT), gate_row, WORDS)
    except Exception as error:
        logger().warning("not compared with %s: %s", beside.folder, error)
        return
    artifacts.publish_page(run, "comparison", page, f"This run beside {beside.name}")


def csv_rows(path: Path) -> list[dict[str, Any]]:
    return records(pd.read_csv(path))


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A frame's rows for a table artifact."""
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def model_card(report: PanelReport, trained: Trained | None) -> str:
    """The model card in markdown: verdict, figures, gates, notices."""
    best = report.best
    lines = [
        f"**{best.sentence()}**",
        "",
        f"Checkpoint `{Path(best.candidate).name}`, SHA-256 `{best.candidate_sha256}`.",
    ]
    if trained is not None and best.candidate_sha256 in {content.sha256 for content in trained.top}:
        lines += ["", f"Best epoch {trained.best_epoch} of {trained.epochs_run} run."]
    rows = [(row["verdict"], row["gate"], row["metric"], _number(row["value"]), row["needs"]) for row in best.table()]
    lines += ["", markdown_table(("verdict", "gate", "metric", "value", "needs"), rows)]
    lines += ["", *(f"- {notice}" for notice in best.facts.get("notices", []))]
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "missing" if value is None else f"{value:.5g}"
