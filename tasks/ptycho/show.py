"""What a run of the study shows: verdict, page and tables as artifacts, the auditor's bundle, the run's end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prefect.client.schemas.objects import State

from ptycho_core.evaluation.gates import StudyVerdict
from ptycho_core.layout import Layout
from study_core.files import place, read_json, sha256_of, write_json
from study_core.plan import identity
from tasks import artifacts, outcome
from tasks.bundle import write_bundle
from tasks.ptycho import golden
from tasks.ptycho.steps import Study
from tasks.ptycho.waves import Progress
from tasks.run import Run

HUB = "hub"
JUDGE = "ptycho_core.replay:replay_bundle"
_RECORDS = frozenset({".json", ".csv", ".md", ".html", ".log"})
REPLAY = """# Replay

`gated replay --bundle auditors_bundle.zip` (without this house: `python -m ptycho_core replay --hub hub`) computes each
metric again from the archived images and the truth beside them, judges with the recorded thresholds, and says `equal`
or what differs. Patterns, networks and solvers are not needed and not here; the manifests name their SHA-256. Ratios of
deviance are taken as recorded: they need the patterns.
"""


def conclude(run: Run, study: Study, progress: Progress) -> State[Any]:
    """Judge, show, and end the run: Completed, or Failed naming gates, cells and jobs that were lost."""
    if not progress.delivered:
        lines = "; ".join(f"{name}: {why}" for name, why in progress.lost.items()) or "every view was skipped"
        return outcome.failed(run, "NothingDelivered", f"nothing delivered: {lines}")
    verdict = publish(run, study)
    if not verdict.passed:
        return outcome.failed(run, outcome.GATE_FAILED, verdict.sentence(), _told(verdict, progress))
    if progress.lost:
        lost = "; ".join(f"{name}: {why}" for name, why in progress.lost.items())
        return outcome.failed(run, outcome.JOB_LOST, f"{verdict.sentence()}, but {lost}")
    blessed = golden.ask(run, study, verdict.sentence()) if study.plan.approval.ask else ""
    return outcome.conclude(run, "; ".join(part for part in (verdict.sentence(), blessed) if part))


def _told(verdict: StudyVerdict, progress: Progress) -> str:
    return "\n".join([verdict.sentence(), *(f"{name}: {why}" for name, why in progress.lost.items())])


def publish(run: Run, study: Study) -> StudyVerdict:
    """Write verdict, summary and page into the hub; show them; archive what they rest on in the run's folder."""
    from ptycho_core.report import tables  # matplotlib takes a second: only a verdict pays
    from ptycho_core.report.record import read_study
    from ptycho_core.summary import write_summary

    layout = study.layout
    if (jobs := run.folder / "jobs.csv").exists():
        place(jobs, layout.hub / jobs.name)
    written = write_summary(layout.hub, study.thresholds)
    verdict, record = written.verdict, read_study(layout.hub)
    run.event("verdict", verdict.sentence(), failed_cells=list(verdict.failed_cells), lost=list(verdict.lost))
    artifacts.publish_page(run, "report", written.page, "Start here")
    for what, table, said in (
        ("matrix", tables.matrix(record), "Phase MS-SSIM by dose, view and arm"),
        ("gates", tables.gates(verdict), verdict.sentence()),
        ("views", tables.views(record), "Views, their groups and measured overlap"),
        ("numbers", tables.numbers(record), "Every number of every arm"),
    ):
        artifacts.publish_table(run, what, table.records(), said)
    for path in archived(layout):
        place(path, run.folder / HUB / path.relative_to(layout.hub))
    write_json(run.folder / "verdict.json", {**verdict.record(), **origin(layout), "judge": JUDGE})
    place(written.report, run.folder / "report.html")
    run.event("report", f"Report: {run.folder / 'report.html'}", sha256=sha256_of(written.report))
    bundle = write_bundle(run.folder, {"REPLAY.md": REPLAY}, run.folder / "auditors_bundle.zip")
    run.event("bundle", f"Auditor's bundle: {bundle}", sha256=sha256_of(bundle))
    return verdict


def origin(layout: Layout) -> dict[str, str]:
    """What the verdict was judged on: simulated data, named by the hashes that stand in their manifest."""
    made = read_json(layout.run_manifest)
    hashes = {dose: entry["sha256"] for dose, entry in made.items() if isinstance(entry, dict) and "sha256" in entry}
    return {"data": "simulated from its design", "data_sha256": identity(hashes)}


def archived(layout: Layout) -> Iterator[Path]:
    """What a verdict rests on: every record, and the compared images with their truth; no patterns, no weights."""
    compared = layout.hub / "compare"
    for path in sorted(layout.hub.rglob("*")):
        if (
            path.is_file()
            and not path.name.startswith(".")
            and (path.suffix in _RECORDS or (path.suffix == ".npz" and compared in path.parents))
        ):
            yield path
