"""Tables and sentences of a study's report: what was judged, what it lost to, what its figures do not say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from concept_core.evaluation.measures import by_layer
from concept_core.evaluation.thresholds import SKILL, seed_lines
from concept_core.plans import NEGATIVES, GatePlan
from concept_core.report.figures import worst_name
from concept_core.report.record import ROLE_NAMES, STRATUM_NAMES, StudyRecord
from study_core.gates import GateRecord
from study_core.report.blocks import Status, Table
from study_core.verdict import changed_thresholds, under

NONE = "–"


def number(value: float | None, digits: int = 3) -> str:
    """A figure for a cell."""
    return NONE if value is None else f"{value:.{digits}f}"


def sentence(record: StudyRecord) -> str:
    """The verdict in a line: what passed, or which gates failed and to what the model lost; changed thresholds."""
    changed = under(changed_thresholds(record.plan.gates, GatePlan()))
    if record.passed:
        return f"PASSED: layer {record.layer} of {record.model} passes all gates for {concept(record)}{changed}"
    failed = list(dict.fromkeys(one.gate for one in record.gates if not one.passed))
    lost = [
        f"{ROLE_NAMES[one.slice['control']]} on “{worst_name(record, 'model')}”"
        for one in record.gates
        if one.gate == SKILL and not one.passed and one.slice.get("control") in ROLE_NAMES
    ]
    why = f"; it knows no more than {', '.join(lost)}" if lost else ""
    return f"REFUSED by gate{'s' if len(failed) > 1 else ''} {', '.join(failed)}{why}{changed}"


def concept(record: StudyRecord) -> str:
    return record.plan.data.concept.name


def gates_table(record: StudyRecord) -> Table:
    """Every rule with its figure, its threshold and its reason."""
    rows = tuple(
        (
            one.gate,
            figure_name(one),
            number(one.value, 0 if one.metric in COUNTS else 3),
            _needs(one),
            one.state,
            one.reason,
        )
        for one in record.gates
    )
    marks: tuple[Status, ...] = tuple("pass" if one.passed else "fail" for one in record.gates)
    columns = ("gate", "figure", "value", "needs", "verdict", "reason")
    changed = changed_thresholds(record.plan.gates, GatePlan())
    note = f"Changed thresholds: {'; '.join(changed)}." if changed else ""
    title = "Every rule, its figure and its reason"
    return Table(title, columns, rows, marks, note=note, text_columns=2, last_is_text=True)


METRIC_NAMES = {
    "dropped_share": "share of rows dropped", "shared_groups": "homology groups on both sides",
    "not_finite": "scores that are not finite", "strata_missing": "strata of negatives missing",
    "smoke_passed": "smoke tests passed", "auroc": "AUROC", "ap": "average precision", "worst_auroc": "worst stratum",
    "p_bonferroni": "p of the null, times layers", "refits": "refits of the null",
    "null_bias": "|mean of the null − .5|",
    "skill_low": "lead, lower bound", "protein_auroc": "whole proteins, AUROC",
    "protein_fpr": "whole proteins, false positives", "iou_median": "IOU, median", "iou_share": "share with IOU > .75",
    "iou_share_over_low": "share, lead, lower bound", "transfer_tpr": "carried threshold, true positives",
}  # fmt: skip
COUNTS = ("shared_groups", "not_finite", "strata_missing", "smoke_passed", "refits")
SLICE_NAMES = {"held_out": "held out", "oof": "out of fold", "natural": "natural", "decoy": "decoys"}


def figure_name(one: GateRecord) -> str:
    """A rule's figure in words."""
    control = one.slice.get("control")
    over = [f"over {ROLE_NAMES.get(control, control)}"] if control else []
    where = [
        SLICE_NAMES.get(value) or STRATUM_NAMES.get(value) or value
        for key, value in one.slice.items()
        if key not in ("source", "control")
    ]
    return ", ".join([METRIC_NAMES.get(one.metric, one.metric), *over, *where])


def _needs(one: GateRecord) -> str:
    words = {">=": "≥", "<=": "≤", ">": "above", "<": "below", "==": "exactly"}
    return NONE if one.threshold is None else f"{words.get(one.comparison, '')} {one.threshold:g}"


