"""The denoiser's part of a comparison of runs: figures by group, and the captures on which they differ most."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from denoise_core.corpus.manifest import Manifest, read_manifest
from denoise_core.corpus.reference import loo_mean
from denoise_core.corpus.store import open_corpus
from denoise_core.evaluation.metrics import psnr_db
from denoise_core.report import figures, tables
from denoise_core.report.labels import capture_label, group_label, metric_label, number
from denoise_core.report.record import PANEL_FILE, RunRecord, read_run
from denoise_core.report.spectra import Floats
from denoise_core.report.style import mark_of
from study_core.errors import BadInput
from study_core.report.blocks import Block, Picture, Table, Text
from study_core.report.style import BLACK, drawing, figure, legend, png

_SHOWN = 3
_FIGURES = {"psnr_mean": "PSNR", "sam_mean": "SAM", "area_within_10_pct_ratio": "ROI kept"}


def blocks(folders: Mapping[str, Path], root: Path) -> Iterator[Block]:
    """Tables and figures of the runs in `folders`, by the name of each; `root`: where a relative corpus path starts.

    A corpus that is not there any more, or spectra that were not archived, cost the figures and say so.
    """
    records = {name: read_run(folder) for name, folder in folders.items()}
    yield _whole(records)
    yield from _by_group(records)
    try:
        yield from _spectra(records, root)
    except BadInput as error:
        yield Text(f"No figures of spectra: {error}")


def _whole(records: Mapping[str, RunRecord]) -> Table:
    heads = {**_FIGURES, "psnr_std": "± sd", "composite_score": "score", "spurious_per_capture": "spurious"}
    rows = [
        (name, *(number(record.metrics.get(key), metric_label(key)) for key in heads))
        for name, record in records.items()
    ]
    note = "PSNR: higher is better. SAM: lower is better. ROI kept: share of captures with dip areas in the limit."
    return Table("On the whole panel", ("run", *heads.values()), tuple(rows), note=note)


def _by_group(records: Mapping[str, RunRecord]) -> Iterator[Table]:
    """A table a figure: groups down, runs across."""
    found = {name: tables.candidate_groups(record) for name, record in records.items()}
    groups = list(dict.fromkeys(group for by_group in found.values() for group in by_group))
    for key, title in _FIGURES.items() if groups else ():
        rows = tuple(
            (group_label(group), *(number(one.get(group, {}).get(key), metric_label(key)) for one in found.values()))
            for group in groups
        )
        yield Table(f"{title} by group", ("group", *found), rows)


def _spectra(records: Mapping[str, RunRecord], root: Path) -> Iterator[Picture]:
    """Captures that every run has denoised: where they differ most, and how each run's captures are distributed."""
    first, *others = records.values()
    if {str(record.verdict.get("panel_sha256")) for record in others} - {str(first.verdict.get("panel_sha256"))}:
        raise BadInput("the runs denoised different panels", file=first.folder, remedy="compare runs of one panel")
    corpus = open_corpus(root / str(first.plan.get("corpus") or "no corpus is named in its plan"))
    panel = read_manifest(first.folder / PANEL_FILE).unique()
    rows = corpus.rows(panel)
    reference_ML = loo_mean(corpus, rows).astype(np.float64)
    denoised = {name: record.predictions(panel, corpus.spectra_NL.shape[1]) for name, record in records.items()}
    yield _boxes(panel, denoised, reference_ML)
    yield _overlays(panel, denoised, corpus.spectra_NL[rows].astype(np.float64), reference_ML, corpus.wavelength_nm)


def _boxes(panel: Manifest, denoised: Mapping[str, Floats], reference_ML: Floats) -> Picture:
    group_M = panel.frame["group_id"].to_numpy(dtype=str)
    with drawing():
        drawn, axes = figure(1, 1, height=3.2)
        values = {name: psnr_db(x_ML, reference_ML) for name, x_ML in denoised.items()}
        clusters = {name: [value_M[group_M == group] for group in panel.groups] for name, value_M in values.items()}
        figures.grouped_boxes(axes[0], clusters, [group_label(group) for group in panel.groups])
        axes[0].set_ylabel("PSNR (dB)")
        legend(drawn, figures.method_handles(list(denoised)))
        told = "; ".join(f"{name} {np.median(value_M):.2f} dB" for name, value_M in values.items())
        return Picture(
            "PSNR of the captures, by group and run",
            png(drawn),
            f"Box plots by group, a box a run. Medians of all captures: {told}.",
            "A box spans the middle half of the captures, whiskers 5 % to 95 %.",
        )


def _overlays(
    panel: Manifest, denoised: Mapping[str, Floats], raw_ML: Floats, reference_ML: Floats, wavelength_nm: Floats
) -> Picture:
    """The captures on which the runs differ most, each minus the reference."""
    stack_RML = np.stack(list(denoised.values()))
    spread_M = np.ptp(stack_RML, axis=0).max(axis=1)
    shown = _one_a_group(np.argsort(-spread_M, kind="stable"), panel.frame["group_id"].tolist())
    with drawing():
        drawn, axes = figure(2, len(shown), height=4.8, sharex=True, sharey="row")
        for column, row in enumerate(shown):
            upper, lower = axes[column], axes[column + len(shown)]
            upper.plot(wavelength_nm, raw_ML[row], color=mark_of("raw").colour, lw=0.6, label="raw")
            for place, (name, x_ML) in enumerate(denoised.items()):
                mark = mark_of(name, place)
                for axis, line_L in ((upper, x_ML[row]), (lower, 1e3 * (x_ML[row] - reference_ML[row]))):
                    axis.plot(wavelength_nm, line_L, mark.line, color=mark.colour, lw=1.1, label=name)
            upper.plot(wavelength_nm, reference_ML[row], "--", color=BLACK, lw=0.9, label="reference")
            lower.axhline(0.0, color=BLACK, lw=0.8, ls="--")
            upper.set_title(capture_label(str(panel.frame["relative_path"].iloc[row])))
            lower.set_xlabel("wavelength (nm)")
        axes[0].set_ylabel("reflectance")
        axes[len(shown)].set_ylabel("minus reference (10⁻³)")
        handles, labels = axes[0].get_legend_handles_labels()
        legend(drawn, handles, labels)
        names = [capture_label(str(panel.frame["relative_path"].iloc[row])) for row in shown]
        told = "; ".join(
            f"{name}: {1e3 * spread_M[row]:.2f} · 10⁻³ apart" for name, row in zip(names, shown, strict=True)
        )
        return Picture(
            "Where the runs differ most",
            png(drawn),
            f"Spectra of {len(shown)} captures with their residuals. {told}.",
            "Of each group the capture on which the runs lie furthest apart. Below: minus the reference.",
        )


def _one_a_group(order: np.ndarray, groups: Sequence[str]) -> list[int]:
    """The first row of each group in `order`, at most `_SHOWN`."""
    found: dict[str, int] = {}
    for row in order.tolist():
        found.setdefault(groups[row], row)
    return list(found.values())[:_SHOWN]
