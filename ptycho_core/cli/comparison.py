"""Commands of the phases G and H: compare, summary, replay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ptycho_core.cli.common import Doses, DryRun, Hub, SizeOption, Study, study_of
from study_core.cli import GATE_FAILED, Json, say, shown
from study_core.errors import BadInput

if TYPE_CHECKING:
    from ptycho_core.comparison_matrix import ComparisonJob

app = typer.Typer()


@app.command()
def compare(
    hub: Hub = None,
    dose: Doses = None,
    view: Annotated[list[str] | None, typer.Option("--view", help="baseline (all positions), dense, sparse.")] = None,
    ms_ssim_sigma: Annotated[
        float | None, typer.Option("--ms-ssim-sigma", min=0, help="Must be the design's; a study has one metric.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N.")] = "auto",
    dry_run: DryRun = False,
    size: SizeOption = None,
    as_json: Json = False,
) -> None:
    """Hold every arm of a cell to the truth; a missing arm is an empty row with its reason. Opens the test truth."""
    from ptycho_core.comparison_matrix import build_comparison_jobs, write_comparison_manifest
    from ptycho_core.layout import Layout

    study = study_of(hub, size)
    wanted = study.design.metrics.ms_ssim_sigma
    if ms_ssim_sigma is not None and ms_ssim_sigma != wanted:
        raise BadInput(
            f"--ms-ssim-sigma {ms_ssim_sigma:g}, the design says {wanted:g}", remedy="leave it out, or use another hub"
        )
    layout, skips = Layout(study.hub), list[dict[str, Any]]()
    doses, views = study.doses(dose), study.views(view, everything=True)
    jobs = build_comparison_jobs(study.design, study.hub, skip_events=skips)
    jobs = [job for job in jobs if job.dose in doses and job.view in views]
    skips = [skip for skip in skips if skip["dose"] in doses and skip["view"] in views]
    if not jobs and not skips:
        raise BadInput("no cell matches the filters", remedy="leave one out")
    entries = []
    for job in jobs:
        entries.append(_entry(study, job, device, dry_run))
        if not as_json:
            print(_lines(entries[-1]), flush=True)
    write_comparison_manifest(layout, study.design, entries, skips, dry_run=dry_run)
    failed = [entry for entry in entries if entry["status"] == "failed"]
    done = [entry for entry in entries if entry["status"] == "success"]
    text = [f"skipped: dose {skip['dose']:g} {skip['view']}: {skip['reason']}" for skip in skips]
    text += [f"n_success {len(done)}, n_failed {len(failed)}, skipped {len(skips)}", str(layout.comparison_manifest)]
    say({"manifest": layout.comparison_manifest, "jobs": entries, "n_success": len(done), "n_failed": len(failed),
         "skipped_views": skips}, as_json, "\n".join(text))  # fmt: skip
    if failed:
        raise typer.Exit(GATE_FAILED)


def _entry(study: Study, job: ComparisonJob, device: str, dry_run: bool) -> dict[str, Any]:
    """Compare one cell; a failure is its result, so that the others go on."""
    from ptycho_core.comparison_matrix import comparison_entry, comparison_request
    from ptycho_core.jobs.compare import compare as run_comparison
    from ptycho_core.layout import Layout

    layout = Layout(study.hub)
    if dry_run:
        return comparison_entry(job, layout, None, "dry-run")
    try:
        request = comparison_request(job, study.design, study.hub, device)
        with shown(job.name, job.folder) as context:
            done = run_comparison(request, context)
    except (BadInput, OSError) as error:
        return comparison_entry(job, layout, None, "failed", str(error))
    return comparison_entry(job, layout, done, "success")


def _lines(entry: dict[str, Any]) -> str:
    """A cell for a terminal: phase MS-SSIM, MAE and FRC50 of each arm."""
    head = f"dose {entry['dose']:g} {entry['view']}: {entry['status']}"
    if entry["status"] != "success":
        return head + (f": {entry['error']}" if entry["error"] else "")
    rows = [head + f", {entry['n_images']} images, {entry['lit_fraction']:.0%} lit"]
    for arm in entry["arms"]:
        numbers = arm["numbers"]
        figures = "" if not numbers else (
            f"phase MS-SSIM {_three(numbers['ph_ms_ssim'])}, MAE {_three(numbers['ph_mae'])} rad, "
            f"FRC50 {_three(numbers['ph_frc50'])}, deviance ratio {_three(numbers['deviance_ratio'])}"
        )  # fmt: skip
        rows.append(f"  {arm['name']:<16} " + "; ".join(part for part in (figures, arm["reason"] or "") if part))
    return "\n".join(rows)


def _three(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


@app.command()
def summary(hub: Hub = None, size: SizeOption = None, as_json: Json = False) -> None:
    """Judge the study, write summary.md, report.html and verdict.json. Exit 0 passed, 3 a gate refused."""
    from ptycho_core.summary import write_summary

    study = study_of(hub, size)
    written = write_summary(study.hub)
    verdict = written.verdict
    say({"passed": verdict.passed, "sentence": verdict.sentence(), "failed_cells": verdict.failed_cells,
         "summary": written.summary, "report": written.report}, as_json,
        f"{verdict.sentence()}\n{written.summary}\n{written.report}")  # fmt: skip
    if not verdict.passed:
        raise typer.Exit(GATE_FAILED)


@app.command()
def replay(
    hub: Hub = None,
    size: SizeOption = None,
    as_json: Json = False,
) -> None:
    """Compute metrics and verdict again from the archived images and the truth. Exit 0 equal, 3 something differs."""
    from ptycho_core.replay import replay_hub

    study = study_of(hub, size)
    found = replay_hub(study.hub)
    say({"equal": found.equal, "compared": found.compared, "differences": [str(one) for one in found.differences],
         "notes": list(found.notes)}, as_json, "\n".join(found.lines()))  # fmt: skip
    if not found.equal:
        raise typer.Exit(GATE_FAILED)
