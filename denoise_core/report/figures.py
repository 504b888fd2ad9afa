"""The report's figures, each a `Picture`: drawn, captioned, and told in words. Shapes: M captures, L wavelengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.lines import Line2D

from denoise_core.evaluation.metrics import psnr_db, sam_deg
from denoise_core.evaluation.uncertainty import LEVELS
from denoise_core.report.labels import CANDIDATE, group_label, method_label
from denoise_core.report.spectra import Capture, Floats, PanelSpectra
from denoise_core.report.style import FOLD_MARKS, mark_of
from study_core.report.blocks import Picture
from study_core.report.style import BLACK, BLUE, GREY, ORANGE, PALE, SEQUENTIAL, drawing, figure, legend, png

_WAVELENGTH = "wavelength (nm)"
_FLOOR = 1e-12  # of a variance on a logarithmic scale
_GROUP_MARKERS = "osD^vP*X<>hd"


def overlays(captures: Sequence[Capture], title: str = "Raw, denoised and reference") -> Picture:
    """Raw, denoised and reference of a few captures, and below each what is left after subtracting the reference."""
    with drawing():
        drawn, axes = figure(2, len(captures), height=4.8, sharex=True, sharey="row")
        for column, capture in enumerate(captures):
            upper, lower = axes[column], axes[column + len(captures)]
            for name, spectrum_L in capture.spectra.items():
                mark = mark_of(name if name != "denoised" else CANDIDATE)
                width = {"raw": 0.7, "denoised": 1.3, "reference": 0.9}[name]
                upper.plot(capture.wavelength_nm, spectrum_L, mark.line, color=mark.colour, lw=width, label=name)
                if name != "reference":
                    rest_L = 1e3 * (spectrum_L - capture.reference_L)
                    lower.plot(capture.wavelength_nm, rest_L, mark.line, color=mark.colour, lw=width)
            head, _, name = capture.title.partition(": ")
            upper.set_title(f"{head}: {name}\n{_two_psnr(capture)}")
            lower.axhline(0.0, color=BLACK, lw=0.8, ls="--")
            lower.set_xlabel(_WAVELENGTH)
        axes[0].set_ylabel("reflectance")
        axes[len(captures)].set_ylabel("minus reference (10⁻³)")
        handles, labels = axes[0].get_legend_handles_labels()
        legend(drawn, handles, labels)
        told = "; ".join(f"{capture.title}, {_two_psnr(capture)}" for capture in captures)
        return Picture(
            title,
            png(drawn),
            f"Spectra of {len(captures)} captures with their residuals. {told}.",
            "Chosen by PSNR. Above: the spectra. Below: the same minus the reference, enlarged; a perfect result is "
            "the dashed zero line.",
        )


def _two_psnr(capture: Capture) -> str:
    raw, denoised = (
        psnr_db(spectrum_L[None], capture.reference_L[None])[0] for spectrum_L in (capture.raw_L, capture.denoised_L)
    )
    before = f", raw {raw:.1f} dB" if np.isfinite(raw) else ""
    return f"{denoised:.1f} dB{before}"


def distributions(panel: PanelSpectra, others: Mapping[str, Floats]) -> Picture:
    """Box plots of PSNR and SAM by group, the candidate beside other methods' spectra (M, L)."""
    methods = {**others, CANDIDATE: panel.denoised_ML}
    values = {
        "PSNR (dB)": {name: psnr_db(x, panel.reference_ML) for name, x in methods.items()},
        "SAM (degrees)": {name: sam_deg(x, panel.reference_ML) for name, x in methods.items()},
    }
    with drawing():
        drawn, axes = figure(1, 2, height=3.4)
        for axis, (title, by_method) in zip(axes, values.items(), strict=True):
            clusters = {
                name: [value_M[panel.group_M == group] for group in panel.groups] for name, value_M in by_method.items()
            }
            grouped_boxes(axis, clusters, [group_label(group) for group in panel.groups])
            axis.set_ylabel(title)
        legend(drawn, method_handles(list(methods)))
        return Picture(
            "PSNR and SAM by group",
            png(drawn),
            "Box plots by group. Medians: " + _medians(values, panel) + ".",
            "A box spans the middle half of the captures, its line is the median, whiskers reach 5 % and 95 %, "
            "circles are the captures beyond. PSNR is better when higher, SAM when lower.",
        )


