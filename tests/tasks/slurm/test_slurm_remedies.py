"""Each cause ends as the table says: on the fake cluster, through the public door."""

from __future__ import annotations

import errno
import re
from pathlib import Path
from typing import Any

import pytest
from dispatch_lab import Lab

from tasks.slurm.dispatcher import JobSpec
from tasks.slurm.remedies import NO_RETRY, TABLE, Adjustments, decide, excluded_nodes


def _every_attempt_runs(lab: Lab, most: int) -> None:
    for number in range(1, most + 1):
        lab.when(lab.has(str(number)), lab.runs(str(number)))


@pytest.mark.parametrize(
    ("function", "arguments", "state", "cause", "attempts", "result"),
    [
        ("bug", {}, "failed", "exception", 1, None),
        ("not_json", {}, "failed", "exception", 1, None),
        ("cuda_hungry", {"fits_after": 2}, "done", "", 3, {"batch_halvings": 2, "lr_factor": 1.0, "grad_clip": None}),
        ("cuda_hungry", {"fits_after": 3}, "done", "", 4, {"batch_halvings": 3, "lr_factor": 1.0, "grad_clip": None}),
        ("cuda_hungry", {"fits_after": 4}, "failed", "cuda_oom", 4, None),
        ("diverging", {}, "done", "", 2, {"batch_halvings": 0, "lr_factor": 0.5, "grad_clip": 1.0}),
        ("diverging", {"always": True}, "failed", "nan_loss", 2, None),
        ("disk", {"number": errno.ESTALE, "times": 1}, "done", "", 2, None),
        ("disk", {"number": errno.EDQUOT, "times": 9}, "failed", "disk_full", 4, None),
        ("die", {"times": 2}, "done", "", 3, None),
        ("die", {"times": 3}, "failed", "killed", 3, None),
    ],
)
def test_what_the_job_does(
    lab: Lab, function: str, arguments: dict[str, Any], state: str, cause: str, attempts: int, result: Any
) -> None:
    _every_attempt_runs(lab, attempts)
    (outcome,) = lab.outcomes([JobSpec("job", f"slurm_jobs:{function}", arguments)])
    assert (outcome.state, outcome.cause, outcome.attempts) == (state, cause, attempts)
    if result is not None:
        assert outcome.result == {"adjustments": result}
    assert len(lab.fake.jobs()) == attempts
    audited = lab.told("remedy")
    assert len(audited) == attempts - 1
    assert all(event["cause"] in TABLE and event["action"] for event in audited)
    if state == "failed":
        assert outcome.message
        assert lab.told("failed")[0]["cause"] == cause


def test_a_bug_brings_its_traceback_without_the_runner_in_it(lab: Lab) -> None:
    _every_attempt_runs(lab, 1)
    (outcome,) = lab.outcomes([JobSpec("job", "slurm_jobs:bug")])
    assert "KeyError: 'a bug in the job'" in outcome.message
    assert "in bug" in outcome.message
    assert "runner.py" not in outcome.message


@pytest.mark.parametrize(
    ("ends_as", "cause", "retried"),
    [
        ("FAILED", "launch_failed", True),  # it never began: the node's fault
        ("OUT_OF_MEMORY", "oom", True),
        ("TIMEOUT", "overran", True),
        ("NODE_FAIL", "node_fail", True),
        ("BOOT_FAIL", "node_fail", True),
        ("PREEMPTED", "preempted", True),
        ("COMPLETED", "lost_result", True),
        ("DEADLINE", "deadline", False),
        ("CANCELLED by 1000", "cancelled", False),
    ],
)
def test_what_slurm_says(lab: Lab, ends_as: str, cause: str, retried: bool) -> None:
    lab.when(lab.has("1"), lambda: lab.fake.set("1", ends_as))
    lab.when(lab.has("2"), lab.runs("2"))
    (outcome,) = lab.outcomes([JobSpec("job", "slurm_jobs:echo", {"n": 1})])
    if retried:
        assert outcome.state == "done"
        assert [event["cause"] for event in lab.told("remedy")] == [cause]
        assert len(lab.fake.jobs()) == 2
    else:
        assert (outcome.state, outcome.cause) == ("cancelled" if cause == "cancelled" else "failed", cause)
        assert len(lab.fake.jobs()) == 1


def test_memory_killed_by_the_step_manager_is_recognised_by_its_words(lab: Lab) -> None:
    def kill() -> None:
        log = next((lab.folder / "root" / "submissions").iterdir()) / "1_0_log.out"
        log.write_text("slurmstepd: error: Detected 1 oom-kill event(s) in StepId=1.0. Some of your processes ...\n")
        lab.fake.set("1", "FAILED")

    lab.when(lab.has("1"), kill)
    lab.when(lab.has("2"), lab.runs("2"))
    (outcome,) = lab.outcomes([JobSpec("job", "slurm_jobs:echo")])
    assert outcome.state == "done"
    assert lab.told("remedy")[0]["cause"] == "oom"
    assert lab.told("remedy")[0]["adjustments"]["batch_halvings"] == 1


