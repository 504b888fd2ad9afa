"""Figures of single proteins: the track of a scan, and the heatmap of residues by layers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from concept_core.cav.rows import Floats
from concept_core.corpus.rows import Span
from concept_core.evaluation.localisation import Heatmap, heatmaps
from concept_core.evaluation.measures import located
from concept_core.layout import DetectionFiles
from concept_core.predictions import Merged
from concept_core.report.record import StudyRecord
from study_core.files import write_bytes
from study_core.report.style import BLACK, BLUE, GREEN, ORANGE, SEQUENTIAL, VERMILION, drawing, figure, png

AROUND = 60
"""Residues shown on either side of a heatmap's window."""


def track_figure(
    title: str, scores: Floats, window: int, *, threshold: float, domains: Sequence[Span] = (),
    patterns: Sequence[Span] = (), hits: Sequence[Span] = (),
) -> Figure:  # fmt: skip
    """Score of every window at its middle residue; known occurrences shaded, matches of the pattern ticked."""
    drawn, (axis,) = figure(height=2.1)
    middles = np.arange(len(scores)) + min(window, len(scores) + window - 1) / 2
    for number, (start, end) in enumerate(domains):
        axis.axvspan(start, end, color=GREEN, alpha=0.22, linewidth=0, label="known" if number == 0 else None)
    axis.plot(middles, scores, color=BLUE, linewidth=1)
    axis.axhline(threshold, color=VERMILION, linestyle="--", linewidth=0.9)
    top = axis.get_ylim()[1]
    for start, end in patterns:
        axis.plot([(start + end) / 2], [top], marker="v", color=ORANGE, markersize=5, clip_on=False)
    for start, end in hits:
        axis.plot([start, end], [threshold, threshold], color=BLACK, linewidth=2.5, solid_capstyle="butt")
    axis.set(title=title, xlabel="residue", ylabel="logit")
    axis.set_xlim(0, len(scores) + window)
    return drawn


def chosen_heatmaps(record: StudyRecord, layer: int) -> list[Heatmap]:
    """Best, worst and drawn proteins of a layer by the IOU of its own best window."""
    rows = located(record.tables, "model", layer)
    ious = dict(zip(rows.accession.tolist(), rows.iou.astype(float).tolist(), strict=True)) if len(rows) else {}
    plan = record.plan.evaluation
    return heatmaps(ious, plan.heatmaps, plan.seed)


def heatmap_figure(record: StudyRecord, chosen: Heatmap, layer: int, values: Mapping[int, Floats]) -> Figure:
    """Residues × layers of the projection on the direction, each layer scaled by itself; found and known are boxed."""
    protein = next(one for one in record.proteins if one.accession == chosen.accession and one.kind == "positive")
    rows = located(record.tables, "model", layer)
    start = int(rows[rows.accession == chosen.accession].start.iloc[0])
    width, length = record.tables.facts.window, len(protein.sequence)
    first, last = max(0, start - AROUND), min(length, start + width + AROUND)
    layers = sorted(values)
    image = np.stack([_scaled(values[one])[first:last] for one in layers])
    drawn, (axis,) = figure(height=0.32 * len(layers) + 1.25)
    axis.imshow(image, aspect="auto", cmap=SEQUENTIAL, extent=(first, last, len(layers) - 0.5, -0.5), vmin=-3, vmax=3)
    axis.grid(visible=False)
    axis.set_yticks(range(len(layers)), [f"L{one}" for one in layers])
    for begin, end in protein.domains:
        if begin < last and end > first:
            axis.add_patch(_box(begin, end, len(layers), "white", "-", 1.4))
    axis.add_patch(_box(start, min(start + width, length), len(layers), VERMILION, "--", 2.0))
    axis.set_xlim(first, last)
    axis.set_xlabel("residue")
    axis.set_title(f"{chosen.accession}, layer {layer}: IOU {chosen.iou:.2f} ({chosen.why})\nRed: found, white: known")
    return drawn


def _scaled(values: Floats) -> Floats:
    spread = float(np.std(values))
    return (values - float(np.mean(values))) / spread if spread > 0 else np.zeros_like(values)


def _box(start: float, end: float, rows: int, colour: str, line: str, weight: float) -> Rectangle:
    return Rectangle(
        (start, -0.45), end - start, rows - 0.1, fill=False, edgecolor=colour, linestyle=line, linewidth=weight
    )


def file_name(accession: str) -> str:
    """An accession as a file's name: letters that no file system takes become underscores."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", accession)


def write_tracks(files: DetectionFiles, merged: Merged) -> list[tuple[str, bytes]]:
    """A scan's best proteins as tracks/<accession>.png: hits as bars, matches of the pattern ticked; each's PNG."""
    records = {one["accession"]: one for one in merged.predictions}
    written = []
    with drawing():
        for accession, scores in merged.tracks.items():
            one = records[accession]
            drawn = track_figure(
                f"{accession}: {len(one['hits'])} hits, confidence {one['confidence']}", scores,
                one["length"] - len(scores) + 1, threshold=merged.summary["threshold"], patterns=one["patterns"],
                hits=[(hit["start"], hit["end"]) for hit in one["hits"]],
            )  # fmt: skip
            written.append((accession, bytes(png(drawn))))
            write_bytes(files.tracks / f"{file_name(accession)}.png", written[-1][1])
    return written
