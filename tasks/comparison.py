"""The gate `production`: a candidate is held against the model that its tenant has in production, by score.

Generic: a verdict carries a score, larger is better. The row stands in the gate table beside the study's own rows.
"""

from __future__ import annotations

from study_core.gates import GateRecord, GateRule, judge, passed, refused
from study_core.verdict import PRODUCTION, Verdict

REASON = "What is in production is not replaced by what is worse on the same panel."
UNSCORED = "the model in production has no score on this panel"
OTHER_DATA = "the model in production was judged on another panel; the plan names the channel, which goes on with this"


def beside(verdict: Verdict, incumbent: Verdict | None, margin: float, *, other_data: bool = False) -> Verdict:
    """The verdict with its row against production; unchanged where there is nothing to be worse than.

    A margin below 0 lets a worse model through: a changed threshold like any other.
    """
    found = row(verdict, incumbent, margin, other_data=other_data)
    if found is None:
        return verdict
    changed = (*verdict.changed_thresholds, *((f"production.margin {margin:g} (standard 0)",) if margin < 0 else ()))
    return verdict.model_copy(update={"gates": (*verdict.gates, found), "changed_thresholds": changed})


def row(verdict: Verdict, incumbent: Verdict | None, margin: float, *, other_data: bool = False) -> GateRecord | None:
    """The record of the gate `production`: the score less that of `incumbent` must be at least `margin`.

    `incumbent` is the verdict of the model in production in the same channel. None where nothing is in production, or
    the candidate itself. A production model that cannot be scored here is nothing to be worse than: vacuous. One that
    was judged on another panel refuses, unless somebody said that its channel goes on with other data (`other_data`).
    """
    if incumbent is None or incumbent.candidate_sha256 == verdict.candidate_sha256:
        return None
    if incumbent.panel_sha256 != verdict.panel_sha256:
        if not other_data:
            return refused(PRODUCTION, "score", "production was judged on another panel; judge it on this one")
        return GateRecord(
            gate=PRODUCTION, metric="score", comparison=">=", threshold=margin, value=None, passed=True, reason=REASON,
            against=PRODUCTION, vacuous=OTHER_DATA,
        )  # fmt: skip
    rule = GateRule(PRODUCTION, "score", ">=", margin, REASON, against=PRODUCTION)
    (found,) = judge({"score": verdict.score}, [rule], baselines={PRODUCTION: {"score": incumbent.score}})
    if verdict.score is not None and incumbent.score is None:
        return found.model_copy(update={"passed": True, "reason": REASON, "vacuous": UNSCORED})
    return found


def own_gates_passed(verdict: Verdict) -> bool:
    """Whether the study's own gates passed, whatever the row against production says."""
    return passed([record for record in verdict.gates if record.gate != PRODUCTION])
