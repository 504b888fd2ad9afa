"""Figures of whole proteins: where the concept is found, which thresholds carry over, whether the model uses it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from concept_core.evaluation.measures import role_rows
from concept_core.report.record import ROLE_NAMES, StudyRecord
from study_core.report.style import BLACK, BLUE, GREY, ORANGE, PALE, VERMILION, figure


def localisation_vs_chance(record: StudyRecord) -> Figure:
    """Share of proteins with IOU above .75 and median IOU: the model against bag, untrained, PSSM and blind choice."""
    rows: list[tuple[str, float, float | None]] = []
    for source in ("chance anywhere", "chance inside the array"):
        value = record.value("iou_share", source=source)
        if value is not None:
            rows.append((source, value, None))
    for role in ("bag20", "untrained", "concept_free", "model", "pssm"):
        share, median = (record.value(name, source=role) for name in ("iou_share", "iou_median"))
        if share is not None:
            rows.append((ROLE_NAMES[role], share, median))
    drawn, (axis,) = figure(height=0.4 * len(rows) + 1.2)
    for row, (name, share, median) in enumerate(rows):
        colour = BLUE if name == "model" else PALE if name == "PSSM" else "#c9c9c9"
        axis.barh(row, share, height=0.6, color=colour, edgecolor=BLACK, linewidth=0.6)
        axis.text(share + 0.01, row, f"{share:.2f}", va="center", fontsize=8)
        if median is not None:
            axis.plot([median], [row], color=VERMILION, marker="D", markersize=6, linestyle="")
    axis.axvline(record.plan.gates.iou_share_min, color=GREY, linestyle="--")
    axis.set_yticks(range(len(rows)), [name for name, _, _ in rows])
    axis.invert_yaxis()
    axis.set_xlim(0, 1.08)
    axis.set_xlabel("bars: share of proteins with IOU > 0.75, gate dashed\ndiamonds: median IOU")
    return drawn


def threshold_transfer(record: StudyRecord) -> Figure | None:
    """Rates of each window threshold on whole proteins: windows' thresholds do not carry over."""
    rows = role_rows(record.tables.proteins, "model", record.layer) if len(record.tables.proteins) else None
    if rows is None or not len(rows):
        return None
    names = list(record.registry.thresholds)
    drawn, (axis,) = figure(height=3.0)
    kinds = (
        ("positive", "TPR, proteins with it", BLUE, ""),
        ("negative", "FPR, natural", ORANGE, "//"),
        ("decoy", "FPR, decoys", GREY, ".."),
    )
    for number, (kind, label, colour, hatch) in enumerate(kinds):
        values = [float((rows[rows.kind == kind].maximum >= record.registry.value(name)).mean()) for name in names]
        places = np.arange(len(names)) + (number - 1) * 0.26
        axis.bar(places, values, width=0.25, color=colour, hatch=hatch, edgecolor=BLACK, linewidth=0.5, label=label)
        for place, value in zip(places, values, strict=True):
            axis.text(place, value + 0.015, f"{value:.2f}", ha="center", fontsize=7.5)
    axis.axhline(0.05, color=VERMILION, linestyle="--", linewidth=0.9)
    axis.set_xticks(range(len(names)), [name.replace("_at_", "\nat_") for name in names])
    axis.set_ylim(0, 1.25)
    axis.set_ylabel("share of whole proteins")
    axis.legend(ncols=3, loc="upper center")
    return drawn


def tcav_sensitivity(record: StudyRecord) -> Figure | None:
    """Mean S of both directions by layer, on ligands and on other residues; p beside each point."""
    if not record.sensitivity:
        return None
    drawn, axes = figure(1, 2, height=3.0)
    for axis, direction in zip(axes, ("logistic", "pattern"), strict=True):
        found = [one for one in record.sensitivity["directions"] if one["direction"] == direction]
        layers = [one["layer"] for one in found]
        _points(axis, layers, found, "", BLUE, "o", "-", "ligand residue")
        _points(axis, layers, found, "other_", GREY, "s", "--", "other residue")
        axis.axhline(0, color=BLACK, linewidth=0.7)
        axis.set_xticks(layers, [f"L{n}" for n in layers])
        axis.set_title(f"{direction} direction; numbers: p of mean S")
    axes[0].set_ylabel("mean S, nats per unit of direction")
    axes[0].legend(loc="best")
    return drawn


def _points(
    axis: Any, layers: Sequence[int], found: Sequence[Any], prefix: str, colour: str, marker: str, line: str, label: str
) -> None:
    values = [one[f"{prefix}mean"] for one in found]
    axis.plot(layers, values, color=colour, marker=marker, linestyle=line, label=label)
    for layer, value, one in zip(layers, values, found, strict=True):
        axis.annotate(
            f"{one[f'{prefix}p']:.2f}",
            (layer, value),
            textcoords="offset points",
            xytext=(5, 5),
            fontsize=7.5,
            color=colour,
        )
