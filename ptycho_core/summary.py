"""The end of a study: judge it, and write verdict.json, summary.md and report.html into its hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ptycho_core.evaluation.gates import StudyVerdict, judge_study
from ptycho_core.evaluation.thresholds import StudyThresholds, thresholds_for
from ptycho_core.report import tables
from ptycho_core.report.record import StudyRecord, read_study
from ptycho_core.report.statements import NOT_ALLOWED, READINGS, caveats, findings, scope
from study_core.files import write_json, write_text


@dataclass(frozen=True)
class Written:
    """What was made."""

    verdict: StudyVerdict
    summary: Path
    report: Path


def write_summary(hub: Path, thresholds: StudyThresholds | None = None) -> Written:
    """Judge with the given thresholds (those measured for this size, if None) and write the three files.

    Raises:
        BadInput: no study, or nothing was compared.
    """
    from ptycho_core.report.page import compose

    study = read_study(hub)
    verdict = judge_study(study.design, study.evidence, thresholds or thresholds_for(study.design))
    write_json(study.layout.verdict, verdict.record())
    write_text(study.layout.summary, summary_text(study, verdict))
    write_text(study.layout.report, compose(study, verdict).html())
    return Written(verdict, study.layout.summary, study.layout.report)


def summary_text(study: StudyRecord, verdict: StudyVerdict) -> str:
    """summary.md: matrix, statements, gates, skips, versions, readings."""
    failed = tables.gates(verdict, failed_only=True)
    branches = sorted({str(one["branch"]) for one in study.spacing.values()})
    lost = [f"{cell.name}: {cell.reason}" for cell in study.cells if cell.state == "lost"]
    parts = [
        f"# Dose and overlap in ptychography: {study.design.sha256()[:12]}",
        f"**{verdict.sentence()}**",
        scope(study.design),
        "## Dose × view: phase MS-SSIM", tables.matrix(study).markdown(), tables.matrix(study).note,
        "## Findings", _list(findings(study)) or "None.",
        "## To be said beside it", _list(caveats(study.design)),
        "## Not to be claimed", _list(NOT_ALLOWED),
        "## Gates", tables.gate_titles(verdict).markdown(),
        *(("### Refused", failed.markdown()) if failed.rows else ()),
        "## Skipped views", tables.skips(study.skips).markdown() if study.skips else "None.",
        *(("## Not compared", _list(lost)) if lost else ()),
        "## Views", tables.views(study).markdown(),
        "## Every number", tables.numbers(study).markdown(), tables.numbers(study).note,
        "## Trainings", tables.trainings(study).markdown(),
        "## LSQML reconstructions", tables.reconstructions(study).markdown() if study.reconstruction else "None.",
        "## Versions and oversampling",
        _list([f"{name} {version}" for name, version in study.versions().items()]
              + [f"oversampling branch: {', '.join(branches) or 'none'} (K = {study.design.neighbors} ≥ C = "
                 f"{study.design.channels})"]),
        "## Readings of the initiative", _list(READINGS),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _list(lines: tuple[str, ...] | list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
