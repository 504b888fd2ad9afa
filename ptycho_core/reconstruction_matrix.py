"""The matrix of LSQML reconstructions, and `reconstruction_manifest.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ptycho_core.design import ALL, Split, StudyDesign, dose_name
from ptycho_core.layout import Layout
from ptycho_core.lsqml import LsqmlOptions
from ptycho_core.matrix import missing_reason
from study_core.files import locked, peek_json, write_json

FIGURES = ("num_epochs", "options", "ptychi", "torch", "seconds", "final_loss", "deviance_ratio",
           "amplitude_ratio_to_start")  # fmt: skip


@dataclass(frozen=True)
class ReconstructionJob:
    """One cell: the patterns that it starts from, and where it lands."""

    dose: float
    view: str
    split: Split
    patterns: Path
    folder: Path

    @property
    def name(self) -> str:
        """For people: `dose_1000 dense test LSQML`."""
        return f"{dose_name(self.dose)} {self.view} {self.split} LSQML"


def options_for(design: StudyDesign, noise: str = "poisson", epochs: int | None = None) -> LsqmlOptions:
    """The study's options: its epochs and its reconstruction seed."""
    return LsqmlOptions.model_validate(
        {"epochs": epochs or design.epochs, "noise": noise, "seed": design.seeds.reconstruction}
    )


def build_reconstruction_jobs(
    design: StudyDesign,
    hub: Path,
    *,
    splits: Sequence[Split] = ("test",),
    allow_missing: bool = True,
    skip_events: list[dict[str, Any]] | None = None,
) -> list[ReconstructionJob]:
    """Every reconstruction of a design, by split, dose, then all positions and each view: 9 of the test half.

    Raises:
        FileNotFoundError: a dataset is missing and `allow_missing` is false; else it is a {dose, view, split, reason}.
    """
    layout, jobs = Layout(hub), []
    for split in splits:
        for dose in design.doses:
            for view in (ALL, *design.views):
                path = layout.dataset(dose, view, split)
                if path.exists():
                    jobs.append(ReconstructionJob(dose, view, split, path, layout.reconstruction(dose, view, split)))
                    continue
                if not allow_missing:
                    raise FileNotFoundError(f"{path}: no such dataset; run generate and overlap for this dose first")
                if skip_events is not None:
                    reason = missing_reason(layout, dose, view, path)
                    skip_events.append({"dose": dose, "view": view, "split": split, "reason": reason})
    return jobs


def reconstruction_entry(
    job: ReconstructionJob, layout: Layout, figures: Mapping[str, Any] | None, *, input_sha256: str | None,
    output: Path | None = None, output_sha256: str | None = None, status: str, error: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """One job of the manifest; `figures` of its receipt, none where it has no result."""
    found = figures or {}
    return {
        "dose": job.dose, "view": job.view, "split": job.split, "algorithm": "LSQML",
        "input_npz": job.patterns.relative_to(layout.hub).as_posix(), "input_sha256": input_sha256,
        "output": output.relative_to(layout.hub).as_posix() if output else None, "output_sha256": output_sha256,
        **{name: found.get(name) for name in FIGURES}, "status": status, "error": error,
    }  # fmt: skip


def write_reconstruction_manifest(
    layout: Layout, design: StudyDesign, entries: Sequence[Mapping[str, Any]], skips: Sequence[Mapping[str, Any]],
    *, dry_run: bool,
) -> Path:  # fmt: skip
    """Write the manifest; jobs of earlier calls stay, a dry run takes no result away."""
    layout.hub.mkdir(parents=True, exist_ok=True)
    with locked(layout.hub / ".reconstruction_manifest.lock"):
        before = peek_json(layout.reconstruction_manifest) or {}
        known = before if before.get("design_sha256") == design.sha256() else {}
        jobs = {_cell(entry): dict(entry) for entry in known.get("jobs", [])}
        for entry in entries:
            if not (entry["status"] == "dry-run" and _cell(entry) in jobs):
                jobs[_cell(entry)] = dict(entry)
        return write_json(layout.reconstruction_manifest, {
            "timestamp": datetime.now(UTC).isoformat(timespec="seconds"), "hub": layout.hub.name,
            "design_sha256": design.sha256(), "dry_run": dry_run, "skipped_views": [dict(skip) for skip in skips],
            "skipped_count": len(skips),
            "jobs": sorted(jobs.values(), key=lambda job: (job["split"] != "test", job["dose"], job["view"])),
        })  # fmt: skip


def _cell(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    return entry["dose"], entry["view"], entry["split"]