def ladder_table(record: StudyRecord) -> Table:
    """Every source's worst stratum with its interval, and the model's lead over it."""
    rows = []
    for role in record.roles():
        value, low, high = (
            record.value("worst_auroc", source=role, part="oof"),
            *(record.value(f"worst_auroc_{end}", source=role) for end in ("low", "high")),
        )
        lead = [record.value(name, control=role) for name in ("skill", "skill_low", "skill_high")]
        held_out = record.value("worst_auroc", source=role, part="held_out")
        rows.append(
            (
                ROLE_NAMES[role], worst_name(record, role), number(value), f"{number(low)} … {number(high)}",
                number(held_out), NONE if lead[0] is None else f"{lead[0]:+.3f}",
                NONE if lead[0] is None else f"{number(lead[1])} … {number(lead[2])}",
            )
        )  # fmt: skip
    columns = ("source", "worst stratum", "AUROC", "95 %", "held out", "model's lead", "95 %")
    note = (
        "Out of fold unless said otherwise; intervals by a bootstrap of homology groups, paired for leads. PSSM and "
        "pattern are what one gets without a language model: beside, never a gate."
    )
    return Table("The model against what knows less", columns, tuple(rows), text_columns=2, note=note)


def ladder_in_words(record: StudyRecord) -> str:
    """The controls ladder for those who cannot see it."""
    values = [(ROLE_NAMES[role], record.value("worst_auroc", source=role, part="oof")) for role in record.roles()]
    return f"Bars of worst-stratum AUROC: {', '.join(f'{name} {number(value)}' for name, value in values)}"


def layers_in_words(record: StudyRecord) -> str:
    """The layer curve for those who cannot see it."""
    found = by_layer(record.tables, "oof").items()
    values = ", ".join(f"layer {layer} {_finite(one.worst)}" for layer, one in found)
    return f"Curves of AUROC by layer over the band of the permutation null. Worst stratum, out of fold: {values}"


def strata_table(record: StudyRecord) -> Table:
    """AUROC a stratum and layer, both parts; AP over all strata with its prevalence."""
    rows, marks = [], []
    held_out = by_layer(record.tables, "held_out")
    for layer, found in by_layer(record.tables, "oof").items():
        other = held_out[layer]
        cells = [f"{number(found.auroc.get(name))} / {_finite(other.auroc.get(name))}" for name in NEGATIVES]
        ap = f"{number(found.ap_all)} / {_finite(other.ap_all)}"
        rows.append((f"L{layer}", *cells, ap))
        marks.append("pass" if layer == record.layer else "none")
    columns = ("layer", *(STRATUM_NAMES[name] for name in NEGATIVES), "AP, all strata")
    prevalence = by_layer(record.tables, "oof")[record.layer].prevalence
    note = (
        f"Out of fold / held out. AP over all strata has a prevalence of {prevalence:.2f}. The marked layer was chosen "
        "by its worst stratum out of fold; only its held-out figures were judged."
    )
    return Table("AUROC by stratum and layer", columns, tuple(rows), tuple(marks), note=note)  # type: ignore[arg-type]


def _finite(value: float | None) -> str:
    return NONE if value is None or value != value else f"{value:.3f}"


def seed_table(record: StudyRecord) -> Table:
    """The seed's thresholds and what each is worth."""
    lines = seed_lines(record.found.measures)
    rows = tuple((one.what, one.needs, number(one.value), number(one.bag), one.state) for one in lines)
    states: dict[str, Status] = {"holds": "pass", "fails": "fail"}
    marks = tuple(states.get(one.state, "none") for one in lines)
    note = "“Holds but says nothing”: a bag of residues, which knows nothing of order, meets the threshold too."
    columns = ("criterion", "needs", "model", "bag of residues", "what it is worth")
    return Table(
        "What each is worth",
        columns,
        rows,
        marks,
        text_columns=1,
        last_is_text=True,
        note=note,
    )


def detection_table(record: StudyRecord) -> Table:
    """Whole proteins: AUROC and rates of each source."""
    rows = []
    for role in ("model", "bag20", "untrained", "concept_free", "pssm"):
        natural = record.value("protein_auroc", source=role, kind="natural")
        if natural is None:
            continue
        figures = (
            record.value("protein_auroc", source=role, kind="decoy"), record.value("protein_tpr", source=role),
            record.value("protein_fpr", source=role, kind="natural"),
            record.value("protein_fpr", source=role, kind="decoy"), record.value("transfer_tpr", source=role),
        )  # fmt: skip
        rows.append((ROLE_NAMES[role], number(natural), *(number(one, 2) for one in figures)))
    columns = ("source", "AUROC natural", "AUROC decoy", "TPR", "FPR natural", "FPR decoy", "TPR held out")
    note = (
        "Rates at protein_fpr_0.05, each fold by the threshold of the other folds. A decoy is a protein with every "
        "occurrence shuffled in place."
    )
    return Table("Proteins that no probe was trained on", columns, tuple(rows), note=note)


