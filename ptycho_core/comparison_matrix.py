"""The matrix of comparisons: which arms meet in which cell, from what lies below a hub, and the manifest of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ptycho_core.comparison import FLAT, GS1, LSQML, PINN, SUPERVISED, ArmName
from ptycho_core.design import ALL, StudyDesign, dose_name
from ptycho_core.jobs.compare import METRICS, ArmFile, Compare, Compared
from ptycho_core.layout import Layout
from study_core.files import locked, peek_json, read_json, write_json
from study_core.job import Content

BUNDLE, RECONSTRUCTION = "bundle.zip", "reconstruction.npz"


@dataclass(frozen=True)
class ComparisonJob:
    """One cell, and the arms that should be in it, as (arm, seed, file that may be missing)."""

    dose: float
    view: str
    arms: tuple[tuple[ArmName, int, Path | None], ...]
    folder: Path

    @property
    def name(self) -> str:
        """For people: `dose_1000 dense`."""
        return f"{dose_name(self.dose)} {self.view}"


def build_comparison_jobs(
    design: StudyDesign, hub: Path, *, skip_events: list[dict[str, Any]] | None = None
) -> list[ComparisonJob]:
    """Every cell with patterns, by dose, all positions first; one that was skipped is appended to `skip_events`."""
    layout, jobs = Layout(hub), []
    for dose in design.doses:
        for view in (ALL, *design.views):
            test = layout.dataset(dose, view, "test")
            if test.exists():
                jobs.append(ComparisonJob(dose, view, _arms(design, layout, dose, view), layout.comparison(dose, view)))
            elif skip_events is not None:
                skip_events.append({"dose": dose, "view": view, "reason": _reason(layout, dose, view, test)})
    return jobs


def _arms(
    design: StudyDesign, layout: Layout, dose: float, view: str
) -> tuple[tuple[ArmName, int, Path | None], ...]:  # fmt: skip
    """Networks are shown the view's own patterns, whichever they were trained on; so every arm sees the same."""
    arms: list[tuple[ArmName, int, Path | None]] = []
    for seed in design.seeds.training:
        if view != ALL:
            folder = layout.training(dose, view, max(design.gridsizes), seed=seed)
            arms.append((PINN, seed, folder / BUNDLE))
        if 1 in design.gridsizes:
            arms.append((GS1, seed, layout.training(dose, ALL, 1, seed=seed) / BUNDLE))
        arms.append((SUPERVISED, seed, layout.training(dose, ALL, 1, seed=seed, arm="baseline") / BUNDLE))
    arms.append((LSQML, 0, layout.reconstruction(dose, view, "test") / RECONSTRUCTION))
    arms.append((FLAT, 0, None))
    return tuple(sorted(arms, key=lambda arm: (_ORDER.index(arm[0]), arm[1])))


_ORDER = (PINN, GS1, SUPERVISED, LSQML, FLAT)


def _reason(layout: Layout, dose: float, view: str, missing: Path) -> str:
    record = peek_json(layout.skip(dose, view, "test")) if view != ALL else None
    if record:
        return str(record["reason"])
    return f"{missing.relative_to(layout.hub).as_posix()} is missing: run generate and overlap"


def comparison_request(job: ComparisonJob, design: StudyDesign, hub: Path, device: str = "auto") -> Compare:
    """The request of one cell as its files are now; an arm without a file says why."""
    layout = Layout(hub)
    reasons = missing_reasons(layout, design)
    arms = []
    for arm, seed, file in job.arms:
        content = Content.of(file) if file is not None and file.exists() else None
        missing = "" if content or arm == FLAT else reasons.get((arm, job.dose, job.view, seed), _unmade(arm))
        arms.append(ArmFile(arm=arm, seed=seed, file=content, missing=missing))
    return Compare(
        dose=job.dose, view=job.view, metrics=design.metrics, lit_energy=design.lit_energy,
        test=Content.of(layout.dataset(job.dose, job.view, "test")),
        field=Content.of(layout.dataset(job.dose, ALL, "test")),
        truth=Content.of(layout.truth(job.dose)), arms=tuple(arms), device=device,
    )  # fmt: skip


def _unmade(arm: str) -> str:
    return "no reconstruction: run reconstruct" if arm == LSQML else "no bundle: run train --arm all"


def missing_reasons(layout: Layout, design: StudyDesign) -> dict[tuple[str, float, str, int], str]:
    """What the manifests say of trainings and reconstructions without a result, by (arm, dose, view, seed)."""
    reasons: dict[tuple[str, float, str, int], str] = {}
    for job in (peek_json(layout.training_manifest) or {}).get("jobs", []):
        result = job["result"]
        if result["status"] != "failed":
            continue
        grouped = job["view"] != ALL
        arm = SUPERVISED if job["arm"] == "baseline" else PINN if grouped else GS1
        for view in [job["view"]] if grouped else (ALL, *design.views):
            reasons[arm, job["dose"], view, job["seed"]] = str(result["error"])
    for job in (peek_json(layout.reconstruction_manifest) or {}).get("jobs", []):
        if job.get("split") == "test" and job.get("error"):
            reasons[LSQML, job["dose"], job["view"], 0] = str(job["error"])
    return reasons


def comparison_entry(job: ComparisonJob, layout: Layout, done: Compared | None, status: str, error: str | None = None,
                     ) -> dict[str, Any]:  # fmt: skip
    """One cell of the manifest; with its rows where it was compared."""

    def below(path: Path) -> str:
        return path.relative_to(layout.hub).as_posix()

    record = read_json(done.metrics.path) if done else None
    return {
        "dose": job.dose, "view": job.view, "status": status, "error": error, "folder": below(job.folder),
        "metrics_path": below(job.folder / METRICS) if done else None,
        "metrics_sha256": done.metrics.sha256 if done else None,
        "arms": record["arms"] if record else [],
        **{name: record[name] if record else None for name in ("n_images", "n_groups", "lit_px", "lit_fraction")},
    }  # fmt: skip


def write_comparison_manifest(
    layout: Layout, design: StudyDesign, entries: Sequence[Mapping[str, Any]], skips: Sequence[Mapping[str, Any]], *,
    dry_run: bool,
) -> Path:  # fmt: skip
    """Lay the entries over those of earlier calls. n_success and n_failed count cells; skipped views are neither."""
    layout.hub.mkdir(parents=True, exist_ok=True)
    with locked(layout.hub / ".comparison_manifest.lock"):
        before = peek_json(layout.comparison_manifest) or {}
        known = before if before.get("design_sha256") == design.sha256() else {}
        jobs = {(entry["dose"], entry["view"]): dict(entry) for entry in known.get("jobs", [])}
        for entry in entries:
            if not (entry["status"] == "dry-run" and (entry["dose"], entry["view"]) in jobs):
                jobs[entry["dose"], entry["view"]] = dict(entry)
        views = [ALL, *design.views]
        ordered = sorted(jobs.values(), key=lambda one: (one["dose"], views.index(one["view"])))
        statuses = [job["status"] for job in ordered]
        return write_json(layout.comparison_manifest, {
            "timestamp": datetime.now(UTC).isoformat(timespec="seconds"), "hub": layout.hub.name,
            "design_sha256": design.sha256(), "dry_run": dry_run, "n_jobs": len(ordered),
            "n_success": statuses.count("success"), "n_failed": statuses.count("failed"), "jobs": ordered,
            "skipped_views": [dict(skip) for skip in skips],
        })  # fmt: skip
