"""The gate `production`: a candidate is held against the model that its tenant has in production, by score.

Generic: a verdict carries a score, larger is better. The row stands in the gate table beside the study's own rows.
"""

from __future__ import annotations

from study_core.gates import GateRecord, GateRule, judge, passed, refused
from study_core.verdict import PRODUCTION, Verdict

REASON = "What is in production is not replaced by what is worse on the same panel."
UNSCORED = "the model in production has no score on this panel"


def beside(verdict: Verdict, incumbent: Verdict | None, margin: float) -> Verdict:
    """The verdict with its row against production; unchanged where there is nothing to be worse than."""
    found = row(verdict, incumbent, margin)
    return verdict if found is None else verdict.model_copy(update={"gates": (*verdict.gates, found)})


def row(verdict: Verdict, incumbent: Verdict | None, margin: float) -> GateRecord | None:
    """The record of the gate `production`: the score less that of `incumbent` must be at least `margin`.

    `incumbent` is the verdict of the model in production on the same panel. None where nothing is in production, or
    the candidate itself. A production model that cannot be scored here is nothing to be worse than: vacuous.
    """
    if incumbent is None or incumbent.candidate_sha256 == verdict.candidate_sha256:
        return None
    if incumbent.panel_sha256 != verdict.panel_sha256:
        return refused(PRODUCTION, "score", "production was judged on another panel; judge it on this one")
    rule = GateRule(PRODUCTION, "score", ">=", margin, REASON, against=PRODUCTION)
    (found,) = judge({"score": verdict.score}, [rule], baselines={PRODUCTION: {"score": incumbent.score}})
    if verdict.score is not None and incumbent.score is None:
        return found.model_copy(update={"passed": True, "reason": REASON, "vacuous": UNSCORED})
    return found


def own_gates_passed(verdict: Verdict) -> bool:
    """Whether the study's own gates passed, whatever the row against production says."""
    return passed([record for record in verdict.gates if record.gate != PRODUCTION])