def grouped_boxes(axis: Axes, clusters: Mapping[str, Sequence[Floats]], labels: Sequence[str]) -> None:
    """One cluster of boxes a label, one box a method; values that are not finite are left out."""
    width = 0.8 / len(clusters)
    for number, (method, values) in enumerate(clusters.items()):
        shift = (number - (len(clusters) - 1) / 2) * width
        boxes = axis.boxplot(
            [value[np.isfinite(value)] for value in values],
            positions=np.arange(len(labels)) + shift,
            widths=0.82 * width,
            whis=(5, 95),
            patch_artist=True,
            manage_ticks=False,
            flierprops={"marker": "o", "markersize": 2.2, "markeredgewidth": 0.5},
            medianprops={"color": BLACK, "linewidth": 1.3},
        )
        colour = mark_of(method, number).colour
        for box in boxes["boxes"]:
            box.set(facecolor=colour, edgecolor=BLACK, linewidth=0.7)
        for flier in boxes["fliers"]:
            flier.set(markeredgecolor=colour)
    axis.set_xticks(range(len(labels)), labels)
    axis.tick_params(axis="x", rotation=0 if len(labels) < 7 else 90, length=0)
    axis.grid(axis="x", visible=False)


def method_handles(methods: Sequence[str]) -> list[Line2D]:
    """Legend entries of box plots."""
    return [
        Line2D([], [], marker="s", ls="", markersize=8, color=mark_of(name, n).colour, label=method_label(name))
        for n, name in enumerate(methods)
    ]


def _medians(values: Mapping[str, Mapping[str, Floats]], panel: PanelSpectra) -> str:
    """Medians by group in words."""
    told = []
    for title, by_method in values.items():
        for group in panel.groups:
            rows = panel.group_M == group
            parts = [
                f"{method_label(name)} {np.median(value_M[rows & np.isfinite(value_M)]):.3g}"
                for name, value_M in by_method.items()
                if np.isfinite(value_M[rows]).any()
            ]
            told.append(f"{title} {group_label(group)}: {', '.join(parts)}")
    return "; ".join(told)


def variance_map(panel: PanelSpectra) -> Picture:
    """Within-group variance (ddof 1) by wavelength, raw above denoised on one colour scale, and their ratio."""
    groups = [group for group in panel.groups if (panel.group_M == group).sum() > 1]
    before_GL, after_GL = (
        np.stack([x_ML[panel.group_M == group].var(axis=0, ddof=1) for group in groups])
        for x_ML in (panel.raw_ML, panel.denoised_ML)
    )
    ratio_GL = 100.0 * after_GL / np.maximum(before_GL, _FLOOR)
    low, high = (np.quantile(np.maximum([before_GL, after_GL], _FLOOR), share) for share in (0.005, 0.995))
    scale = LogNorm(low, max(high, 1.001 * low))
    maps = [
        ("raw", np.maximum(before_GL, _FLOOR), scale, "variance"),
        ("denoised", np.maximum(after_GL, _FLOOR), scale, "variance"),
        ("denoised / raw (%)", ratio_GL, None, "%"),
    ]
    with drawing():
        drawn, axes = figure(3, 1, height=1.6 + 0.75 * max(2.0, min(len(groups), 12)), sharex=True)
        extent = (panel.wavelength_nm[0], panel.wavelength_nm[-1], len(groups) - 0.5, -0.5)
        for axis, (title, image_GL, norm, unit) in zip(axes, maps, strict=True):
            shown = axis.imshow(
                image_GL, aspect="auto", extent=extent, cmap=SEQUENTIAL, norm=norm, interpolation="nearest"
            )
            axis.set_yticks(range(len(groups)), [group_label(group) for group in groups])
            axis.set_title(title)
            axis.grid(visible=False)
            drawn.colorbar(shown, ax=axis, label=unit, pad=0.01)
        axes[-1].set_xlabel(_WAVELENGTH)
        told = "; ".join(
            f"{group_label(group)} falls to {100.0 * after_L.mean() / max(before_L.mean(), _FLOOR):.1f} % of raw"
            for group, before_L, after_L in zip(groups, before_GL, after_GL, strict=True)
        )
        return Picture(
            "Within-group variance by wavelength",
            png(drawn),
            f"Heat maps of the variance between replicates over the wavelength, raw and denoised. Mean over λ: {told}.",
            "Replicates of one group should agree: dark is good. Raw and denoised share one colour scale; the lowest "
            "map is their ratio. Gate 4 asks for a fall of the mean.",
        )