def localisation_table(record: StudyRecord) -> Table:
    """Where the best window lies, one step and two."""
    rows = []
    for role in ("model", "bag20", "untrained", "concept_free", "pssm"):
        found = [
            record.value(f"{name}{step}", source=role)
            for step in ("", "_one_step")
            for name in ("iou_median", "iou_share", "iou_recall")
        ]
        if found[0] is not None:
            rows.append((ROLE_NAMES[role], *(number(one, 2) for one in found)))
    columns = ("source", "median IOU", "IOU > .75", "IOU ≥ .5", "median, one step", "> .75", "≥ .5")
    return Table("The best window of each protein against the known occurrences", columns, tuple(rows))


def sensitivity_table(record: StudyRecord) -> Table | None:
    """Every direction of true TCAV; None where it was not asked for."""
    if not record.sensitivity:
        return None
    rows = tuple(_use(one) for one in record.sensitivity["directions"])
    columns = ("direction", "S > 0", "S > 0, random", "mean S", "p", "mean S, other residue", "p", "p of contrast")
    first = record.sensitivity["directions"][0]
    note = (
        f"{first['examples']} held-out positives, {first['random_cavs']} label-shuffled CAVs, two-sided. The share of "
        "S > 0 spreads widely among random directions and is no evidence. Reported, not gated."
    )
    return Table("Does the model use the direction?", columns, rows, note=note)


def _use(one: Mapping[str, Any]) -> tuple[str, ...]:
    random = f"{one['random_share']:.2f} ± {one['random_share_sd']:.2f}"
    figures = (f"{one['mean']:+.3f}", f"{one['p']:.2f}", f"{one['other_mean']:+.3f}", f"{one['other_p']:.2f}")
    return (f"L{one['layer']} {one['direction']}", f"{one['share']:.2f}", random, *figures, f"{one['contrast_p']:.2f}")


def notices(record: StudyRecord) -> tuple[str, ...]:
    """What the figures do not say."""
    found = []
    if beaten := _beaten_by_pssm(record):
        found.append(beaten)
    pattern = record.corpus.get("pattern", {})
    if by_pattern(record):
        found.append("The pattern made the labels of this set: its own figures, and the PSSM's, are a ceiling.")
    elif pattern:
        found.append(
            f"Annotation is incomplete: {pattern['hits_unannotated']} of "
            f"{pattern['hits_unannotated'] + pattern['hits_annotated']} matches of the pattern in positive proteins "
            f"carry no known span, and {pattern['negative_proteins_with_it']} negative proteins hold a match. Such "
            "hits are counted apart, neither true nor false."
        )
    if record.model.startswith("house"):
        found.append(
            "The house model is a fixture that knows one family, not a general protein language model: its figures say "
            "that the pipeline works, not what a pretrained model would reach."
        )
    if not record.sensitivity:
        found.append("This is concept probing: that a direction can be read off is no evidence that the model uses it.")
    found.append(
        "Fingers stand in arrays: a blind hit inside an array overlaps a finger well (chance inside the array)."
    )
    return tuple(found)


def by_pattern(record: StudyRecord) -> bool:
    """Whether every match of the pattern is a label: then the pattern was what labelled."""
    pattern = record.corpus.get("pattern", {})
    return bool(pattern) and not (pattern["hits_unannotated"] or pattern["negative_proteins_with_it"])


def _beaten_by_pssm(record: StudyRecord) -> str:
    """The sentence that a CAV's card carries where a PSSM does as well; empty where it does not."""
    said = []
    for what, metric, where in (
        ("tells positives from their worst stratum", "worst_auroc", {"part": "held_out"}),
        ("finds proteins", "protein_auroc", {"kind": "natural"}),
        ("locates", "iou_share", {}),
    ):
        model, pssm = record.value(metric, source="model", **where), record.value(metric, source="pssm", **where)
        if model is not None and pssm is not None and pssm >= model:
            said.append(f"{what} as well or better ({pssm:.2f} against {model:.2f})")
    return f"Without any language model, a position matrix (PSSM) {', and '.join(said)}." if said else ""
