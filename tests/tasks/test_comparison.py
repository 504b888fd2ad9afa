"""The gate `production`: its row, its margin, and what it says where there is nothing to be worse than."""

from __future__ import annotations

import pytest

from study_core.gates import GateRecord
from study_core.verdict import Verdict
from tasks.comparison import beside, own_gates_passed


def verdict(score: float | None, name: str, *, panel: str = "p", passed: bool = True) -> Verdict:
    own = GateRecord(gate="size", metric="m", comparison=">=", threshold=0.0, value=1.0, passed=passed)
    return Verdict(candidate=name, candidate_sha256=name, panel_sha256=panel, score=score, gates=(own,))


@pytest.mark.parametrize(
    ("score", "margin", "passed"),
    [
        (50.0, 0.0, True),  # no worse is enough
        (49.0, 0.0, False),
        (49.0, -1.0, True),
        (50.4, 0.5, False),
        (50.5, 0.5, True),
        (None, -9.0, False),
        (float("nan"), -9.0, False),
    ],
)
def test_a_candidate_needs_productions_score_and_the_margin(score: float | None, margin: float, passed: bool) -> None:
    judged = beside(verdict(score, "new"), verdict(50.0, "old"), margin)
    row = judged.gates[-1]
    assert (row.gate, row.metric, row.against) == ("production", "score", "production")
    assert (row.passed, row.threshold) == (passed, margin)
    assert row.reason
    assert (judged.passed, own_gates_passed(judged)) == (passed, True)
    assert judged.failed_gates == (() if passed else ("production",))


def test_nothing_to_be_worse_than_leaves_no_row() -> None:
    alone = verdict(1.0, "new")
    assert beside(alone, None, 5.0) == alone
    assert beside(alone, verdict(1.0, "new"), 5.0) == alone  # it is the one in production: to run again is safe


def test_a_production_model_without_a_score_is_said_to_be_none_to_compare_with() -> None:
    judged = beside(verdict(1.0, "new"), verdict(None, "old"), 0.0)
    assert judged.passed
    assert judged.gates[-1].state == "vacuous"
    assert "no score" in judged.table()[-1]["reason"]
    assert not beside(verdict(None, "new"), verdict(None, "old"), 0.0).passed


def test_another_panel_compares_nothing_and_refuses() -> None:
    judged = beside(verdict(9.0, "new", panel="other"), verdict(1.0, "old"), 0.0)
    assert judged.failed_gates == ("production",)
    assert "another panel" in judged.gates[-1].reason


@pytest.mark.parametrize(
    "candidate", [verdict(9.0, "new", passed=False), verdict(9.0, "new").model_copy(update={"gates": ()})]
)
def test_being_better_than_production_excuses_no_gate(candidate: Verdict) -> None:
    judged = beside(candidate, verdict(1.0, "old"), 0.0)
    assert judged.gates[-1].passed
    assert not own_gates_passed(judged)
