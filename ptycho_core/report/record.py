"""Everything that a hub knows of its study, read once: what the verdict, the summary and the page are made of."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ptycho_core.design import ALL, SPLITS, StudyDesign
from ptycho_core.evaluation.cells import Cell, cells_of
from ptycho_core.evaluation.gates import Evidence
from ptycho_core.layout import Layout, open_hub
from study_core.errors import BadInput
from study_core.files import peek_json, sha256_of
from study_core.report.jobs import read_jobs

PACKAGES = ("torch", "numpy", "scipy", "ptychi")


@dataclass(frozen=True)
class StudyRecord:
    """A hub's records; lists are empty where a phase was not run."""

    layout: Layout
    design: StudyDesign
    cells: tuple[Cell, ...]
    run: Mapping[str, Any]
    training: tuple[Mapping[str, Any], ...]
    reconstruction: tuple[Mapping[str, Any], ...]
    reference: tuple[Mapping[str, Any], ...]
    skips: tuple[Mapping[str, Any], ...]
    spacing: Mapping[tuple[str, str], Mapping[str, Any]]
    """By (view, split), of the first dose that has it: the scan is the same at every dose."""
    jobs: tuple[Mapping[str, str], ...] = ()  # of the run that was judged; none without a cluster

    @property
    def evidence(self) -> Evidence:
        return Evidence(self.cells, self.training, self.reference)

    def cell(self, dose: float, view: str) -> Cell:
        return next(cell for cell in self.cells if (cell.dose, cell.view) == (dose, view))

    def overlap(self, view: str) -> float | None:
        """Measured overlap of neighbouring groups in the test half."""
        found = self.spacing.get((view, "test"))
        return None if found is None else found["overlap"]["group_centre_nn"]

    def versions(self) -> dict[str, str]:
        """Of the interpreter and the packages that the numbers depend on; what is not installed is left out."""
        found = {"python": platform.python_version()}
        for package in PACKAGES:
            try:
                found[package] = version(package)
            except PackageNotFoundError:
                continue
        for job in self.reconstruction:
            found |= {"ptychi": str(job["ptychi"])} if job.get("ptychi") else {}
        return found


def read_study(hub: Path) -> StudyRecord:
    """Read a hub.

    Raises:
        BadInput: no study, or nothing was compared yet.
    """
    layout, design = Layout(hub), open_hub(hub)
    manifest = peek_json(layout.comparison_manifest)
    if not manifest or manifest.get("design_sha256") != design.sha256():
        raise BadInput("no comparison of this study", file=layout.comparison_manifest, remedy="run compare first")
    records, lost = [], {}
    for job in manifest["jobs"]:
        key = (job["dose"], job["view"])
        if job["status"] != "success":
            lost[key] = str(job["error"] or job["status"])
            continue
        path = hub / job["metrics_path"]
        record = peek_json(path)
        if record is None or sha256_of(path) != job["metrics_sha256"]:
            lost[key] = f"{job['metrics_path']} is not what was recorded: run compare again"
            continue
        records.append(record)
    skips = _skips(design, layout)
    return StudyRecord(
        layout=layout, design=design, cells=tuple(cells_of(design, records, skips, lost)),
        run=peek_json(layout.run_manifest) or {}, training=_jobs(layout.training_manifest),
        reconstruction=_jobs(layout.reconstruction_manifest), reference=_jobs(layout.reference_manifest),
        skips=tuple(skips), spacing=_spacings(design, layout), jobs=tuple(read_jobs(hub / "jobs.csv")),
    )  # fmt: skip


def _jobs(path: Path) -> tuple[Mapping[str, Any], ...]:
    return tuple((peek_json(path) or {}).get("jobs", []))


def _skips(design: StudyDesign, layout: Layout) -> list[dict[str, Any]]:
    """Views that a half had too few groups for, by dose and view; either half skips the cell."""
    found = []
    for dose in design.doses:
        for view in design.views:
            records = (peek_json(layout.skip(dose, view, split)) for split in reversed(SPLITS))
            found += [record for record in records if record][:1]
    return found


def _spacings(design: StudyDesign, layout: Layout) -> dict[tuple[str, str], Mapping[str, Any]]:
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for dose in design.doses:
        for view in design.views:
            for split in SPLITS:
                record = peek_json(layout.spacing(dose, view, split))
                if record and (view, split) not in found:
                    found[view, split] = record
    return found


def view_label(view: str) -> str:
    """A view for people."""
    return "all positions" if view == ALL else view
