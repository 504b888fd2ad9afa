"""What a run of the denoiser shows: files collected into its folder, artifacts, report and auditor's bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from denoise_core.jobs.train import Trained
from study_core.files import place, place_tree, sha256_of, write_json
from tasks import audit
from tasks.audit import Run
from tasks.bundle import write_bundle
from tasks.denoise.inputs import Data
from tasks.denoise.steps import PanelReport

PAGE_CHARACTERS = 1_500_000  # an artifact may have two megabytes


def collect(run: Run, trained: Trained, report: PanelReport | None) -> None:
    """Bring a training's logs and best checkpoint, and its panel audit, into the run's folder."""
    place(trained.best.path, run.folder / trained.best.path.relative_to(trained.folder))
    place_tree(trained.folder / "logs", run.folder / "logs")
    if report is not None:
        place_tree(report.folder, run.folder / "final_analytics" / "panel_eval")


def publish(run: Run, data: Data, trained: Trained | None, report: PanelReport) -> None:
    """Collect the run's files and show them: verdict, gates, controls, training curve, model card."""
    if trained is not None:
        collect(run, trained, report)
    else:
        place_tree(report.folder, run.folder / "final_analytics" / "panel_eval")
    write_json(run.folder / "verdict.json", report.best.model_dump(mode="json"))
    run.event("verdict", report.best.sentence(), gates=report.best.table(), candidate=report.best.candidate_sha256)
    audit.publish_table(run, "gates", report.best.table(), report.best.sentence())
    controls = report.best.facts.get("controls", [])
    audit.publish_table(run, "controls", controls, "The candidate beside the controls, same panel, same reference")
    audit.publish_markdown(run, "model-card", model_card(report, trained), "The verdict on half a page")
    if trained is not None:
        rows = csv_rows(trained.metrics_csv)
        audit.publish_table(run, "training-curve", rows, "One row an epoch, as in metrics.csv")
    document(run, data)


def document(run: Run, data: Data) -> None:
    """The report, the same in pieces as artifacts, and the auditor's bundle."""
    from denoise_core.report.documents import bundle_documents  # matplotlib takes a second: only a verdict pays
    from denoise_core.report.page import REPORT, compose, write_page
    from denoise_core.report.record import write_inputs

    write_inputs(run.folder, data.corpus, data.panel, data.training)
    page = compose(run.folder, data.corpus, data.panel, data.training)
    path = write_page(page, run.folder / REPORT)
    run.event("report", f"Report: {path}", sha256=sha256_of(path))
    publish_pieces(run, page)
    documents = bundle_documents(run.folder, data.corpus, data.panel, data.training)
    bundle = write_bundle(run.folder, documents, run.folder / "auditors_bundle.zip")
    run.event("bundle", f"Auditor's bundle: {bundle}", sha256=sha256_of(bundle))


def publish_pieces(run: Run, page: Any) -> None:
    """A composed page in reading order as one artifact, or as few as its size allows.

    The UI shows a run's artifacts in no order: a piece each would be a shuffled report.
    """
    from denoise_core.report.page import artifact_pieces

    pages = [""]
    for _, _, title, content in artifact_pieces(page):
        text = content if isinstance(content, str) else f"### {title}\n\n{_markdown_table(content)}\n"
        if pages[-1] and len(pages[-1]) + len(text) > PAGE_CHARACTERS:
            pages.append("")
        pages[-1] += f"{text}\n"
    for number, text in enumerate(pages, start=1):
        part = "" if len(pages) == 1 else f", part {number} of {len(pages)}"
        audit.publish_markdown(run, "report" if number == 1 else f"report-{number}", text, f"Start here{part}")


def _markdown_table(rows: Sequence[Mapping[str, str]]) -> str:
    from denoise_core.report.blocks import markdown_table

    columns = list(rows[0]) if rows else []
    return markdown_table(columns, [[row[name] for name in columns] for row in rows])


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
    if trained is not None:
        lines += ["", f"Best epoch {trained.best_epoch} of {trained.epochs_run} run."]
    lines += ["", "| verdict | gate | metric | value | needs |", "|---|---|---|---|---|"]
    lines += [
        f"| {row['verdict']} | {row['gate']} | {row['metric']} | {_number(row['value'])} | {row['needs']} |"
        for row in best.table()
    ]
    lines += ["", *(f"- {notice}" for notice in best.facts.get("notices", []))]
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "missing" if value is None else f"{value:.5g}"
