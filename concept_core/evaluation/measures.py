"""From tables to the numbers that gates compare: pure, so that an archived run can be judged again from its files.

`source` of a measure is a role: model, L0, bag20, dipeptide, untrained, concept_free, pssm, pattern. The model's layer
is the one with the best out-of-fold worst stratum; controls that have layers are taken at the same one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from concept_core.cav.nulls import Null
from concept_core.cav.rows import Floats
from concept_core.evaluation import threshold_registry
from concept_core.evaluation.localisation import GOOD, summary
from concept_core.evaluation.scores import StratumScores, auroc, by_stratum
from concept_core.evaluation.tables import Tables
from concept_core.evaluation.uncertainty import GroupBootstrap, paired
from study_core.gates import Measure

SKILL = ("bag20", "L0", "dipeptide", "untrained", "concept_free")
LAYERED = ("model", "untrained", "concept_free")
PARTS = ("oof", "held_out")


def role_rows(table: pd.DataFrame, role: str, layer: int) -> pd.DataFrame:
    """A role's rows at the chosen layer; `L0` is the model's own layer 0."""
    if role == "L0":
        return table[(table.role == "model") & (table.layer == 0)]
    found = table[table.role == role]
    return found[found.layer == layer] if role in LAYERED else found


def figures(table: pd.DataFrame, part: str) -> StratumScores:
    """Strata of one source's rows of one part."""
    chosen = table[table.part == part]
    return by_stratum(chosen.score.to_numpy(float), chosen.stratum.to_numpy(str))


def by_layer(tables: Tables, part: str, role: str = "model") -> dict[int, StratumScores]:
    """The strata of each layer."""
    rows = tables.scores[tables.scores.role == role]
    return {int(layer): figures(rows[rows.layer == layer], part) for layer in sorted(rows.layer.unique())}


def chosen_layer(tables: Tables) -> int:
    """The layer above 0 with the best out-of-fold worst stratum (of equal ones the lowest)."""
    worst = {layer: one.worst for layer, one in by_layer(tables, "oof").items() if layer > 0}
    known = {layer: value for layer, value in worst.items() if np.isfinite(value)}
    return max(known, key=lambda layer: (known[layer], -layer)) if known else max(worst)


def null_name(role: str, layer: int) -> str:
    """Name of a null in nulls.npz."""
    return f"{role}_L{layer}"


@dataclass(frozen=True)
class Measured:
    """The chosen layer and every measure."""

    layer: int
    measures: tuple[Measure, ...]


def measured(tables: Tables) -> Measured:
    """Everything that a gate may ask for, and what is reported beside."""
    layer = chosen_layer(tables)
    roles = [role for role in ("model", "L0", *SKILL, "pssm", "pattern") if len(role_rows(tables.scores, role, layer))]
    roles = list(dict.fromkeys(roles))
    rows = [*_integrity(tables), *_strata(tables, roles, layer), *_nulls(tables, layer), *_skill(tables, roles, layer)]
    rows += [*_proteins(tables, layer), *_localisation(tables, layer)]
    return Measured(layer, tuple(rows))


def _integrity(tables: Tables) -> Iterator[Measure]:
    facts = tables.facts
    for name in ("dropped_share", "shared_groups", "not_finite", "strata_missing", "smoke_passed", "null_refits"):
        value = getattr(facts, name)
        yield Measure(name, None if value is None else float(value))


def _strata(tables: Tables, roles: list[str], layer: int) -> Iterator[Measure]:
    for role in roles:
        rows = role_rows(tables.scores, role, layer)
        for part in PARTS:
            found, where = figures(rows, part), {"source": role, "part": part}
            yield Measure("worst_auroc", _or_none(found.worst), where)
            yield Measure("auroc_all", _or_none(found.auroc_all), where)
            yield Measure("ap_all", _or_none(found.ap_all), where)
            for stratum in found.auroc:
                yield Measure("auroc", _or_none(found.auroc[stratum]), {**where, "stratum": stratum})
                yield Measure("ap", _or_none(found.ap[stratum]), {**where, "stratum": stratum})
    for number, one in by_layer(tables, "oof").items():
        yield Measure("layer_worst_auroc", _or_none(one.worst), {"layer": f"L{number}"})


def nulls(tables: Tables, role: str, layer: int) -> Null | None:
    """A role's null at a layer, against its observed out-of-fold AUROC over all strata."""
    refits = tables.nulls.get(null_name(role, layer))
    rows = role_rows(tables.scores, role, layer)
    return None if refits is None or not len(rows) else Null(figures(rows, "oof").auroc_all, refits)


def _nulls(tables: Tables, layer: int) -> Iterator[Measure]:
    tested = max(1, sum(number > 0 for number in tables.facts.layers))
    for role in ("model", "bag20", "dipeptide", "concept_free"):
        null = nulls(tables, role, layer if role in LAYERED else 0)
        if null is None:
            continue
        where = {"source": role}
        yield Measure("p", null.p, where)
        yield Measure("p_bonferroni", min(1.0, null.p * (tested if role in LAYERED else 1)), where)
        yield Measure("null_mean", null.mean, where)
        yield Measure("null_bias", abs(null.mean - 0.5), where)
        yield Measure("z", _or_none(null.z), where)
        yield Measure("refits", float(len(null.refits)), where)


