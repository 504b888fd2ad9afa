"""Curves of the study: ring correlations, spacing of the views, trainings."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from ptycho_core.comparison import ARMS, FLAT
from ptycho_core.report.record import StudyRecord, view_label
from ptycho_core.report.style import MARKS, axes, picture
from ptycho_core.report.tables import SHORT
from study_core.report.blocks import Grid
from study_core.report.style import BLACK, BLUE, GREEN, VERMILION, drawing


def ring_curves(study: StudyRecord) -> Grid:
    """Fourier ring correlation of the phase, one axes a cell, every arm, with the threshold's line."""
    threshold = study.design.metrics.frc_threshold
    pictures = []
    for cell in study.cells:
        if cell.state != "compared":
            continue
        with drawing():
            drawn, (ax,) = axes()
            for arm in ARMS:
                row = next((row for row in cell.rows(arm) if row["rings"]), None)
                if row is None or arm == FLAT:
                    continue
                mark, reached = MARKS[arm], row["numbers"]["ph_frc50"]
                ax.plot(row["rings"]["frequency"], row["rings"]["phase"], color=mark.colour, linestyle=mark.line,
                        label=f"{SHORT[arm]} {reached:.2f}")  # fmt: skip
            ax.axhline(threshold, color=BLACK, linewidth=0.8)
            ax.set(xlim=(0, 1), ylim=(-0.15, 1.05), xlabel="spatial frequency / Nyquist", ylabel="correlation")
            if ax.lines[:-1]:
                ax.legend(loc="lower left")
            blocks = next((row["rings"]["blocks"] for row in cell.record["arms"] if row["rings"]), 0)
            title = f"{cell.dose:g} photons, {view_label(cell.view)}"
            pictures.append(picture(drawn, title, f"Ring correlation of the phase, {title}", f"{blocks} lit blocks"))
    side = study.design.metrics.frc_block
    return Grid(
        "Fourier ring correlation of the phase", tuple(pictures),
        note=f"Summed over {side} px blocks that are wholly lit; the numbers are where a curve first falls below "
        f"{threshold:g}.",
    )  # fmt: skip


def spacing_histograms(study: StudyRecord) -> Grid:
    """Distance of every kept group to its nearest, with S, per view and half."""
    pictures = []
    for (view, split), one in study.spacing.items():
        with drawing():
            drawn, (ax,) = axes(height=2.5)
            edges, counts = np.array(one["histogram"]["edges"]), one["histogram"]["counts"]
            ax.bar(edges[:-1], counts, np.diff(edges), align="edge", color=BLUE if split == "test" else GREEN)
            ax.axvline(one["threshold"], color=VERMILION, linestyle="--", label=f"S = {one['threshold']:.1f} px")
            ax.set(xlabel="distance to the nearest group, px", ylabel="groups")
            ax.legend(loc="upper right")
            caption = (
                f"{one['n_accepted']} of {one['n_groups_candidate']} groups, {one['n_images']} images; the literal "
                f"rule on positions keeps {one['point_mask_accepted']} of {one['n_positions']}"
            )
            title = f"{view}, {split} half"
            pictures.append(picture(drawn, title, f"Histogram of group distances, {title}", caption))
    return Grid("Spacing of the views", tuple(pictures))


def training_curves(study: StudyRecord) -> Grid:
    """Held-out likelihood of every training, one axes a dose; below them nothing of the truth."""
    pictures = []
    for dose in study.design.doses:
        jobs = [job for job in study.training if job["dose"] == dose and job["arm"] == "pinn" and job["seed"] == 0]
        curves = [(job, _history(study.layout.hub / job["artifact_dir"] / "history.csv")) for job in jobs]
        curves = [(job, points) for job, points in curves if len(points)]
        if not curves:
            continue
        with drawing():
            drawn, (ax,) = axes()
            for (job, points), mark in zip(curves, list(MARKS.values()) * 3, strict=False):
                ax.plot(points[:, 0], points[:, 1], color=mark.colour, linestyle=mark.line,
                        label=f"{view_label(job['view'])} gs{job['gridsize']}")  # fmt: skip
            flat = [job["result"]["deviance_ratio_flat"] for job, _ in curves]
            ends = [f"{view_label(job['view'])} {job['result']['deviance_ratio_test']:.3f}" for job, _ in curves
                    if job["result"]["deviance_ratio_test"] is not None]  # fmt: skip
            ax.set(xlabel="iteration", ylabel="negative log-likelihood\nof photons not seen")
            ax.legend(loc="upper right")
            caption = f"Deviance ratio on the test view: {', '.join(ends)}" if ends else ""
            if flat and flat[0] is not None:
                caption += f"; a flat object {flat[0]:.3f}"
            pictures.append(picture(drawn, f"{dose:g} photons", f"Loss of the trainings at {dose:g} photons", caption))
    return Grid("Trainings", tuple(pictures))


def _history(path: Path) -> np.ndarray:
    """(iterations, 2): number and loss, smoothed over 9 iterations; empty where there is no history."""
    try:
        with open(path, newline="", encoding="utf-8") as stream:
            rows = [(float(row["iteration"]), float(row["nll"])) for row in csv.DictReader(stream)]
    except (OSError, KeyError, ValueError):
        return np.empty((0, 2))
    points = np.array(rows).reshape(-1, 2)
    if len(points) > 18:
        kernel = np.ones(9) / 9
        smooth = np.convolve(points[:, 1], kernel, mode="valid")
        return np.stack([points[4:-4, 0], smooth], axis=1)
    return points
