"""The report of one verdict: composed once from a run's folder, written as one HTML file, shown as artifacts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from denoise_core.corpus.manifest import Manifest
from denoise_core.corpus.store import Corpus
from denoise_core.evaluation.controls import savgol
from denoise_core.report import figures, provenance, tables
from denoise_core.report.labels import group_key, group_label, metric_label, number
from denoise_core.report.record import RunRecord, read_run
from denoise_core.report.roi_windows import roi_windows
from denoise_core.report.single_dips import dips_table
from denoise_core.report.spectra import PanelSpectra, panel_spectra
from denoise_core.report.uncertainty import uncertainty_section
from denoise_core.report.words import WORDS
from study_core.errors import BadInput
from study_core.files import replacing
from study_core.report.blocks import Block, Code, Items, Page, Section, Status, Text, glossary

REPORT = "report.html"


def write_report(folder: Path, corpus: Corpus, panel: Manifest, training: Manifest | None = None) -> Path:
    """Write `folder/report.html` and return it: one file, no script, nothing from outside, under 2 MB.

    BadInput when the folder holds no verdict. Spectra that are missing or damaged cost the report its
    figures, never the report: it then says why.
    """
    return write_page(compose(folder, corpus, panel, training), Path(folder) / REPORT)


def write_page(page: Page, path: Path) -> Path:
    """Write a composed page as HTML, by temporary name and rename."""
    with replacing(path) as temporary:
        temporary.write_text(page.html(), encoding="utf-8")
    return path


def compose(folder: Path, corpus: Corpus, panel: Manifest, training: Manifest | None = None) -> Page:
    """Everything that the report says of the run in `folder`, figures drawn."""
    record = read_run(folder)
    spectra, why_not = _spectra(record, corpus, panel)
    sections = [
        Section("gates", "Gates", (tables.gates_table(record), *_some(tables.ranking_table(record)))),
        _controls(record),
        Section("notices", "What the figures do not say", _notices(record, panel, training)),
        *_spectra_sections(record, spectra, why_not),
        *_training(record),
        uncertainty_section(record.facts.get("uncertainty") or {}),
        Section("provenance", "Provenance", _provenance(record)),
        Section("verify", "How to check this report", _verify(record)),
    ]
    page = Page(
        title=f"Panel verdict · {record.folder.name}",
        status=_status(record),
        sentence=tables.sentence(record),
        lead=_lead(record, panel),
        sections=tuple(section for section in sections if section.blocks),
        footer=f"Made from the files of {record.folder.name}; every figure can be made again from them.",
        facts=_key_figures(record),
    )
    return glossary(page, WORDS)


def concluded(page: Page, folder: Path) -> Page:
    """The page once its run has shipped its candidate or not: the head and the log say so, no figure is drawn anew."""
    record = read_run(folder)
    sections = (
        replace(section, blocks=_provenance(record)) if section.key == "provenance" else section
        for section in page.sections
    )
    return replace(page, status=_status(record), sentence=tables.sentence(record), sections=tuple(sections))


def _status(record: RunRecord) -> Status:
    return "pass" if record.passed and not tables.not_shipped(record) else "fail"


def _spectra(record: RunRecord, corpus: Corpus, panel: Manifest) -> tuple[PanelSpectra | None, str]:
    try:
        return panel_spectra(record, corpus, panel), ""
    except BadInput as error:  # a diverged model is exactly what a report must still be written for
        return None, str(error)


def _lead(record: RunRecord, panel: Manifest) -> tuple[str, ...]:
    groups = ", ".join(group_label(group) for group in panel.groups)
    reference = record.facts.get("reference")
    against = "the mean of its group's other captures" if reference == "loo" else f"the reference `{reference}`"
    judged = (
        f"Judged: {record.name} on a fixed panel of {len(panel)} rows ({len(panel.unique())} captures of "
        f"{len(panel.groups)} groups: {groups}), each capture against {against}."
    )
    return tuple(line for line in (judged, tables.against_base(record), tables.against_production(record)) if line)


def _key_figures(record: RunRecord) -> dict[str, str]:
    names = {
        "PSNR": "psnr_mean",
        "± sd": "psnr_std",
        "SAM": "sam_mean",
        "dip areas kept": "area_within_10_pct_ratio",
        "variance fell by": "variance_drop_pct",
    }
    return {title: number(record.metrics.get(key), metric_label(key)) for title, key in names.items()}


def _controls(record: RunRecord) -> Section:
    if not record.controls:
        return Section("controls", "Controls", (Text("This audit has no controls."),))
    return Section(
        "controls",
        "Beside the controls",
        (
            tables.controls_table(record),
            tables.groups_table(record),
            figures.controls(tables.method_rows(record)),
            *_some(tables.unseen_table(record)),
        ),
    )


def _notices(record: RunRecord, panel: Manifest, training: Manifest | None) -> tuple[Block, ...]:
    names = group_key([*panel.groups])
    lines = [str(notice) for notice in record.facts.get("notices") or []]
    if values := (record.inputs.get("corpus") or {}).get("values"):
        lines.append(f"The corpus: {values}.")
    if training is None:
        lines.append("No training manifest was given with this report.")
    return (Items(tuple(lines)), *((Text(f"Short names: {names}."),) if names else ()))


def _spectra_sections(record: RunRecord, spectra: PanelSpectra | None, why_not: str) -> list[Section]:
    if spectra is None:
        text = Text(f"No figures of spectra: {why_not}")
        return [Section("captures", "Captures", (text, *_some(tables.capture_table(record))))]
    chosen = spectra.best_median_worst()
    overlays = figures.overlays(
        [spectra.capture(row, what) for what, row in chosen.items()],
        "Raw, denoised and reference: best, median and worst capture",
    )
    middle, worst = _by_area_error(spectra)
    limit_pct = tables.roi_limit_pct(record)
    captures = [spectra.capture(middle, "Median dip area error"), spectra.capture(worst, "Worst dip area error")]
    windows = [block for one in captures for block in (roi_windows(one), dips_table(one, limit_pct))]
    boxes = figures.distributions(spectra, {"raw": spectra.raw_ML, "savgol_61_3": savgol(spectra.raw_ML)})
    return [
        Section("captures", "Captures: best, median, worst", (overlays, *_some(tables.capture_table(record)))),
        Section("roi", "ROI windows", tuple(block for block in windows if block is not None)),
        Section("distributions", "Distributions by group", (boxes,)),
        Section("variance", "Variance between replicates", (figures.variance_map(spectra),)),
    ]


def _by_area_error(spectra: PanelSpectra) -> tuple[int, int]:
    """Rows of the captures with the middle and the largest dip area error (captures without dips aside)."""
    error_M = spectra.dips.area_error_pct_M
    order = np.argsort(np.nan_to_num(error_M, nan=-1.0), kind="stable")
    known = order[int(np.isnan(error_M).sum()) :]
    chosen = known if len(known) else order
    return int(chosen[len(chosen) // 2]), int(chosen[-1])


def _training(record: RunRecord) -> list[Section]:
    blocks = (*_some(figures.training_curves(record.curves)), *_some(provenance.differences_table(record)))
    return [Section("training", "Training and plan", blocks)] if blocks else []


def _provenance(record: RunRecord) -> tuple[Block, ...]:
    jobs = provenance.jobs_table(record)
    return (
        provenance.provenance_table(record),
        *(_some(jobs) or (Text("No jobs table in this folder."),)),
        tables.thresholds_table(record.plan),
        *_some(provenance.events_table(record)),
    )


def _verify(record: RunRecord) -> tuple[Block, ...]:
    return (
        Text(
            "The auditor's bundle of this run holds the log, the archived spectra, the manifests and this report. "
            "The first command finds any changed line or file; the second computes the verdict again."
        ),
        Code(
            (
                "python -m tasks.bundle verify auditors_bundle.zip",
                "python -m denoise_core replay --corpus CORPUS --bundle auditors_bundle.zip",
            )
        ),
    )


def _some(block: Block | None) -> tuple[Block, ...]:
    return () if block is None else (block,)
