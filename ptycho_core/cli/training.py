"""Commands of phase E: train, check-loss, promote-reference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ptycho_core.cli.common import DryRun, Hub, SizeOption, Study, study_of
from study_core.cli import GATE_FAILED, Json, say, shown
from study_core.errors import BadInput, NonFiniteLoss

if TYPE_CHECKING:
    from ptycho_core.matrix import TrainingJob

app = typer.Typer()


@app.command()
def train(
    hub: Hub = None,
    dose: Annotated[list[float] | None, typer.Option("--dose", help="Only this dose; may be given again.")] = None,
    view: Annotated[list[str] | None, typer.Option("--view", help="baseline (all positions), dense, sparse.")] = None,
    gridsize: Annotated[int | None, typer.Option(help="Only this gridsize.")] = None,
    seed: Annotated[int | None, typer.Option(help="This training seed; default: all of the design.")] = None,
    arm: Annotated[str, typer.Option(help="pinn, baseline (supervised on the train half), or all.")] = "pinn",
    iterations: Annotated[int | None, typer.Option(min=1, help="Instead of the design's number.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N.")] = "auto",
    dry_run: DryRun = False,
    allow_missing_views: Annotated[
        bool, typer.Option("--allow-missing-views/--strict", help="Skip a view without data, or refuse.")
    ] = True,
    size: SizeOption = None,
    as_json: Json = False,
) -> None:
    """Train the matrix of dose, view and gridsize; what is done already is not repeated."""
    from ptycho_core.layout import Layout
    from ptycho_core.manifests import job_entry, write_training_manifest
    from ptycho_core.matrix import build_training_jobs

    study = study_of(hub, size)
    layout, skips = Layout(study.hub), list[dict[str, Any]]()
    if arm not in ("pinn", "baseline", "all"):
        raise BadInput(f"no arm {arm!r}", remedy="pinn, baseline or all")
    doses, views = study.doses(dose), study.views(view, everything=True)
    jobs = build_training_jobs(
        study.design, study.hub, allow_missing=allow_missing_views, skip_events=skips,
        arms=("pinn", "baseline") if arm == "all" else (arm,),  # type: ignore[arg-type]
        seeds=study.design.seeds.training if seed is None else (seed,),
    )  # fmt: skip
    jobs = [job for job in jobs if job.dose in doses and job.view in views and gridsize in (None, job.gridsize)]
    skips = [skip for skip in skips if skip["dose"] in doses and skip["view"] in views]
    if not jobs and not skips:
        raise BadInput("no job matches the filters", remedy="leave one out")
    entries = []
    for job in jobs:
        result = _result(study, job, iterations, device, dry_run)
        entries.append(job_entry(job, layout, result))
        if not as_json:
            print(_line(job, result), flush=True)
        filters = {"dose": dose, "view": view, "gridsize": gridsize, "seed": seed, "arm": arm}
        write_training_manifest(layout, study.design, entries, skips, filters=filters, dry_run=dry_run)
    if not jobs:
        write_training_manifest(layout, study.design, [], skips, filters={}, dry_run=dry_run)
    for skip in skips if not as_json else ():
        print(f"skipped: dose {skip['dose']:g} {skip['view']}: {skip['reason']}")
    failed = [entry for entry in entries if entry["result"]["status"] == "failed"]
    say({"manifest": layout.training_manifest, "jobs": entries, "skipped_views": skips, "skipped_count": len(skips)},
        as_json, f"{len(entries)} jobs, {len(failed)} failed, skipped views: {len(skips)}\n{layout.training_manifest}",
        )  # fmt: skip
    if failed:
        raise typer.Exit(GATE_FAILED)


def _result(study: Study, job: TrainingJob, iterations: int | None, device: str, dry_run: bool) -> dict[str, Any]:
    """Run one job; a failure is its result, so that the others go on."""
    from ptycho_core.manifests import bundle_result, empty_result

    if dry_run:
        return empty_result("dry-run")
    from ptycho_core.jobs.train import Train
    from ptycho_core.jobs.train import train as run_training
    from ptycho_core.layout import Layout
    from ptycho_core.recipes import Recipe, recipe_for
    from study_core.job import Content

    recipe = recipe_for(study.design, job.arm, job.gridsize, job.seed)
    if iterations is not None:
        recipe = Recipe.model_validate({**recipe.model_dump(), "iterations": iterations})
    try:
        truth = Content.of(job.truth) if job.truth else None
        request = Train(
            recipe=recipe, train=Content.of(job.train), test=Content.of(job.test), truth=truth, device=device
        )
        with shown(job.name, job.artifact_dir) as context:
            done = run_training(request, context)
    except (BadInput, NonFiniteLoss, OSError) as error:
        _log(job, f"failed: {error}")
        return empty_result("failed", str(error))
    result = bundle_result(done.bundle.path, done.bundle.sha256, done.model_dump(), Layout(study.hub))
    _log(job, _line(job, result))
    return result


def _line(job: TrainingJob, result: dict[str, Any]) -> str:
    if result["status"] != "success":
        return f"{job.name}: {result['status']}" + (f": {result['error']}" if result["error"] else "")
    return (
        f"{job.name}: deviance ratio {result['deviance_ratio_test']:.4f} (patch {result['deviance_ratio_patch']:.4f}, "
        f"flat {result['deviance_ratio_flat']:.4f}), {result['iterations_completed']} iterations, "
        f"{result['seconds']:.1f} s\n  bundle_path {result['bundle_path']}\n  bundle_sha256 {result['bundle_sha256']}"
    )


def _log(job: TrainingJob, line: str) -> None:
    job.artifact_dir.mkdir(parents=True, exist_ok=True)
    job.log_path.write_text(line + "\n", encoding="utf-8")


@app.command(name="check-loss")
def check_loss_command(
    reference: Annotated[Path, typer.Option(help="The golden training_manifest.json.")],
    candidate: Annotated[Path, typer.Option(help="The training_manifest.json to judge.")],
    dose: Annotated[float, typer.Option(help="Photons a pattern.")],
    view: Annotated[str, typer.Option(help="baseline, dense, sparse.")],
    gridsize: Annotated[int, typer.Option(help="1 or 2.")],
    seed: Annotated[int | None, typer.Option(help="Training seed; default: the first of the cell.")] = None,
    arm: Annotated[str, typer.Option(help="pinn or baseline.")] = "pinn",
    tolerance: Annotated[float, typer.Option(min=0, help="Added to the reference's deviance ratio.")] = 0.05,
    as_json: Json = False,
) -> None:
    """Hold one training to the golden manifest: exit 0, or 3 and why; the verdict is kept beside the candidate."""
    from ptycho_core.check_loss import archive_check, check_loss
    from ptycho_core.manifests import read_manifest

    check = check_loss(
        read_manifest(reference), read_manifest(candidate), dose=dose, view=view, gridsize=gridsize, seed=seed, arm=arm,
        tolerance=tolerance,
    )  # fmt: skip
    archive_check(check, candidate)
    say({"passed": check.passed, "line": check.line, **check.numbers}, as_json, check.line)
    if not check.passed:
        raise typer.Exit(GATE_FAILED)


@app.command(name="promote-reference")
def promote_reference_command(
    manifest: Annotated[Path, typer.Option(help="The training_manifest.json that somebody looked at.")],
    by: Annotated[str, typer.Option(help="Who looked.")],
    note: Annotated[str, typer.Option(help="At what, and what was seen.")],
    hub: Hub = None,
    as_json: Json = False,
) -> None:
    """Make a manifest the golden reference of its hub. A person does this, never a run."""
    from ptycho_core.check_loss import promote_reference
    from ptycho_core.layout import Layout

    reference = promote_reference(manifest, Layout(hub or manifest.parent).reference_manifest, by=by, note=note)
    say({"reference": reference}, as_json, str(reference))
