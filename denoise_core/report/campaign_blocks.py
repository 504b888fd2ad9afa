"""Tables and figures of a campaign's review, each made from the table of captures. A fold is one observation."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from denoise_core.evaluation.folds import MODEL
from denoise_core.evaluation.thresholds import GateThresholds
from denoise_core.report import figures
from denoise_core.report.labels import NO_VALUE, capture_label, method_label
from denoise_core.report.spectra import Floats
from denoise_core.report.style import mark_of
from study_core.errors import BadInput
from study_core.report.blocks import Block, Picture, Table
from study_core.report.style import BLACK, drawing, figure, legend, png

NEEDED = ("fold", "split", "method", "psnr_db", "sam_deg", "roi_area_error_pct")
DIPS = {"centroid_nm": "roi_centroid_error_nm", "depth": "roi_depth_mae"}  # figure: the captures' column it is made of
_FORMATS = {
    "psnr_db": "{:.2f} dB",
    "psnr_sd": "{:.2f} dB",
    "sam_deg": "{:.3f}°",
    "roi_kept": "{:.1%}",
    "centroid_nm": "{:.3f} nm",
    "depth": "{:.5f}",
}
NAMES = {
    "psnr_db": "PSNR",
    "psnr_sd": "sd of captures",
    "sam_deg": "SAM",
    "roi_kept": "ROI kept",
    "centroid_nm": "dip centroid",
    "depth": "dip depth",
}


def fold_figures(captures: pd.DataFrame, area_limit_pct: float | None = None) -> pd.DataFrame:
    """One row a fold, split and method: psnr_db, psnr_sd (population), sam_deg, roi_kept, captures.

    Where the captures tell of their dips, also the median errors of centroid_nm and depth (reflectance).
    """
    if missing := [name for name in NEEDED if name not in captures]:
        raise BadInput(f"no column {', '.join(missing)}", file="captures", remedy=f"give {', '.join(NEEDED)}")
    if captures.empty:
        raise BadInput("no captures", file="captures", remedy="evaluate at least one fold")
    limit = GateThresholds().roi_area_error_max_pct if area_limit_pct is None else area_limit_pct
    table = captures.assign(roi_kept=(captures["roi_area_error_pct"] <= limit).astype(float))
    groups = table.groupby(["fold", "split", "method"], sort=False)
    return groups.agg(
        psnr_db=("psnr_db", "mean"),
        psnr_sd=("psnr_db", lambda values: values.std(ddof=0)),
        sam_deg=("sam_deg", "mean"),
        roi_kept=("roi_kept", "mean"),
        captures=("psnr_db", "size"),
        **{name: (column, "median") for name, column in DIPS.items() if column in table},
    ).reset_index()


def over_folds_table(folds: pd.DataFrame) -> Table:
    """Mean ± sd over folds of every split and method."""
    rows, marks = [], []
    shown = [name for name in NAMES if name in folds]
    for (split, method), part in folds.groupby(["split", "method"], sort=False):
        rows.append((str(split), method_label(str(method)), str(len(part)),
                     *(mean_sd(part[name], name) for name in shown)))  # fmt: skip
        marks.append(method == MODEL)
    return Table(
        "Mean ± standard deviation over folds",
        ("split", "method", "folds", *(NAMES[name] for name in shown)),
        tuple(rows),
        tuple("pass" if mark else "none" for mark in marks),
        note="ROI kept: share of captures whose dip areas hold within gate 3's limit. Dip centroid and depth: median "
        "error of the captures, in nm and reflectance. One fold has no sd.",
        text_columns=2,
    )


def against_table(folds: pd.DataFrame, split: str) -> Table:
    """The model minus each control, paired by fold: mean ± sd of the differences, and how many folds it wins."""
    wide = folds[folds["split"] == split].pivot(
        index="fold", columns="method", values=["psnr_db", "sam_deg", "roi_kept"]
    )
    others = [name for name in dict.fromkeys(folds["method"]) if name != MODEL]
    rows = []
    for other in others if ("psnr_db", MODEL) in wide else []:
        gain = (wide["psnr_db"][MODEL] - wide["psnr_db"][other]).dropna()
        angle = (wide["sam_deg"][MODEL] - wide["sam_deg"][other]).dropna()
        kept = (wide["roi_kept"][MODEL] - wide["roi_kept"][other]).dropna()
        rows.append(
            (
                method_label(other),
                mean_sd(gain, "psnr_db", signed=True),
                mean_sd(angle, "sam_deg", signed=True),
                mean_sd(kept, "roi_kept", signed=True),
                f"{int((gain > 0).sum())} of {len(gain)}",
            )
        )
    return Table(
        f"The model minus each control, {split} split, paired by fold",
        ("control", "PSNR", "SAM", "ROI kept", "folds with higher PSNR"),
        tuple(rows),
        note="Better than a control: PSNR and ROI above zero, SAM below.",
    )


def by_fold_table(folds: pd.DataFrame, split: str) -> Table:
    """PSNR of every method in every fold."""
    wide = folds[folds["split"] == split].pivot(index="method", columns="fold", values="psnr_db")
    wide = wide.reindex(list(dict.fromkeys(folds["method"])))
    return Table(
        f"PSNR by fold, {split} split (dB)",
        ("method", *(f"fold {fold}" for fold in wide.columns)),
        tuple(
            (method_label(str(method)), *(NO_VALUE if pd.isna(value) else f"{value:.2f}" for value in row))
            for method, row in zip(wide.index, wide.to_numpy(), strict=True)
        ),
        tuple("pass" if method == MODEL else "none" for method in wide.index),
    )


def fold_boxes(judged: pd.DataFrame) -> Picture:
    """Box plots of PSNR, SAM and dip area error by fold, a box a method."""
    folds, methods = sorted(set(judged["fold"])), list(dict.fromkeys(judged["method"]))
    columns = (("psnr_db", "PSNR (dB)"), ("sam_deg", "SAM (degrees)"), ("roi_area_error_pct", "dip area error (%)"))
    limit = GateThresholds().roi_area_error_max_pct
    with drawing():
        drawn, axes = figure(3, 1, height=7.6, sharex=True)
        for axis, (column, title) in zip(axes, columns, strict=True):
            clusters = {
                method: [_values(judged, fold, method, column, log=column.startswith("roi")) for fold in folds]
                for method in methods
            }
            figures.grouped_boxes(axis, clusters, [f"fold {fold}" for fold in folds])
            axis.set_ylabel(title)
        axes[2].set_yscale("log")
        axes[2].axhline(limit, color=BLACK, ls="--", lw=1.0)
        legend(drawn, figures.method_handles(methods))
        told = "; ".join(
            f"{method_label(method)} " + ", ".join(
                f"{np.median(_values(judged, fold, method, 'psnr_db')):.1f}" for fold in folds)
            for method in methods
        )  # fmt: skip
        return Picture(
            "Captures of each fold",
            png(drawn),
            f"Box plots by fold and method. Median PSNR in dB, fold by fold: {told}.",
            "A box spans the middle half of the captures, whiskers 5 % to 95 %. PSNR is better when higher, the others "
            f"when lower; the dashed line is gate 3's limit of {limit:g} %.",
        )


def _values(judged: pd.DataFrame, fold: int, method: str, column: str, *, log: bool = False) -> Floats:
    """One cluster's finite values; on a logarithmic axis the positive ones. A fold without any gives one NaN."""
    values = judged.loc[(judged["fold"] == fold) & (judged["method"] == method), column].to_numpy(dtype=np.float64)
    kept = values[np.isfinite(values) & (~np.full(len(values), log) | (values > 0))]
    return kept if len(kept) else np.array([np.nan])