def test_memory_of_the_node_is_raised_where_the_profile_allows_it_and_then_the_batch_halved(lab: Lab) -> None:
    for number in ("1", "2", "3"):
        lab.when(lab.has(number), lambda number=number: lab.fake.set(number, "OUT_OF_MEMORY"))
    lab.when(lab.has("4"), lab.runs("4"))
    dispatcher = lab.dispatcher()
    stage = dispatcher.profile.section("gpu").model_copy(update={"memory": "2GB", "memory_most": "4GB"})
    dispatcher = lab.dispatcher(profile={"stages": {"gpu": stage}})
    (outcome,) = dispatcher.wait(dispatcher.submit([JobSpec("job", "slurm_jobs:cuda_hungry", {"fits_after": 0})]))
    assert outcome.state == "done"
    asked = [re.search(r"--mem=(\S+)", Path(job["script"]).read_text())[1] for job in lab.fake.jobs().values()]  # type: ignore[index]
    assert asked == ["2GB", "3072M", "4096M", "4096M"]
    assert outcome.result == {"adjustments": {"batch_halvings": 1, "lr_factor": 1.0, "grad_clip": None}}
    assert [event["action"] for event in lab.told("remedy")] == [
        "memory raised to 3072 MB", "memory raised to 4096 MB", "halve the batch",
    ]  # fmt: skip
    assert outcome.accounting["memory_requested_mb"] == 4096


def test_a_node_failure_that_slurm_repairs_by_itself_is_no_end(lab: Lab) -> None:
    lab.when(lab.has("1"), lambda: lab.fake.set("1", "NODE_FAIL"))
    lab.after(6, lambda: lab.fake.set("1", "PENDING"))
    lab.after(6, lab.runs("1"))
    (outcome,) = lab.outcomes([JobSpec("job", "slurm_jobs:echo")])
    assert (outcome.state, outcome.attempts) == ("done", 1)
    assert len(lab.fake.jobs()) == 1


def test_a_node_is_left_out_after_its_second_failure(lab: Lab) -> None:
    for number in ("1", "2"):
        lab.when(lab.has(number), lambda number=number: lab.fake.set(number, "NODE_FAIL", node="g2"))
    lab.when(lab.has("3"), lab.runs("3"))
    (outcome,) = lab.outcomes([JobSpec("job", "slurm_jobs:echo")])
    assert outcome.state == "done"
    scripts = [Path(job["script"]).read_text() for job in lab.fake.jobs().values()]
    assert ["--exclude=g2" in text for text in scripts] == [False, False, True]


def test_a_node_that_fails_twice_under_one_slurm_job_is_left_out_of_the_next_start(lab: Lab) -> None:
    def crash_on_g2() -> None:
        lab.fake.set("1", "PENDING", node="g2")
        lab.fake.launch("1", wait=True)  # dies without a word, as in a power loss
        lab.fake.set("1", "PENDING")  # and Slurm puts it back

    lab.when(lab.has("1"), crash_on_g2)
    lab.after(10, lambda: _assert("excluded" not in lab.fake.jobs()["1"]))
    lab.after(1, crash_on_g2)
    lab.after(10, lambda: lab.fake.set("1", "PENDING", node="g1"))
    lab.after(1, lab.runs("1"))
    (outcome,) = lab.outcomes([JobSpec("job", "slurm_jobs:die", {"times": 2})])
    assert outcome.state == "done"
    assert lab.fake.jobs()["1"]["excluded"] == "g2"
    assert [event["cause"] for event in lab.told("remedy")] == ["node_fail"] * 2
    assert [event["exclude"] for event in lab.told("excluded")] == [["g2"]]
    assert outcome.remedies == ("node_fail: requeued",) * 2


def _assert(condition: bool) -> None:
    assert condition


def test_remedies_add_up_and_stop_at_their_limits() -> None:
    history: list[tuple[str, str]] = []
    adjustments = Adjustments()
    for cause in ("oom", "nan_loss", "cuda_oom", "time_limit", "oom"):
        history.append((cause, "n1"))
        decision = decide(history, adjustments)
        assert decision is not None
        adjustments = decision.adjustments
    assert adjustments == Adjustments(batch_halvings=3, lr_factor=0.5, grad_clip=1.0)
    assert decide([*history, ("cuda_oom", "n1")], adjustments) is None  # host and CUDA memory share one count
    assert decide([*history, ("nan_loss", "n1")], adjustments) is None
    assert all(decide([(cause, "")], Adjustments()) is None for cause in NO_RETRY)


def test_only_failures_of_the_node_count_against_it() -> None:
    past = [("oom", "a"), ("oom", "a"), ("node_fail", "b"), ("killed", "b"), ("node_fail", "c"), ("node_fail", "")]
    assert excluded_nodes(past) == ("b",)


def test_a_dispatcher_that_takes_over_counts_the_remedies_before_it(lab: Lab) -> None:
    spec = JobSpec("job", "slurm_jobs:diverging", {"always": True})
    lab.when(lab.has("1"), lab.runs("1"))
    first = lab.dispatcher()
    jobs = first.submit([spec])
    stopped = lambda: len(lab.fake.jobs()) == 2  # noqa: E731
    assert list(first.wait(jobs, stop=lambda: False if not stopped() else setattr(first, "detach", True) or True)) == []
    lab.when(lab.has("2"), lab.runs("2"))
    (outcome,) = lab.outcomes([spec])
    assert (outcome.state, outcome.cause, outcome.attempts) == ("failed", "nan_loss", 2)
