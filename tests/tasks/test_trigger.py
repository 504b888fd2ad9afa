"""Act B's plan from what it is told: a checkpoint, or only the run that was refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from study_core.files import write_json
from study_core.gates import GateRecord
from study_core.verdict import Verdict
from tasks import trigger
from tasks.denoise import fallback
from tasks.denoise.parameters import ActBPlan, WarmStartPlan

SOURCE = "0473400e-1111-2222-3333-444455556666"


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a refused run, as `open_run` and `showing.publish` leave it."""
    monkeypatch.setenv("GATED_ARTIFACTS", str(tmp_path))
    folder = tmp_path / "act-of-god" / f"warm-start-strict-2026-11-21-{SOURCE[:8]}"
    plan = WarmStartPlan.model_validate(
        {"label": "strict", "top_k": 3, "gates": {"psnr_mean_min": 60}, "approval": {"ask": True}}
    )
    write_json(folder / "plan.json", plan.model_dump(mode="json"))
    told = {
        "psnr_mean": ("aggregate", False),
        "spurious_free_ratio": ("roi", False),
        "leaked_groups": ("integrity", True),
    }
    gates = tuple(
        GateRecord(gate=gate, metric=metric, comparison=">=", threshold=1.0, value=None, passed=passed)
        for metric, (gate, passed) in told.items()
    )
    verdict = Verdict(candidate="/models/best.pt", candidate_sha256="ab" * 32, panel_sha256="cd" * 32, gates=gates)
    write_json(folder / "verdict.json", verdict.model_dump(mode="json"))
    return folder


def test_the_source_run_alone_is_enough(refused: Path) -> None:
    plan = fallback.completed(ActBPlan(source_run=SOURCE))
    assert plan.checkpoint == "/models/best.pt"
    assert set(plan.failed_gates) == {"aggregate", "roi"}
    assert (plan.label, plan.top_k, plan.gates.psnr_mean_min, plan.approval.ask) == ("strict", 3, 60, True)


def test_a_named_checkpoint_is_taken_as_it_is(refused: Path) -> None:
    given = ActBPlan(source_run=SOURCE, checkpoint="mine.pt", failed_gates=("tail",))
    assert fallback.completed(given) is given


@pytest.mark.parametrize("source", ["", "ffffffff-1111-2222-3333-444455556666"])
def test_a_source_that_left_no_verdict_is_refused_with_the_next_step(refused: Path, source: str) -> None:
    with pytest.raises(trigger.NoSource, match=r"name a checkpoint, or the id of a run") as told:
        fallback.completed(ActBPlan(source_run=source))
    assert (source or "no source run") in str(told.value)


def test_whatever_is_handed_on_is_a_field_of_both_plans() -> None:
    """A field that Act B lacks would make the trigger fail the moment a gate does."""
    for plan in (WarmStartPlan, ActBPlan):
        assert issubclass(plan, BaseModel)
        assert set(fallback.HANDED_ON) <= plan.model_fields.keys()