def _skill(tables: Tables, roles: list[str], layer: int) -> Iterator[Measure]:
    """Worst stratum of the model minus that of each control, out of fold, paired by window."""
    model = _oof(tables, "model", layer)
    strata, groups = model.stratum.to_numpy(str), model.group.tolist()
    bootstrap = GroupBootstrap(
        groups, resamples=tables.facts.bootstrap, confidence=tables.facts.confidence, seed=tables.facts.seed
    )

    def worst(scores: Floats) -> float:
        return by_stratum(scores, strata).worst

    def resampled(scores: Floats) -> Floats:
        return bootstrap.worst_stratum(scores, strata, groups)

    if not np.isfinite(worst(model.score.to_numpy(float))):
        return
    for role in roles:
        other = _oof(tables, role, layer)
        scores = other.score.to_numpy(float)
        interval = bootstrap.interval(worst(scores), resampled(scores))
        yield Measure("worst_auroc_low", _or_none(interval.low), {"source": role})
        yield Measure("worst_auroc_high", _or_none(interval.high), {"source": role})
        if role == "model" or other.key.tolist() != model.key.tolist():
            continue
        gain = paired(bootstrap, worst, resampled, model.score.to_numpy(float), scores)
        for name, value in (("skill", gain.value), ("skill_low", gain.low), ("skill_high", gain.high)):
            yield Measure(name, _or_none(value), {"control": role})


def _oof(tables: Tables, role: str, layer: int) -> pd.DataFrame:
    rows = role_rows(tables.scores, role, layer)
    return rows[rows.part == "oof"].sort_values("key", kind="stable")


def _proteins(tables: Tables, layer: int) -> Iterator[Measure]:
    for role in ("model", "bag20", "untrained", "concept_free", "pssm"):
        rows = role_rows(tables.proteins, role, layer) if len(tables.proteins) else tables.proteins
        if not len(rows):
            continue
        maxima = {kind: rows[rows.kind == kind].maximum.to_numpy(float) for kind in ("positive", "negative", "decoy")}
        for name, kind in (("natural", "negative"), ("decoy", "decoy")):
            value = auroc(maxima["positive"], maxima[kind])
            yield Measure("protein_auroc", _or_none(value), {"source": role, "kind": name})
        yield from _carried(rows, role)


def _carried(rows: pd.DataFrame, role: str) -> Iterator[Measure]:
    """`protein_fpr_0.05` where it was not set: each fold by a threshold of the other folds, the held-out part by one
    of all folds."""
    hits: dict[str, list[bool]] = {"negative": [], "decoy": [], "positive": []}
    for fold in sorted(rows.fold.unique()):
        set_on = rows[(rows.fold >= 0) & (rows.fold != fold) & (rows.kind == "negative")].maximum.to_numpy(float)
        if not len(set_on):
            continue
        threshold = threshold_registry.false_positive_rate(set_on, 0.05)
        outside = rows[rows.fold == fold]
        for kind in hits:
            hits[kind] += (outside[outside.kind == kind].maximum >= threshold).tolist()
        if fold < 0 and (outside.kind == "positive").any():
            tpr = float((outside[outside.kind == "positive"].maximum >= threshold).mean())
            yield Measure("transfer_tpr", tpr, {"source": role})
            yield Measure("transfer_proteins", float((outside.kind == "positive").sum()), {"source": role})
    for kind, name in (("negative", "natural"), ("decoy", "decoy")):
        if hits[kind]:
            yield Measure("protein_fpr", float(np.mean(hits[kind])), {"source": role, "kind": name})
    if hits["positive"]:
        yield Measure("protein_tpr", float(np.mean(hits["positive"])), {"source": role})


def located(tables: Tables, role: str, layer: int) -> pd.DataFrame:
    """A role's positives with known occurrences, sorted by accession."""
    rows = role_rows(tables.proteins, role, layer) if len(tables.proteins) else tables.proteins
    if not len(rows):
        return rows
    return rows[(rows.kind == "positive") & rows.iou.notna()].sort_values("accession", kind="stable")


def _localisation(tables: Tables, layer: int) -> Iterator[Measure]:
    model = located(tables, "model", layer)
    if not len(model):
        return
    groups = model.group.tolist()
    bootstrap = GroupBootstrap(
        groups, resamples=tables.facts.bootstrap, confidence=tables.facts.confidence, seed=tables.facts.seed
    )
    for role in ("model", "bag20", "untrained", "concept_free", "pssm"):
        rows = located(tables, role, layer)
        if not len(rows):
            continue
        for name, column in (("", "iou"), ("_one_step", "iou_one_step")):
            found = summary(rows[column].to_numpy(float))
            yield Measure(f"iou_median{name}", _or_none(found.median), {"source": role})
            yield Measure(f"iou_share{name}", _or_none(found.share_good), {"source": role})
            yield Measure(f"iou_recall{name}", _or_none(found.recall), {"source": role})
        if role != "model" and rows.accession.tolist() == model.accession.tolist():
            good, others = (np.asarray(one.iou > GOOD, dtype=np.float64) for one in (model, rows))
            gain = paired(bootstrap, lambda v: float(v.mean()), lambda v: bootstrap.mean(v, groups), good, others)
            yield Measure("iou_share_over", gain.value, {"control": role})
            yield Measure("iou_share_over_low", _or_none(gain.low), {"control": role})
    yield Measure("iou_share", float(model.chance_anywhere.mean()), {"source": "chance anywhere"})
    yield Measure("iou_share", float(model.chance_inside.mean()), {"source": "chance inside the array"})


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
