"""Gates 0 to 7 as data, and the seed's own thresholds with what they are worth.

Measures are made on the node; these rules are applied in the flow, and again by whoever replays an archived run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from concept_core.plans import ConceptPlan, GatePlan
from study_core.gates import GateRule, Measure, Slice

INTEGRITY, AGGREGATE, NULL, STRATA = "0 integrity", "1 aggregate", "2 null", "3 strata"
SKILL, DETECTION, LOCALISATION, TRANSFER = "4 skill", "5 detection", "6 localisation", "7 transfer"
REQUIRED = (INTEGRITY, AGGREGATE, NULL, STRATA, SKILL, DETECTION, LOCALISATION, TRANSFER)
SKILL_CONTROLS = ("bag20", "L0", "dipeptide", "untrained")

_NONE: Slice = {}
_MODEL = {"source": "model"}
_HELD_OUT_RAND = {"source": "model", "part": "held_out", "stratum": "rand"}


def rules(plan: ConceptPlan) -> tuple[GateRule, ...]:
    """Every rule of the plan; the concept-free network is asked for where the plan names one."""
    gates = plan.gates
    return (*_base(gates), *_skill(gates, plan.model.concept_free is not None), *_proteins(gates))


def _why(field: str) -> str:
    return GatePlan.model_fields[field].description or ""


def _base(gates: GatePlan) -> tuple[GateRule, ...]:
    return (
        GateRule(INTEGRITY, "dropped_share", "<=", gates.dropped_max, _why("dropped_max")),
        GateRule(INTEGRITY, "shared_groups", "==", 0, "Relatives on both sides make every held-out figure too good."),
        GateRule(INTEGRITY, "not_finite", "==", 0, "A score that is no number hides a broken model."),
        GateRule(INTEGRITY, "strata_missing", "==", 0, "Without a stratum its question was not asked."),
        GateRule(INTEGRITY, "smoke_passed", ">=", 6, "The installation works from model to artifact."),
        GateRule(AGGREGATE, "auroc", ">=", gates.rand_auroc_min, _why("rand_auroc_min"), slice=_HELD_OUT_RAND),
        GateRule(AGGREGATE, "ap", ">=", gates.rand_ap_min, _why("rand_ap_min"), slice=_HELD_OUT_RAND),
        GateRule(NULL, "p_bonferroni", "<=", gates.p_max, _why("p_max"), slice=_MODEL),
        GateRule(NULL, "refits", ">=", gates.null_refits_min, _why("null_refits_min"), slice=_MODEL),
        GateRule(NULL, "null_bias", "<=", gates.null_bias_max, _why("null_bias_max"), slice=_MODEL),
        GateRule(
            STRATA, "worst_auroc", ">=", gates.worst_oof_min, _why("worst_oof_min"), slice={**_MODEL, "part": "oof"}
        ),
        GateRule(
            STRATA, "worst_auroc", ">=", gates.worst_held_out_min, _why("worst_held_out_min"),
            slice={**_MODEL, "part": "held_out"},
        ),
    )  # fmt: skip


def _skill(gates: GatePlan, concept_free: bool) -> tuple[GateRule, ...]:
    found = [
        GateRule(SKILL, "skill_low", ">", gates.skill_min, _why("skill_min"), slice={"control": control})
        for control in SKILL_CONTROLS
    ]
    if concept_free:
        where = {"control": "concept_free"}
        field = "skill_concept_free_min"
        found.append(GateRule(SKILL, "skill_low", ">", gates.skill_concept_free_min, _why(field), slice=where))
    return tuple(found)


def _proteins(gates: GatePlan) -> tuple[GateRule, ...]:
    natural, decoy, auroc = {**_MODEL, "kind": "natural"}, {**_MODEL, "kind": "decoy"}, "protein_auroc"
    return (
        GateRule(DETECTION, auroc, ">=", gates.protein_natural_min, _why("protein_natural_min"), slice=natural),
        GateRule(DETECTION, auroc, ">=", gates.protein_decoy_min, _why("protein_decoy_min"), slice=decoy),
        GateRule(DETECTION, "protein_fpr", "<=", gates.protein_fpr_max, _why("protein_fpr_max"), slice=natural),
        GateRule(LOCALISATION, "iou_median", ">", gates.iou_median_min, _why("iou_median_min"), slice=_MODEL),
        GateRule(LOCALISATION, "iou_share", ">=", gates.iou_share_min, _why("iou_share_min"), slice=_MODEL),
        GateRule(
            LOCALISATION, "iou_share_over_low", ">", gates.iou_skill_min, _why("iou_skill_min"),
            slice={"control": "bag20"},
        ),
        GateRule(TRANSFER, "transfer_tpr", ">=", gates.transfer_tpr_min, _why("transfer_tpr_min"), slice=_MODEL),
    )  # fmt: skip


State = Literal["holds", "holds but says nothing", "fails", "not measured"]


class SeedLine(NamedTuple):
    """One threshold of the seed: the model's figure, that of a bag of residues, and what the line is worth."""

    what: str
    needs: str
    value: float | None
    bag: float | None
    state: State


def seed_lines(measures: Sequence[Measure]) -> tuple[SeedLine, ...]:
    """The seed's success criteria. A line that a bag of residues meets too says nothing."""
    table = {(one.metric, tuple(sorted(one.slice.items()))): one.value for one in measures}

    def value(metric: str, source: str, **where: str) -> float | None:
        return table.get((metric, tuple(sorted({"source": source, **where}.items()))))

    def line(
        what: str, needs: str, limit: float, metric: str, where: Slice = _NONE, *, below: bool = False
    ) -> SeedLine:
        model, bag = value(metric, "model", **where), value(metric, "bag20", **where)

        def met(figure: float | None) -> bool:
            return figure is not None and (figure < limit if below else figure > limit)

        state: State = "not measured" if model is None else "fails" if not met(model) else "holds"
        return SeedLine(what, needs, model, bag, "holds but says nothing" if state == "holds" and met(bag) else state)

    held_out = {"part": "held_out", "stratum": "rand"}
    null, bag_null = value("null_mean", "model"), value("null_mean", "bag20")
    near = null is not None and abs(null - 0.5) <= 0.05
    return (
        line("AUROC against random negatives", "> 0.85", 0.85, "auroc", held_out),
        line("AUROC against random negatives", "> 0.90", 0.90, "auroc", held_out),
        line("AUPRC against random negatives", "> 0.85", 0.85, "ap", held_out),
        line("p of the permutation null", "< 0.05", 0.05, "p", below=True),
        SeedLine(
            "AUROC of random CAVs", "about 0.50", null, bag_null,
            "not measured" if null is None else "holds" if near else "fails",
        ),
        line("Localization IOU, median, one step (as first asked for)", "> 0.75", 0.75, "iou_median_one_step"),
        line("Localization IOU, median, two steps", "> 0.75", 0.75, "iou_median"),
        line("Recall@1 (IOU ≥ 0.5), two steps", "> 0.80", 0.80, "iou_recall"),
        SeedLine("AUROC of esm2_t33_650M_UR50D", "> 0.95", None, None, "not measured"),
    )  # fmt: skip
