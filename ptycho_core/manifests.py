"""`training_manifest.json` and `skip_summary.json`: what was trained, where it lies, what was left out and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ptycho_core.design import StudyDesign
from ptycho_core.layout import Layout
from ptycho_core.matrix import TrainingJob
from study_core.errors import BadInput
from study_core.files import locked, peek_json, read_json, write_json

CELL = ("dose", "view", "gridsize", "seed", "arm")
SCORES = (
    "final_loss", "loss_kind", "deviance_ratio_test", "deviance_ratio_patch", "deviance_ratio_flat",
    "iterations_completed", "seconds",
)  # fmt: skip


def job_entry(job: TrainingJob, layout: Layout, result: Mapping[str, Any]) -> dict[str, Any]:
    """One job of the manifest: its cell, its paths below the hub, its result."""

    def below(path: Path) -> str:
        return path.relative_to(layout.hub).as_posix()

    return {
        "dose": job.dose, "view": job.view, "gridsize": job.gridsize, "seed": job.seed, "arm": job.arm,
        "train": below(job.train), "test": below(job.test), "artifact_dir": below(job.artifact_dir),
        "log_path": below(job.log_path), "result": dict(result),
    }  # fmt: skip


def bundle_result(bundle: Path, sha256: str, scores: Mapping[str, Any], layout: Layout) -> dict[str, Any]:
    """The result of a training that succeeded."""
    return {
        "status": "success", "error": None, **{name: scores[name] for name in SCORES},
        "bundle_path": bundle.relative_to(layout.hub).as_posix(), "bundle_sha256": sha256,
        "bundle_size_bytes": bundle.stat().st_size,
    }  # fmt: skip


def empty_result(status: str, error: str | None = None) -> dict[str, Any]:
    """The result of a job that has no bundle: failed, skipped or dry-run."""
    return {
        "status": status, "error": error, **dict.fromkeys(SCORES),
        "bundle_path": None, "bundle_sha256": None, "bundle_size_bytes": None,
    }  # fmt: skip


def write_training_manifest(
    layout: Layout,
    design: StudyDesign,
    entries: Sequence[Mapping[str, Any]],
    skips: Sequence[Mapping[str, Any]],
    *,
    filters: Mapping[str, Any],
    dry_run: bool,
) -> Path:
    """Write both files. Jobs of earlier calls stay beside the new ones; a dry run takes no result away.

    `skips` is what this call left out.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    layout.hub.mkdir(parents=True, exist_ok=True)
    with locked(layout.hub / ".training_manifest.lock"):
        before = peek_json(layout.training_manifest) or {}
        known = before if before.get("design_sha256") == design.sha256() else {}
        jobs = {cell_of(entry): dict(entry) for entry in known.get("jobs", [])}
        for entry in entries:
            if not (entry["result"]["status"] == "dry-run" and cell_of(entry) in jobs):
                jobs[cell_of(entry)] = dict(entry)
        summary = {"timestamp": now, "skipped_views": [dict(one) for one in skips], "skipped_count": len(skips)}
        write_json(layout.skip_summary, summary)
        return write_json(layout.training_manifest, {
            "timestamp": now, "hub": layout.hub.name, "design_sha256": design.sha256(), "backend": "pytorch",
            "filters": dict(filters), "dry_run": dry_run, "jobs": sorted(jobs.values(), key=_order(design)),
            "skipped_views": summary["skipped_views"], "skipped_count": len(skips),
            "skip_summary_path": layout.skip_summary.name,
        })  # fmt: skip


def cell_of(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    """What identifies a job in a manifest."""
    return tuple(entry[name] for name in CELL)


def read_manifest(path: Path) -> dict[str, Any]:
    """A training manifest.

    Raises:
        BadInput: no such file, or none.
    """
    try:
        manifest = read_json(path)
    except FileNotFoundError:
        raise BadInput("no such file", file=path, remedy="run train first") from None
    except ValueError:
        raise BadInput("is not JSON", file=path, remedy="run train again") from None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("jobs"), list):
        raise BadInput("is no training manifest: it has no jobs", file=path, remedy="name training_manifest.json")
    return manifest


def _order(design: StudyDesign) -> Any:
    views = ["baseline", *design.views]

    def key(entry: Mapping[str, Any]) -> tuple[Any, ...]:
        place = views.index(entry["view"]) if entry["view"] in views else len(views)
        return entry["dose"], place, entry["arm"] == "baseline", entry["seed"]

    return key