def training_curves(curves: Mapping[str, pd.DataFrame], shown: int = 4) -> Picture | None:
    """Loss, validation PSNR and SAM over epochs, a row a training; None when no log has such a column."""
    columns = (("train_loss", "training loss"), ("val_psnr_mean", "validation PSNR (dB)"), ("val_sam_deg", "SAM (°)"))
    usable = {
        name: table for name, table in curves.items() if any(column in table for column, _ in columns) and len(table)
    }
    if not usable:
        return None
    usable = dict(list(usable.items())[-shown:])
    with drawing():
        drawn, axes = figure(len(usable), 3, height=0.5 + 2.1 * len(usable))
        for row, (name, table) in enumerate(usable.items()):
            best = _best_epoch(table)
            for axis, (column, title) in zip(axes[3 * row : 3 * row + 3], columns, strict=True):
                _curve(axis, table, column, best)
                axis.set_title(f"{name}: {title}" if column == "train_loss" else title)
                axis.set_xlabel("epoch")
        told = "; ".join(_curve_in_words(name, table) for name, table in usable.items())
        return Picture(
            "Training curves",
            png(drawn),
            f"Loss, validation PSNR and SAM over epochs. {told}.",
            "The ring marks the best epoch of the training itself; of all checkpoints that it kept, the panel chose. "
            "Epoch 0 is the model before its first step: for a residual head that is its linear base.",
        )


def _best_epoch(table: pd.DataFrame) -> float | None:
    return float(table["best_epoch"].iloc[-1]) if "best_epoch" in table else None


def _curve(axis: Axes, table: pd.DataFrame, column: str, best: float | None) -> None:
    if column not in table or not np.isfinite(pd.to_numeric(table[column], errors="coerce")).any():
        axis.text(0.5, 0.5, "not logged", ha="center", va="center", transform=axis.transAxes, color=GREY)
        return
    value = pd.to_numeric(table[column], errors="coerce")
    axis.plot(table["epoch"], value, "-", color=BLUE, marker="." if len(table) < 40 else None, markersize=5)
    kept = table["epoch"] == best
    axis.plot(table["epoch"][kept], value[kept], "o", mfc="none", mec=ORANGE, markersize=10, mew=2)
    axis.locator_params(axis="x", integer=True)


def fold_curves(curves: Mapping[int, pd.DataFrame]) -> Picture | None:
    """The training curves of all folds on one set of axes; None when no fold has logged one."""
    usable = {fold: table for fold, table in sorted(curves.items()) if len(table)}
    columns = (("train_loss", "training loss"), ("val_psnr_mean", "validation PSNR (dB)"), ("val_sam_deg", "SAM (°)"))
    if not any(column in table for table in usable.values() for column, _ in columns):
        return None
    with drawing():
        drawn, axes = figure(1, 3, height=3.0)
        for axis, (column, title) in zip(axes, columns, strict=True):
            for number, (fold, table) in enumerate(usable.items()):
                if column not in table:
                    continue
                mark = FOLD_MARKS[number % len(FOLD_MARKS)]
                value = pd.to_numeric(table[column], errors="coerce")
                axis.plot(table["epoch"], value, mark.line, color=mark.colour, label=f"fold {fold}")
                kept = table["epoch"] == _best_epoch(table)
                axis.plot(table["epoch"][kept], value[kept], mark.marker, color=mark.colour, mec=BLACK, markersize=8)
            axis.set_title(title)
            axis.set_xlabel("epoch")
            axis.locator_params(axis="x", integer=True)
        handles, labels = max((axis.get_legend_handles_labels() for axis in axes), key=lambda found: len(found[1]))
        legend(drawn, handles, labels)
        told = "; ".join(_curve_in_words(f"fold {fold}", table) for fold, table in usable.items())
        return Picture(
            "Training curves of the folds",
            png(drawn),
            f"Loss, validation PSNR and SAM over epochs, a line a fold. {told}.",
            "The marker is the epoch whose weights were kept.",
        )


def _curve_in_words(name: str, table: pd.DataFrame) -> str:
    best = _best_epoch(table)
    words = f"{name}: {int(table['epoch'].iloc[-1])} epochs"
    if best is None or "val_psnr_mean" not in table or not (table["epoch"] == best).any():
        return words
    value = table.loc[table["epoch"] == best, "val_psnr_mean"].iloc[0]
    return f"{words}, best epoch {best:.0f} with {value:.2f} dB"


