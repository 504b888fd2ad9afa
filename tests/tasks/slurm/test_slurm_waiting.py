"""A job that waits: time in the queue is no failure, failed launches are let go again, endless reasons are told."""

from __future__ import annotations

from typing import Any

import pytest
from dispatch_lab import Lab

from tasks.slurm.dispatcher import JobSpec
from tasks.slurm.waiting import advice

ECHO = JobSpec("echo", "slurm_jobs:echo", {"n": 1})
HELD = "launch failed requeued held"


def test_time_in_the_queue_is_no_failure(lab: Lab) -> None:
    lab.after(14 * 86400 / 20_000, lambda: None)
    lab.sleep = _long_sleeps(lab)  # type: ignore[method-assign]
    lab.when(lambda: lab.clock.now - begun > 14 * 86400, lab.runs("1"))
    begun = lab.clock.now
    (outcome,) = lab.outcomes([ECHO])
    assert (outcome.state, outcome.attempts) == ("done", 1)


def _long_sleeps(lab: Lab) -> Any:
    sleep = lab.sleep
    return lambda seconds: sleep(600.0)


def test_a_failed_launch_is_released_twice_then_tried_as_another_job_then_given_up(lab: Lab) -> None:
    for number in ("1", "2", "3", "4"):
        lab.when(lab.has(number), lambda number=number: lab.fake.set(number, "PENDING", reason=HELD))
        for _ in range(2):
            lab.when(
                lambda number=number: lab.fake.jobs()[number]["reason"] == "None",
                lambda number=number: lab.fake.set(number, "PENDING", reason=HELD),
            )
    (outcome,) = lab.outcomes([ECHO])
    assert (outcome.state, outcome.cause, outcome.attempts) == ("failed", "launch_failed", 4)
    assert HELD in outcome.message
    assert len(lab.told("released")) == 8
    assert {job["state"] for job in lab.fake.jobs().values()} == {"CANCELLED"}


def test_a_launch_that_failed_once_is_released_and_runs(lab: Lab) -> None:
    lab.when(lab.has("1"), lambda: lab.fake.set("1", "PENDING", reason=HELD))
    lab.when(lambda: lab.fake.jobs()["1"]["reason"] == "None", lab.runs("1"))
    (outcome,) = lab.outcomes([ECHO])
    assert (outcome.state, outcome.attempts) == ("done", 1)


@pytest.mark.parametrize(
    ("reason", "told"),
    [("PartitionTimeLimit", 1), ("QOSMaxWallDurationPerJobLimit", 1), ("JobHeldUser", 1), ("Priority", 0)],
)
def test_a_reason_that_never_ends_is_told_once_and_is_no_failure(lab: Lab, reason: str, told: int) -> None:
    lab.when(lab.has("1"), lambda: lab.fake.set("1", "PENDING", reason=reason))
    lab.after(3600, lambda: lab.fake.set("1", "PENDING", reason="None"))
    lab.after(0, lab.runs("1"))
    (outcome,) = lab.outcomes([ECHO])
    assert (outcome.state, outcome.attempts) == ("done", 1)
    assert [event["cause"] for event in lab.told("stuck")] == [reason] * told


@pytest.mark.parametrize(
    ("reason", "never"),
    [
        ("AssocGrpCPUMinutesLimit", True),
        ("QOSGrpBillingMinutes", True),
        ("AssocGrpCPURunMinutesLimit", False),  # of what runs now
        ("AssocGrpCpuLimit", False),
        ("AssocMaxWallDurationPerJobLimit", True),
        ("QOSMaxCpuPerUserLimit", False),
        ("QOSMinGRES", True),
        ("QOSTimeLimit", True),
        ("PartitionTimeLimit", True),
        ("ReservationDeleted", True),
        ("Reservation", False),
        ("JobHoldMaxRequeue", True),
        ("job requeued in held state", True),  # scontrol requeuehold, with State=SpecialExit too
        ("InvalidQOS", True),
        ("ReqNodeNotAvail, UnavailableNodes:g1", False),
        ("PartitionDown", False),
        ("Dependency", False),
    ],
)
def test_which_reasons_never_end(reason: str, never: bool) -> None:
    assert bool(advice(reason)) == never


def test_the_first_word_waits_for_the_limits_name_and_each_reason_is_told_once(lab: Lab) -> None:
    reasons = ("PartitionConfig", "PartitionTimeLimit", "Priority", "PartitionTimeLimit", "JobHeldUser")
    lab.when(lab.has("1"), lambda: None)
    for reason in reasons:
        lab.after(5, lambda reason=reason: lab.fake.set("1", "PENDING", reason=reason))
    lab.after(10, lab.runs("1"))
    lab.outcomes([ECHO])
    told = [(event["cause"], event["text"].partition(": ")[2]) for event in lab.told("stuck")]
    assert told == [(reason, advice(reason)) for reason in ("PartitionTimeLimit", "JobHeldUser")]


def test_the_first_word_is_told_when_the_scheduler_has_no_other(lab: Lab) -> None:
    lab.when(lab.has("1"), lambda: lab.fake.set("1", "PENDING", reason="PartitionConfig"))
    lab.after(300, lambda: lab.fake.set("1", "PENDING", reason="None"))
    lab.after(0, lab.runs("1"))
    lab.outcomes([ECHO])
    assert [event["cause"] for event in lab.told("stuck")] == ["PartitionConfig"]
