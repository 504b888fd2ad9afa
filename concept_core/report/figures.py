"""Figures of a study. Every series has a marker of its own beside its colour; figures are read in grey print too."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from concept_core.evaluation.measures import by_layer, figures, null_name, role_rows
from concept_core.evaluation.scores import even_weights
from concept_core.plans import NEGATIVES
from concept_core.report.record import ROLE_NAMES, STRATUM_NAMES, StudyRecord
from study_core.report.style import BLACK, BLUE, GREEN, GREY, ORANGE, PALE, PURPLE, SKY, VERMILION, figure

STRATUM_MARKS = {
    "rand": (SKY, "o", "-"),
    "hard": (GREEN, "s", "--"),
    "shuf": (ORANGE, "^", "-."),
    "scr": (VERMILION, "D", ":"),
}
REFERENCES = ("pssm", "pattern")


def controls_ladder(record: StudyRecord) -> Figure:
    """Worst stratum of every control and of each layer, out of fold, with group-bootstrap whiskers and the gate."""
    roles = [role for role in record.roles() if role != "model"]
    layers = [layer for layer in by_layer(record.tables, "oof") if layer > 0]
    names = [ROLE_NAMES[role] for role in roles] + [f"layer {layer}" for layer in layers]
    drawn, (axis,) = figure(height=0.36 * len(names) + 1.1)
    for row, role in enumerate(roles):
        value = record.value("worst_auroc", source=role, part="oof")
        low, high = (record.value(f"worst_auroc_{end}", source=role) for end in ("low", "high"))
        reference = role in REFERENCES
        _bar(axis, row, value, low, high, PALE if reference else "#c9c9c9", hatch="//" if reference else "")
    for row, layer in enumerate(layers, start=len(roles)):
        value = record.value("layer_worst_auroc", layer=f"L{layer}")
        chosen = layer == record.layer
        ends = [record.value(f"worst_auroc_{end}", source="model") if chosen else None for end in ("low", "high")]
        _bar(axis, row, value, ends[0], ends[1], BLUE if chosen else SKY)
    gate = record.plan.gates.worst_oof_min
    axis.axvline(gate, color=VERMILION, linestyle="--")
    axis.text(gate - 0.005, -0.75, f"gate {gate}", color=VERMILION, ha="right", va="center", fontsize=8)
    axis.axvline(0.5, color=GREY, linestyle=":")
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.4, -1.1)
    axis.set_xlim(0.4, 1.06)
    axis.set_xlabel("AUROC of the worst stratum, out of fold")
    return drawn


def _bar(
    axis: Any, row: int, value: float | None, low: float | None, high: float | None, colour: str, hatch: str = ""
) -> None:
    if value is None:
        return
    axis.barh(row, value - 0.4, left=0.4, height=0.62, color=colour, hatch=hatch, edgecolor=BLACK, linewidth=0.6)
    end = value
    if low is not None and high is not None:
        axis.plot([low, high], [row, row], color=BLACK, linewidth=1.2, marker="|", markersize=6)
        end = max(value, high)
    axis.text(end + 0.008, row, f"{value:.3f}", va="center", fontsize=8)


def auroc_by_layer(record: StudyRecord) -> Figure:
    """Worst stratum and AUROC over all strata by layer, with the range of the permutation null."""
    drawn, (axis,) = figure(height=3.2)
    parts = {"oof": ("out of fold", BLUE, "o", "-"), "held_out": ("held out", PURPLE, "s", "--")}
    for part, (name, colour, marker, line) in parts.items():
        found = by_layer(record.tables, part)
        layers = list(found)
        axis.plot(
            layers,
            [found[n].worst for n in layers],
            color=colour,
            marker=marker,
            linestyle=line,
            label=f"worst stratum, {name}",
        )
    found = by_layer(record.tables, "oof")
    axis.plot(
        list(found),
        [one.auroc_all for one in found.values()],
        color=GREY,
        marker="x",
        linestyle=":",
        label="all strata, out of fold",
    )
    nulls = {
        layer: record.tables.nulls[null_name("model", layer)]
        for layer in found
        if null_name("model", layer) in record.tables.nulls
    }
    if nulls:
        low, high = ([float(np.quantile(one, q)) for one in nulls.values()] for q in (0.0, 1.0))
        axis.fill_between(
            list(nulls), low, high, color=PALE, label=f"null, all of {record.tables.facts.null_refits} refits"
        )
    axis.axhline(record.plan.gates.worst_oof_min, color=VERMILION, linewidth=0.9, linestyle="--")
    axis.set_xticks(list(found), [f"L{n}" + ("\nletters" if n == 0 else "") for n in found])
    axis.set_ylabel("AUROC")
    axis.set_ylim(0.3, 1.03)
    axis.legend(loc="lower right")
    return drawn


def strata_by_layer(record: StudyRecord) -> Figure:
    """AUROC of each stratum by layer: out of fold on the left, held out on the right."""
    drawn, axes = figure(1, 2, height=3.0, sharey=True)
    for axis, (part, title) in zip(axes, (("oof", "out of fold"), ("held_out", "held out")), strict=True):
        found = by_layer(record.tables, part)
        for stratum in NEGATIVES:
            colour, marker, line = STRATUM_MARKS[stratum]
            values = [one.auroc.get(stratum, np.nan) for one in found.values()]
            axis.plot(list(found), values, color=colour, marker=marker, linestyle=line, label=STRATUM_NAMES[stratum])
        axis.set_title(title)
        axis.set_xticks(list(found), [f"L{n}" for n in found])
        axis.set_ylim(0.3, 1.03)
    axes[0].set_ylabel("AUROC against the stratum")
    axes[1].legend(loc="lower right", title="negatives")
    return drawn


def roc_pr_curves(record: StudyRecord) -> Figure:
    """ROC and precision-recall of the chosen layer, held out, a stratum a line."""
    from sklearn.metrics import precision_recall_curve, roc_curve

    rows = role_rows(record.tables.scores, "model", record.layer)
    part = "held_out" if (rows.part == "held_out").any() else "oof"
    rows = rows[rows.part == part]
    drawn, (roc, pr) = figure(1, 2, height=3.4)
    for stratum in NEGATIVES:
        chosen = rows[rows.stratum.isin(["pos", stratum])]
        if chosen.stratum.nunique() < 2:
            continue
        colour, marker, line = STRATUM_MARKS[stratum]
        truth, scores = (chosen.stratum == "pos").to_numpy(), chosen.score.to_numpy(float)
        x, y, _ = roc_curve(truth, scores)
        roc.plot(x, y, color=colour, linestyle=line, marker=marker, markersize=3, label=STRATUM_NAMES[stratum])
        precision, recall, _ = precision_recall_curve(truth, scores, sample_weight=even_weights(truth))
        pr.plot(recall, precision, color=colour, linestyle=line, marker=marker, markersize=3)
    roc.plot([0, 1], [0, 1], color=GREY, linewidth=0.7)
    roc.set(
        xlabel="false positive rate",
        ylabel="true positive rate",
        title=f"layer {record.layer}, {'held out' if part == 'held_out' else 'out of fold'}",
    )
    pr.set(xlabel="recall", ylabel="precision", title="prevalence one half a stratum", ylim=(0, 1.03))
    roc.legend(loc="lower right")
    return drawn


def score_histograms(record: StudyRecord) -> Figure:
    """Unseen logits of the chosen layer by stratum, with the window thresholds."""
    rows = role_rows(record.tables.scores, "model", record.layer)
    names = ["pos", *NEGATIVES]
    drawn, axes = figure(len(names), 1, height=4.6, sharex=True)
    edges = np.linspace(rows.score.min(), rows.score.max(), 45)
    for axis, stratum in zip(axes, names, strict=True):
        chosen = rows[rows.stratum == stratum].score
        axis.hist(
            chosen,
            bins=edges.tolist(),
            color=BLUE if stratum == "pos" else STRATUM_MARKS[stratum][0],
            edgecolor="white",
            linewidth=0.3,
        )
        axis.set_yticks([])
        name = "with the concept" if stratum == "pos" else STRATUM_NAMES[stratum]
        axis.set_ylabel(name, rotation=0, ha="right", va="center")
        for name, colour in (("f1_max", BLACK), ("protein_fpr_0.05", VERMILION)):
            if name in record.registry.thresholds:
                axis.axvline(record.registry.value(name), color=colour, linestyle="--", linewidth=0.9)
    axes[0].set_title("dashed: f1_max (black), protein_fpr_0.05 (red)")
    axes[-1].set_xlabel("logit of windows that the probe has not seen")
    return drawn


def random_comparison(record: StudyRecord, layer: int) -> Figure | None:
    """The layer's AUROC over all strata against its null; None where none was refitted."""
    null = record.tables.nulls.get(null_name("model", layer))
    if null is None:
        return None
    observed = by_layer(record.tables, "oof")[layer].auroc_all
    drawn, (axis,) = figure(height=2.4)
    axis.hist(null, bins=np.linspace(0.2, 1.0, 65).tolist(), color="#c9c9c9", edgecolor=GREY, linewidth=0.4)
    axis.axvline(observed, color=BLUE, linewidth=2)
    axis.text(observed - 0.01, axis.get_ylim()[1] * 0.9, f"CAV {observed:.3f}", color=BLUE, ha="right")
    p = (1 + int((null >= observed).sum())) / (len(null) + 1)
    axis.set(
        xlabel="AUROC over all strata, out of fold",
        title=f"layer {layer}: {len(null)} refits with permuted labels, p {p:.3f}",
    )
    axis.set_yticks([])
    return drawn


def learning_curve(record: StudyRecord) -> Figure | None:
    """Worst stratum by the number of homology groups that the probe was given, layers above 0."""
    curves = {layer: report["learning"] for layer, report in record.reports.items() if layer and report.get("learning")}
    if not curves:
        return None
    drawn, (axis,) = figure(height=2.6)
    for (layer, points), marker in zip(curves.items(), "os^Dvp*hXP" * 10, strict=False):
        chosen = layer == record.layer
        axis.plot(
            [one["groups"] for one in points], [one["worst"] for one in points], marker=marker,
            color=BLUE if chosen else GREY, linewidth=2 if chosen else 1, label=f"layer {layer}",
        )  # fmt: skip
    axis.set(xlabel="homology groups in training", ylabel="worst stratum, out of fold")
    axis.legend(loc="lower right", ncols=2)
    return drawn


def worst_name(record: StudyRecord, role: str) -> str:
    """The name of a source's worst stratum."""
    return STRATUM_NAMES[figures(role_rows(record.tables.scores, role, record.layer), "oof").worst_stratum]
