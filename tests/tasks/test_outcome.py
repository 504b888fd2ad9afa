"""How a run ends, seen without a server: which errors are verdicts, what they say, and which stay loud."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.objects import State
from prefect.states import Completed

from study_core.errors import BadInput
from tasks import outcome, sign_off
from tasks.dispatch import JobLost
from tasks.promotion import PromotionRefused
from tasks.run import Run, dated_name
from tasks.slurm.profiles import BadProfile
from tasks.slurm.specs import JobSpec, Outcome

TRACE = """Traceback (most recent call last):
  File "job.py", line 1, in train
    boom()
torch.OutOfMemoryError: no room
"""


def lost(message: str = TRACE, slurm_ids: tuple[str, ...] = ("4711", "4712")) -> JobLost:
    spec = JobSpec(name="train-fold_02", function="m:f")
    return JobLost(
        Outcome(
            spec=spec,
            key="k",
            state="failed",
            result=None,
            cause="oom",
            message=message,
            attempts=4,
            remedies=("oom: half the batch",),
            accounting={},
            slurm_ids=slurm_ids,
            folder=Path("jobs/k"),
        )
    )


def ended(error: BaseException) -> State[Any]:
    @outcome.routed
    def body() -> State[Any]:
        raise error

    return body()


@pytest.mark.parametrize(
    ("error", "name", "told"),
    [
        (lost(), "JobLost", "train-fold_02 (Slurm 4711, 4712) failed: oom. OutOfMemoryError: no room"),
        (lost("killed by the kernel\nmore", ("L17",)), "JobLost", "(local L17) failed: oom. killed by the kernel"),
        (lost("", ()), "JobLost", "train-fold_02 failed: oom."),
        (BadInput("not a number", file=Path("a.csv"), row=7, remedy="mend the row"), "BadInput", "a.csv"),
        (PromotionRefused("best.pt: changed since it was blessed; restore it"), "PromotionRefused", "restore it"),
        (BadProfile("a100.yaml: partition is missing"), "BadInput", "a100.yaml: partition is missing"),
    ],
)
def test_a_verdict_ends_the_run_under_its_name_in_one_line(error: Exception, name: str, told: str) -> None:
    state = ended(error)
    assert (state.is_failed(), state.name) == (True, name)
    assert told in str(state.message)
    assert "\n" not in str(state.message)


@pytest.mark.parametrize("bug", [TypeError("a bug"), ValueError("no remedy, so a bug"), KeyError("gates")])
def test_a_bug_stays_loud(bug: Exception) -> None:
    with pytest.raises(type(bug), match=str(bug.args[0])):
        ended(bug)


def test_what_the_body_returns_is_passed_on() -> None:
    state = Completed(message="fine")

    @outcome.routed
    def body(plan: int, *, twice: bool) -> State[Any]:
        assert (plan, twice) == (3, True)
        return state

    assert body(3, twice=True) is state


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("GATED_ARTIFACTS", str(tmp_path))
    return Run("act-b", "fallback", "run-1", tmp_path / "act-b" / "fallback-run-1")


def test_one_fallback_a_source_and_the_holder_may_come_back(run: Run, tmp_path: Path) -> None:
    assert outcome.claim(run, "") is None  # started by hand, of no source
    assert not (tmp_path / "act-b" / "sources").exists()
    assert outcome.claim(run, "source-1") is None
    assert outcome.claim(run, "source-1") is None  # a retry of the same run
    other = Run("act-b", "fallback", "run-2", tmp_path / "act-b" / "fallback-run-2")
    assert outcome.claim(other, "source-2") is None


def test_nobody_signs_off_without_a_name() -> None:
    with pytest.raises(ValueError, match="name"):
        sign_off.SignOff(name=" ", ship=True)
    assert sign_off.SignOff(name="Ada Lovelace").ship is False


def test_waiting_for_an_answer_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """And asks the server to wait longer than that: an expired pause would end the run as a plain `Failed`."""
    asked: list[float] = []

    async def never(*, timeout: float, **_: Any) -> None:
        asked.append(timeout)
        await asyncio.sleep(60)

    monkeypatch.setattr(sign_off, "apause_flow_run", never)
    assert asyncio.run(sign_off.answer(sign_off.SignOff, 0.01, key="k")) is None
    assert asked[0] > 0.01


def test_names_of_runs_carry_their_label_and_day() -> None:
    today = dated_name("warm-start", "")
    assert today.startswith("warm-start-20")
    assert dated_name("warm-start", "strict") == today.replace("warm-start-", "warm-start-strict-")