def calibration(uncertainty: Mapping[str, Any]) -> Picture:
    """Coverage of the 68 % and 95 % bands, over all rows and by group, against what an honest error covers."""
    names = [f"coverage_{round(100 * level)}" for level in LEVELS]
    rows = {"all": uncertainty, **(uncertainty.get("by_group") or {})}
    labels = [group_label(name) for name in rows]
    with drawing():
        drawn, axes = figure(1, 1, height=1.3 + 0.32 * len(rows))
        axis = axes[0]
        place = np.arange(len(rows))[::-1]
        for name, level, colour, marker in zip(names, LEVELS, (BLUE, ORANGE), "os", strict=True):
            share = np.array([row.get(name, np.nan) for row in rows.values()], dtype=float)
            axis.axvline(level, color=colour, ls="--", lw=1.2)
            axis.hlines(place, np.minimum(share, level), np.maximum(share, level), color=colour, lw=1.0)
            axis.plot(share, place, marker, color=colour, markersize=8, label=f"{100 * level:.0f} % band")
        axis.axhspan(place[0] - 0.4, place[0] + 0.4, color=PALE, zorder=0)
        axis.set_yticks(place, labels)
        axis.set_xlim(0.0, 1.02)
        axis.set_ylim(-0.6, len(rows) - 0.4)
        axis.set_xlabel("share of samples whose reference lies inside the band\n(dashed: what it should be)")
        legend(drawn, *axis.get_legend_handles_labels())
        told = "; ".join(
            f"{label}: " + ", ".join(f"{100 * float(row.get(name, np.nan)):.1f} %" for name in names)
            for label, row in zip(labels, rows.values(), strict=True)
        )
        return Picture(
            "Calibration of the standard error",
            png(drawn),
            f"Coverage of the 68 % and the 95 % band. {told}.",
            "Left of its dashed line a band is too narrow (over-confident), right of it too wide. Bands are "
            "prediction ± z · standard error, held against the leave-one-out means.",
        )


def controls(rows: Mapping[str, Mapping[str, Any]]) -> Picture:
    """PSNR, SAM and ROI share of every method: the panel's figure (with ± sd for PSNR) and each group's."""
    columns = (("psnr_mean", "PSNR (dB)"), ("sam_mean", "SAM (°)"), ("area_within_10_pct_ratio", "dip areas kept"))
    groups = list(next(iter(rows.values())).get("by_group") or {})
    place = np.arange(len(rows))[::-1]
    with drawing():
        drawn, axes = figure(1, 3, height=1.4 + 0.33 * len(rows), sharey=True)
        for axis, (column, title) in zip(axes, columns, strict=True):
            for height, (number, (name, row)) in zip(place, enumerate(rows.items()), strict=True):
                colour = mark_of(name, number).colour
                spread = _number(row.get("psnr_std")) if column == "psnr_mean" else None
                axis.errorbar(_number(row.get(column)), height, xerr=spread, fmt="s", color=colour, mec=BLACK,
                              mew=0.6, markersize=9, capsize=3, zorder=3)  # fmt: skip
                for marker, group in zip(_GROUP_MARKERS, groups, strict=False):
                    value = _number((row.get("by_group") or {}).get(group, {}).get(column))
                    axis.plot(value, height + 0.3, marker, mfc="white", mec=colour, mew=1.2, markersize=5, zorder=3)
            axis.set_xlabel(title)
            axis.set_ylim(-0.6, len(rows) - 0.3)
        axes[0].set_yticks(place, [method_label(name) for name in rows])
        handles = [Line2D([], [], marker="s", ls="", color=GREY, mec=BLACK, markersize=9, label="panel (± sd)")]
        handles += [
            Line2D([], [], marker=marker, ls="", mfc="white", mec=BLACK, markersize=6, label=group_label(group))
            for marker, group in zip(_GROUP_MARKERS, groups, strict=False)
        ]
        legend(drawn, handles)
        told = "; ".join(
            f"{method_label(name)} {_number(row.get('psnr_mean')):.2f} dB, {_number(row.get('sam_mean')):.3f}°"
            for name, row in rows.items()
        )
        return Picture(
            "The candidate beside the controls",
            png(drawn),
            f"PSNR, SAM and share of captures with dip areas kept, by method. {told}.",
            "PSNR and the share of kept dip areas are better to the right, SAM to the left.",
        )


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")