def worst_captures(captures: pd.DataFrame, split: str = "test", most: int = 10) -> pd.DataFrame:
    """The model's captures of lowest PSNR with raw's beside it: fold, relative_path, psnr_db, sam_deg, raw_psnr_db."""
    if "relative_path" not in captures:
        return pd.DataFrame()
    part = captures[captures["split"] == split]
    own = part[part["method"] == MODEL].drop_duplicates(["fold", "relative_path"]).nsmallest(most, "psnr_db")
    raw = part.loc[part["method"] == "raw", ["fold", "relative_path", "psnr_db"]].drop_duplicates()
    raw = raw.rename(columns={"psnr_db": "raw_psnr_db"})
    return own.merge(raw, on=["fold", "relative_path"], how="left").reset_index(drop=True)


def worst_blocks(worst: pd.DataFrame) -> tuple[Block, ...]:
    """The worst captures as figure and table; nothing for an empty table."""
    if worst.empty:
        return ()
    table = Table(
        f"The {len(worst)} captures of lowest PSNR",
        ("capture", "fold", "model", "raw", "SAM"),
        tuple(
            (str(row["relative_path"]), str(row["fold"]), f"{row['psnr_db']:.2f} dB",
             NO_VALUE if pd.isna(row["raw_psnr_db"]) else f"{row['raw_psnr_db']:.2f} dB", f"{row['sam_deg']:.3f}°")
            for row in worst.to_dict("records")
        ),
    )  # fmt: skip
    return (worst_figure(worst), table)


def worst_figure(worst: pd.DataFrame) -> Picture:
    """The worst captures, model beside raw: were they bad captures, or made bad?"""
    place = np.arange(len(worst))[::-1]
    model, raw = mark_of(MODEL), mark_of("raw")
    with drawing():
        drawn, axes = figure(1, 1, height=1.2 + 0.28 * len(worst))
        axis = axes[0]
        axis.hlines(place, worst["raw_psnr_db"], worst["psnr_db"], color="#999999", lw=1.0)
        axis.plot(worst["raw_psnr_db"], place, raw.marker, color=raw.colour, mec=BLACK, markersize=7)
        axis.plot(worst["psnr_db"], place, model.marker, color=model.colour, mec=BLACK, markersize=10)
        labels = [f"fold {row['fold']}: {capture_label(str(row['relative_path']))}" for row in worst.to_dict("records")]
        axis.set_yticks(place, labels)
        axis.set_xlabel("PSNR (dB)")
        handles = [Line2D([], [], ls="", marker=mark.marker, color=mark.colour, mec=BLACK, markersize=9, label=name)
                   for name, mark in (("raw", raw), ("model", model))]  # fmt: skip
        legend(drawn, handles)
        lost = int((worst["psnr_db"] < worst["raw_psnr_db"]).sum())
        return Picture(
            "The worst captures, model beside raw",
            png(drawn),
            f"PSNR of the {len(worst)} worst captures. Lowest: {labels[0]} with {worst['psnr_db'].iloc[0]:.1f} dB; "
            f"{lost} of them are worse than raw.",
            "A star left of its circle: the model made this capture worse.",
        )


def mean_sd(values: pd.Series, name: str, *, signed: bool = False) -> str:
    """Mean ± sd over folds in the figure's format; no sd for a single fold."""
    known = values.dropna()
    if known.empty:
        return NO_VALUE
    form = _FORMATS[name].replace("{:", "{:+") if signed else _FORMATS[name]
    text = form.format(known.mean())
    if len(known) > 1:
        text += " ± " + _FORMATS[name].format(known.std(ddof=1))
    return text.replace("-", "−").replace("%", " %").replace(" dB ±", " ±")
