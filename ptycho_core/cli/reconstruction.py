"""Command of phase F: reconstruct."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ptycho_core.cli.common import Doses, DryRun, Hub, SizeOption, study_of
from ptycho_core.layout import Layout
from ptycho_core.lsqml import LsqmlOptions, available
from ptycho_core.reconstruction_matrix import (
    ReconstructionJob,
    build_reconstruction_jobs,
    options_for,
    reconstruction_entry,
    write_reconstruction_manifest,
)
from study_core.cli import GATE_FAILED, Json, say, shown
from study_core.errors import BadInput

app = typer.Typer()


@app.command()
def reconstruct(
    hub: Hub = None,
    dose: Doses = None,
    view: Annotated[list[str] | None, typer.Option("--view", help="baseline (all positions), dense, sparse.")] = None,
    split: Annotated[str, typer.Option(help="test, train, or all.")] = "test",
    epochs: Annotated[int | None, typer.Option(min=1, help="Instead of the design's number (100).")] = None,
    noise: Annotated[str, typer.Option(help="poisson or gaussian.")] = "poisson",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N.")] = "auto",
    dry_run: DryRun = False,
    size: SizeOption = None,
    as_json: Json = False,
) -> None:
    """Reconstruct every cell by LSQML from a flat start; what is done already is not repeated."""
    if split not in ("test", "train", "all"):
        raise BadInput(f"no split {split!r}", remedy="test, train or all")
    if noise not in ("poisson", "gaussian"):
        raise BadInput(f"no noise model {noise!r}", remedy="poisson or gaussian")
    study, skips = study_of(hub, size), list[dict[str, Any]]()
    layout, options = Layout(study.hub), options_for(study.design, noise, epochs)
    doses, views = study.doses(dose), study.views(view, everything=True)
    jobs = build_reconstruction_jobs(
        study.design, study.hub, skip_events=skips,
        splits=("test", "train") if split == "all" else (split,),  # type: ignore[arg-type]
    )  # fmt: skip
    jobs = [job for job in jobs if job.dose in doses and job.view in views]
    skips = [skip for skip in skips if skip["dose"] in doses and skip["view"] in views]
    if not jobs and not skips:
        raise BadInput("no cell matches the filters", remedy="leave one out")
    fault = "" if dry_run else available()
    entries = []
    for job in jobs:
        entries.append(_entry(job, layout, options, device, dry_run, fault))
        write_reconstruction_manifest(layout, study.design, entries, skips, dry_run=dry_run)
        if not as_json:
            print(_line(job, entries[-1]), flush=True)
    if not jobs:
        write_reconstruction_manifest(layout, study.design, [], skips, dry_run=dry_run)
    failed = [entry for entry in entries if entry["status"] == "failed"]
    text = [f"skipped: dose {skip['dose']:g} {skip['view']} {skip['split']}: {skip['reason']}" for skip in skips]
    text += [fault] if fault else []
    text += [f"{len(entries)} jobs, {len(failed)} failed", str(layout.reconstruction_manifest)]
    told = {"manifest": layout.reconstruction_manifest, "jobs": entries, "skipped_views": skips}
    say(told, as_json, "\n".join(text))
    if failed:
        raise typer.Exit(GATE_FAILED)


def _entry(
    job: ReconstructionJob, layout: Layout, options: LsqmlOptions, device: str, dry_run: bool, fault: str
) -> dict[str, Any]:
    """Reconstruct one cell; a failure is its result, and without pty-chi every cell is a skip."""
    from ptycho_core.jobs.reconstruct import Reconstruct
    from ptycho_core.jobs.reconstruct import reconstruct as run_reconstruction
    from study_core.job import Content

    patterns = Content.of(job.patterns)
    if dry_run or fault:
        status = "dry-run" if dry_run else "skipped"
        return reconstruction_entry(job, layout, None, input_sha256=patterns.sha256, status=status, error=fault or None)
    try:
        request = Reconstruct(options=options, patterns=patterns, device=device)
        with shown(job.name, job.folder) as context:
            done = run_reconstruction(request, context)
    except (BadInput, OSError) as error:
        return reconstruction_entry(job, layout, None, input_sha256=patterns.sha256, status="failed", error=str(error))
    return reconstruction_entry(
        job, layout, done.model_dump(), input_sha256=patterns.sha256, output=done.reconstruction.path,
        output_sha256=done.reconstruction.sha256, status="success",
    )  # fmt: skip


def _line(job: ReconstructionJob, entry: dict[str, Any]) -> str:
    if entry["status"] != "success":
        return f"{job.name}: {entry['status']}" + (f": {entry['error']}" if entry["error"] else "")
    return (
        f"{job.name}: {entry['num_epochs']} epochs, deviance ratio {entry['deviance_ratio']:.4f}, amplitude ratio "
        f"{entry['amplitude_ratio_to_start']:.4f}, {entry['seconds']:.1f} s"
    )
