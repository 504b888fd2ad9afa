"""The study on one page: composed from its record and verdict, one HTML file, no script, nothing from outside."""

from __future__ import annotations

from ptycho_core.comparison import LSQML
from ptycho_core.evaluation.gates import StudyVerdict
from ptycho_core.report import experiment, figures, panels, tables
from ptycho_core.report.record import StudyRecord
from ptycho_core.report.statements import NOT_ALLOWED, READINGS, caveats, findings, scope
from study_core.report.blocks import Block, Grid, Items, Page, Section, Table, Text
from study_core.report.jobs import jobs_table


def compose(study: StudyRecord, verdict: StudyVerdict) -> Page:
    """Everything that a person looks at, figures drawn; a picture that cannot be drawn is left out."""
    sections = [
        Section("matrix", "Dose × view", (tables.matrix(study), *_refused(verdict))),
        Section("statements", "What may be said", _statements(study)),
        Section("images", "Images", tuple(grid for dose in study.design.doses for grid in panels.panels(study, dose))),
        Section("resolution", "Resolution", (figures.ring_curves(study),)),
        Section("numbers", "Numbers", (tables.numbers(study),)),
        Section("views", "Views and overlap", (tables.views(study), figures.spacing_histograms(study), *_skips(study))),
        Section("trainings", "Trainings and reconstructions", (
            figures.training_curves(study), tables.trainings(study), tables.reconstructions(study))),
        Section("experiment", "The experiment", (
            experiment.dose_strip(study), experiment.probe_pictures(study), experiment.scan_picture(study))),
        Section("gates", "Gates", (tables.gate_titles(verdict), tables.gates(verdict))),
        Section("provenance", "Provenance", (_provenance(study), Items(READINGS), *_jobs(study))),
    ]  # fmt: skip
    kept = [
        Section(section.key, section.title, tuple(block for block in section.blocks if _says_something(block)))
        for section in sections
    ]
    return Page(
        title=f"Dose and overlap in ptychography · {study.design.sha256()[:12]}",
        status="pass" if verdict.passed else "fail",
        sentence=verdict.sentence(),
        lead=(scope(study.design),),
        facts=facts(study),
        sections=tuple(section for section in kept if section.blocks),
        footer="Made from the files of this study's hub alone; `replay` computes its numbers and verdict again.",
    )


def facts(study: StudyRecord) -> dict[str, str]:
    """A few figures in boxes at the top."""
    design = study.design
    states = [cell.state for cell in study.cells]
    counted = f"{states.count('compared')} of {len(states)}"
    counted += f", {states.count('skipped')} skipped" if "skipped" in states else ""
    return {
        "cells compared": counted,
        "photons a pattern": ", ".join(f"{dose:g}" for dose in design.doses),
        "patterns": f"{design.N} × {design.N} px",
        "training seeds": ", ".join(str(seed) for seed in design.seeds.training),
        "iterations / epochs": f"{design.iterations} / {design.epochs}",
        "LSQML": f"pty-chi {study.versions().get('ptychi', 'not used')}",
    }


def _refused(verdict: StudyVerdict) -> tuple[Block, ...]:
    failed = tables.gates(verdict, failed_only=True)
    return (failed,) if failed.rows else ()


def _statements(study: StudyRecord) -> tuple[Block, ...]:
    found = findings(study)
    return (
        Text(scope(study.design)),
        *((Text("Phase MS-SSIM, cell by cell:"), Items(tuple(found))) if found else ()),
        Text("To be said beside it:"), Items(tuple(caveats(study.design))),
        Text("Not to be claimed:"), Items(NOT_ALLOWED),
    )  # fmt: skip


def _skips(study: StudyRecord) -> tuple[Block, ...]:
    if study.skips:
        return (tables.skips(study.skips),)
    return (Text("No view was skipped."),)


def _provenance(study: StudyRecord) -> Table:
    rows = [("design", study.design.sha256())]
    rows += [(f"{name} {key}", str(value)) for name, entry in study.run.items() if isinstance(entry, dict)
             for key, value in sorted(entry.get("sha256", {}).items()) if key in ("test", "truth")]  # fmt: skip
    options = {str(job.get("options")) for job in study.reconstruction if job.get("options")}
    rows += [(f"{LSQML} options", option) for option in sorted(options)]
    rows += [(name, value) for name, value in study.versions().items()]
    branches = {str(one["branch"]) for one in study.spacing.values()}
    rows.append(("oversampling branch", ", ".join(sorted(branches)) or "none"))
    return Table("What the numbers came from", ("what", "value"), tuple(rows), text_columns=2)


def _jobs(study: StudyRecord) -> tuple[Block, ...]:
    table = jobs_table(study.jobs)
    return (table,) if table else ()


def _says_something(block: Block) -> bool:
    if isinstance(block, Grid):
        return bool(block.pictures)
    return not isinstance(block, Table) or bool(block.rows)
