"""Figures on groups that no choice has seen, judged: by the limits of a capture, and whether the model is worth it."""

from __future__ import annotations

from typing import Any

from denoise_core.evaluation.limits import method_row
from denoise_core.evaluation.measurement import UnseenGroups, Worth
from denoise_core.evaluation.thresholds import GateThresholds, worth_rules
from study_core.gates import GateRecord, judge


def worth_gate(worth: Worth, thresholds: GateThresholds) -> GateRecord:
    """The worth gate: passed where the whole interval of the gain lies above its threshold."""
    (record,) = judge({"gain_over_base_low_db": worth.low_db}, worth_rules(thresholds))
    return record


def recommendation(worth: Worth, thresholds: GateThresholds) -> str:
    """What to ship, and why."""
    figures = (
        f"{worth.gain_db:+.3f} dB over {worth.base} on groups that no choice has seen (95 % {worth.low_db:+.3f} to "
        f"{worth.high_db:+.3f}, {worth.samples} samples of {worth.folds} fold{'s' * (worth.folds > 1)}, "
        f"{worth.groups_better} of {worth.groups} groups better)"
    )
    if worth_gate(worth, thresholds).passed:
        return f"Ship the model: {figures}."
    return f"Ship the filter: the model's gain is not resolved, {figures}."


def worth_record(worth: Worth, thresholds: GateThresholds) -> dict[str, Any]:
    """JSON-ready, with the verdict and the sentence."""
    verdict, sentence = worth_gate(worth, thresholds).record(), recommendation(worth, thresholds)
    return {**worth.model_dump(), "verdict": verdict, "recommendation": sentence}


def unseen_record(unseen: UnseenGroups, thresholds: GateThresholds) -> dict[str, Any]:
    """JSON-ready figures of the model on these groups, `worth` where it was measured."""
    judged = {} if unseen.worth is None else {"worth": worth_record(unseen.worth, thresholds)}
    named = {"what": unseen.what} if unseen.what else {}
    return {
        **named,
        "groups": list(unseen.groups),
        **method_row(unseen.scored, unseen.group_M, thresholds),
        **judged,
    }
