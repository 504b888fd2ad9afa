"""A scheduler that lies, lags and forgets: neither loses nor duplicates a job."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from dispatch_lab import Lab
from fake_slurm import TIMEOUT
from slurm_replies import CORPUS, FAILED, LIMIT, LUA, OVERLONG, SIDE_LINE, UNREADABLE, UNWRITABLE

from tasks.slurm.commands import Exit
from tasks.slurm.dispatcher import JobSpec
from tasks.slurm.replies import TABLE, answer, decisive
from tasks.slurm.scheduler import Reply
from tasks.slurm.waiting import advice

ECHO = JobSpec("echo", "slurm_jobs:echo", {"n": 1})


def _traced(lab: Lab, n: int = 1) -> JobSpec:
    return JobSpec(f"job-{n}", "slurm_jobs:echo", {"n": n, "trace": str(lab.folder / "trace")})


def _executions(lab: Lab) -> list[str]:
    path = lab.folder / "trace"
    return sorted(line.split()[0] for line in path.read_text().splitlines()) if path.exists() else []


def test_two_hundred_submissions_that_were_accepted_but_reported_an_error(lab: Lab) -> None:
    lab.fake.knob(lie=200)
    dispatcher = lab.dispatcher(detach=True)
    jobs = dispatcher.submit([JobSpec(f"job-{n}", "slurm_jobs:echo", {"n": n}) for n in range(200)])
    assert len(lab.told("doubt")) == 200
    assert not lab.told("submitted")
    begun = lab.clock.now
    assert list(dispatcher.wait(jobs, stop=lambda: lab.clock.now - begun > 60)) == []
    assert len(lab.told("submitted")) == len(lab.fake.jobs()) == 200
    assert len({job["name"] for job in lab.fake.jobs().values()}) == 200
    assert {event["how"] for event in lab.told("submitted")} <= {"queue", "accounting"}


@pytest.mark.parametrize("sacct", ["works", "absent"])
def test_a_submission_that_never_arrived_is_made_again_after_settling(lab: Lab, sacct: str) -> None:
    lab.fake.knob(sbatch="down", sacct=sacct)
    lab.after(8, lambda: lab.fake.knob(sbatch="up"))
    lab.when(lab.has("1"), lab.runs("1"))
    begun = lab.clock.now
    (outcome,) = lab.outcomes([ECHO])
    assert outcome.state == "done"
    assert lab.told("resubmitted")
    assert lab.clock.now - begun >= 10  # settle_seconds
    assert len(lab.fake.jobs()) == 1


def test_nothing_is_submitted_again_while_the_queue_or_the_accounting_cannot_be_asked(lab: Lab) -> None:
    lab.fake.knob(sbatch="down", squeue="down")
    lab.after(1, lambda: lab.fake.knob(sbatch="up"))
    lab.after(120, lambda: lab.fake.knob(squeue="garbled" if lab.fake.jobs() else "up", sacct="down"))
    lab.after(120, lambda: (_assert(not lab.fake.jobs()), lab.fake.knob(sacct="works")))
    lab.when(lab.has("1"), lab.runs("1"))
    (outcome,) = lab.outcomes([ECHO])
    assert outcome.state == "done"
    assert len(lab.fake.jobs()) == 1


def _assert(condition: bool) -> None:
    assert condition


def test_a_twin_that_arrives_late_is_cancelled_and_the_work_done_once(lab: Lab) -> None:
    lab.fake.knob(lie=1, late=30.0, sacct="absent")  # accepted, reported as an error, and in no list for 30 s
    lab.when(lambda: "2" in lab.fake.jobs(), lambda: lab.fake.set("2", "PENDING", appears=0.0))
    lab.when(lambda: lab.fake.jobs()["1"]["state"] == "CANCELLED", lab.runs("2"))
    (outcome,) = lab.outcomes([_traced(lab)])
    assert outcome.state == "done"
    assert [job["state"] for job in lab.fake.jobs().values()] == ["CANCELLED", "COMPLETED"]
    assert _executions(lab) == ["1"]


def test_of_two_twins_that_both_start_one_leaves_at_once(lab: Lab) -> None:
    lab.fake.knob(lie=1, late=30.0, sacct="absent")
    lab.when(lambda: "2" in lab.fake.jobs(), lab.runs("1"))  # the one believed lost runs first
    lab.after(0, lab.runs("2"))
    (outcome,) = lab.outcomes([_traced(lab)])
    assert outcome.state == "done"
    assert outcome.slurm_ids == ("1",)
    assert _executions(lab) == ["1"]


def test_of_two_twins_that_run_at_the_same_time_one_leaves_at_once(lab: Lab) -> None:
    lab.fake.knob(lie=1, late=30.0, sacct="absent")
    trace = lab.folder / "trace"

    def both() -> None:
        lab.fake.launch("1")
        while not trace.exists():
            time.sleep(0.01)
        assert lab.fake.launch("2", wait=True) == 0
        assert lab.fake.jobs()["1"]["state"] == "RUNNING"

    lab.when(lambda: "2" in lab.fake.jobs(), both)
    lab.after(0, lambda: _until(lambda: lab.fake.jobs()["1"]["state"] == "COMPLETED"))
    arguments = {"n": 1, "trace": str(trace), "lines": 30, "pause": 0.05}
    (outcome,) = lab.outcomes([JobSpec("slow", "slurm_jobs:echo", arguments)])
    assert outcome.state == "done"
    assert _executions(lab) == ["1"]


def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.01)


@pytest.mark.parametrize("mode", ["down", "garbled", "forgets"])
def test_a_queue_that_cannot_be_read_is_no_verdict(lab: Lab, mode: str) -> None:
    lab.fake.knob(sacct="down")
    lab.when(lab.has("1"), lambda: lab.fake.set("1", "RUNNING"))
    lab.after(10, lambda: lab.fake.knob(squeue=mode))
    lab.after(300, lambda: lab.fake.knob(squeue="up"))
    lab.after(10, lambda: lab.fake.set("1", "PENDING"))
    lab.after(0, lab.runs("1"))
    (outcome,) = lab.outcomes([ECHO])
    assert (outcome.state, outcome.attempts) == ("done", 1)
    assert len(lab.fake.jobs()) == 1


@pytest.mark.parametrize("sacct", ["forgets", "absent"])
def test_what_a_cut_listing_does_not_show_has_not_vanished(lab: Lab, sacct: str) -> None:
    lab.when(lab.has("1"), lambda: lab.fake.knob(squeue="garbled", sacct=sacct))
    lab.after(600, lambda: lab.fake.knob(squeue="up"))
    lab.after(10, lab.runs("1"))
    (outcome,) = lab.outcomes([ECHO])
    assert (outcome.state, outcome.attempts) == ("done", 1)


HET = [("900+0", "het"), ("900+1", "het"), ("901", "a\nb")]


@pytest.mark.parametrize("sacct", ["works", "absent"])
def test_strange_jobs_of_the_same_user_hide_nothing(lab: Lab, sacct: str) -> None:
    """A doubt is settled, a lost job is noticed, a cancellation ends: beside a het job and a name of two lines."""
    lab.fake.knob(strangers=HET, sacct=sacct, lie=1)
    jobs = [ECHO, JobSpec("lost", "slurm_jobs:echo", {"n": 2}), JobSpec("cancelled", "slurm_jobs:echo", {"n": 3})]
    lab.when(lab.has("3"), lab.runs("1"))
    lab.after(0, lambda: lab.fake.set("2", "PENDING", forgotten=True, purged=True))
    lab.after(0, lambda: lab.fake.set("3", "CANCELLED", forgotten=sacct == "works"))
    lab.when(lab.has("4"), lab.runs("4"))
    outcomes = {outcome.spec.name: outcome for outcome in lab.outcomes(jobs)}
    assert {name: one.state for name, one in outcomes.items()} == {
        "echo": "done", "lost": "done", "cancelled": "cancelled",
    }  # fmt: skip
    assert [event["cause"] for event in lab.told("remedy")] == ["vanished"]


def test_accounting_that_lags_is_waited_for(lab: Lab) -> None:
    lab.fake.knob(lag=15.0)
    lab.when(lab.has("1"), lambda: (lab.fake.set("1", "CANCELLED by 1000"), lab.fake.forget("1")))
    (outcome,) = lab.outcomes([ECHO])
    assert outcome.state == "cancelled"
    assert len(lab.fake.jobs()) == 1


@pytest.mark.parametrize(("sacct", "attempts"), [("absent", 2), ("forgets", 2)])
def test_a_job_that_nobody_knows_any_more_is_run_again_and_the_old_one_fenced_off(
    lab: Lab, sacct: str, attempts: int
) -> None:
    lab.fake.knob(sacct=sacct)
    lab.when(lab.has("1"), lambda: lab.fake.forget("1"))
    lab.when(lab.has("2"), lab.runs("1"))  # it was only forgotten: now it starts after all
    lab.after(0, lab.runs("2"))
    (outcome,) = lab.outcomes([_traced(lab)])
    assert (outcome.state, outcome.attempts) == ("done", attempts)
    assert lab.told("remedy")[0]["cause"] == "vanished"
    assert _executions(lab) == ["1"]


def test_an_id_used_again_by_a_new_cluster_is_not_our_job(lab: Lab) -> None:
    lab.fake.knob(sacct="absent")
    lab.when(lab.has("1"), lambda: lab.fake.set("1", "COMPLETED", name="somebody-else", comment="x"))
    lab.when(lab.has("2"), lab.runs("2"))
    (outcome,) = lab.outcomes([ECHO])
    assert outcome.state == "done"
    assert lab.told("remedy")[0]["cause"] == "vanished"


@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize("sacct", ["works", "absent"])
def test_a_renamed_job_is_followed_by_its_id(lab: Lab, sacct: str, running: bool) -> None:
    """`scontrol update JobName=…`, by its owner: the comment, or the hour of its submission, still says whose it is."""
    lab.fake.knob(sacct=sacct)
    state = "RUNNING" if running else "PENDING"
    lab.when(lab.has("1"), lambda: lab.fake.set("1", state, name="renamed"))
    if sacct == "works":
        lab.after(60, lambda: lab.fake.set("1", "CANCELLED", forgotten=True))
    else:
        lab.after(200, lambda: (lab.fake.set("1", "PENDING"), lab.fake.launch("1", wait=True)))
    (outcome,) = lab.outcomes([ECHO])
    assert outcome.state == ("cancelled" if sacct == "works" else "done")
    assert outcome.attempts == len(lab.fake.jobs()) == 1


def test_a_waiting_member_that_was_cancelled_by_hand_stays_cancelled(lab: Lab) -> None:
    """Neither queue nor accounting speaks of it ever again, but the accounting knows its siblings."""
    specs = [JobSpec(f"job-{n}", "slurm_jobs:echo", {"n": n}) for n in range(3)]
    lab.when(lab.has("1_2"), lambda: lab.fake.set("1_1", "CANCELLED", purged=True))
    lab.after(10, lab.runs("1_0"))
    lab.after(120, lab.runs("1_2"))
    outcomes = {outcome.spec.name: outcome for outcome in lab.outcomes(specs, submit={"array": True})}
    assert [outcomes[f"job-{n}"].state for n in range(3)] == ["done", "cancelled", "done"]
    assert len(lab.fake.jobs()) == 3


@pytest.mark.parametrize(
    ("began", "keeps", "begun", "state"),
    [
        (-3600, 300, False, "cancelled"),
        (+3600, 300, False, "done"),  # the controller was set up anew: it may have lost the job
        (-3600, 1, False, "done"),  # it may have begun, failed and been forgotten between two looks
        (-3600, 300, True, "done"),  # it did begin
    ],
)
def test_what_was_seen_waiting_and_is_gone_was_cancelled_if_nothing_else_can_be(
    lab: Lab, began: float, keeps: int, begun: bool, state: str
) -> None:
    boot = datetime.fromtimestamp(lab.clock.now + began).isoformat(timespec="seconds")
    lab.fake.knob(sacct="absent", config=f"BOOT_TIME  = {boot}\nMinJobAge  = {keeps} sec\n")
    lab.when(lambda: bool(lab.fake.calls) and lab.fake.calls[-1][0] == "squeue", lambda: None)  # seen waiting
    if begun:
        lab.after(6, lambda: (lab.fake.launch("1", wait=True), _lose_result(lab)))
    lab.after(6, lambda: lab.fake.set("1", "CANCELLED", purged=True))
    lab.when(lab.has("2"), lab.runs("2"))
    (outcome,) = lab.outcomes([ECHO])
    assert outcome.state == state
    assert len(lab.fake.jobs()) == (1 if state == "cancelled" else 2)


def _lose_result(lab: Lab) -> None:
    for path in (lab.folder / "root" / "jobs").glob("*/*/*"):
        if path.name in ("result.json", "marker-1.json"):
            path.unlink()


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


@pytest.mark.parametrize("text", [text for text, reply, _, sure in CORPUS if reply is Reply.REJECTED and sure][1:6:2])
def test_a_refusal_fails_at_once_with_slurms_own_words(lab: Lab, text: str) -> None:
    lab.fake.knob(refuse=text)
    (outcome,) = lab.outcomes([ECHO])
    assert (outcome.state, outcome.cause, outcome.message) == ("failed", "rejected", text)
    assert len([call for call in lab.fake.calls if call[0] == "sbatch"]) == 1


@pytest.mark.parametrize(("text", "reply", "everybody", "sure"), CORPUS)
def test_what_sbatch_says(text: str, reply: Reply, everybody: bool, sure: bool) -> None:
    found = answer(Exit(1, "", text + "\n"))
    assert (found.reply, found.everybody, found.sure) == (reply, everybody, sure)
    assert found.text == text
    assert found.gist in text


def test_every_row_of_the_table_has_a_text() -> None:
    lines = [decisive(text) for text, *_ in CORPUS]
    for row in TABLE:
        assert any(re.search(row.words, line, re.IGNORECASE) for line in lines), row


def test_an_id_beside_complaints_is_an_accepted_job() -> None:
    assert answer(Exit(0, "banner\n17;cluster\n", "sbatch: error: spank: Invalid argument")).slurm_id == "17"
    assert answer(Exit(None, "", "")).reply is Reply.DOUBTFUL


def _sbatches(lab: Lab) -> int:
    return len([call for call in lab.fake.calls if call[0] == "sbatch"])


@pytest.mark.parametrize("text", [LIMIT, UNREADABLE, f"{FAILED}Required partition not available (inactive or drain)"])
def test_what_passes_is_waited_out(lab: Lab, text: str) -> None:
    lab.fake.knob(refuse=text)
    lab.after(100, lambda: lab.fake.knob(refuse=""))
    lab.when(lab.has("1"), lab.runs("1"))
    seen: list[dict[str, Any]] = []
    (outcome,) = lab.outcomes([ECHO], on_progress=lambda job, fields: seen.append(fields))
    assert outcome.state == "done"
    assert lab.told("held")[0]["text"] == text
    assert lab.told("held")[0]["cause"] in text
    assert ("HELD", text) in [(one["state"], one["reason"]) for one in seen]
    assert _sbatches(lab) <= 4


@pytest.mark.parametrize(("text", "most"), [(LUA, 1), (OVERLONG, 1), (UNWRITABLE, 12)])
def test_what_does_not_pass_has_an_end_in_the_sites_own_words(lab: Lab, text: str, most: int) -> None:
    """lua's "Unspecified error": at once. A full spool of the controller: asked a dozen times, longer and longer."""
    lab.fake.knob(refuse=text)
    begun = lab.clock.now
    (outcome,) = lab.outcomes([ECHO])
    assert (outcome.state, outcome.cause) == ("failed", "rejected")
    assert text in outcome.message
    assert _sbatches(lab) == most
    assert most == 1 or lab.clock.now - begun > 1800


def test_a_job_that_is_put_off_is_tried_less_and_less_and_given_up_in_the_end(lab: Lab) -> None:
    lab.fake.knob(refuse=f"{FAILED}Required partition not available (inactive or drain)")
    sleep = lab.sleep
    lab.sleep = lambda seconds: sleep(20.0)  # type: ignore[method-assign]
    dispatcher = lab.dispatcher(profile={"hold_seconds": 6 * 3600.0})
    (outcome,) = dispatcher.wait(dispatcher.submit([ECHO]))
    assert outcome.message.startswith("put off for 6 hours")
    assert "inactive or drain" in outcome.message
    assert _sbatches(lab) < 20


def test_a_faultless_job_does_not_wait_behind_one_that_is_put_off(lab: Lab) -> None:
    text = f"{FAILED}Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
    lab.fake.knob(refuse=text, refuse_name="overlong")
    lab.when(lab.has("1"), lab.runs("1"))
    outcomes = []
    jobs = [JobSpec("overlong", "slurm_jobs:echo", {"n": 2}), ECHO]
    dispatcher = lab.dispatcher()
    for outcome in dispatcher.wait(dispatcher.submit(jobs), stop=lambda: bool(outcomes)):
        outcomes.append(outcome)
    assert [(one.spec.name, one.state) for one in outcomes] == [("echo", "done"), ("overlong", "cancelled")]
    assert _sbatches(lab) == 2


def test_a_limit_on_the_number_of_jobs_is_tried_by_one_job_for_all(lab: Lab) -> None:
    lab.fake.knob(refuse=LIMIT)
    lab.after(200, lambda: lab.fake.knob(refuse=""))
    for n in range(10):
        lab.when(lab.has(str(n + 1)), lab.runs(str(n + 1)))
    outcomes = lab.outcomes([JobSpec(f"job-{n}", "slurm_jobs:echo", {"n": n}) for n in range(10)])
    assert {outcome.state for outcome in outcomes} == {"done"}
    assert _sbatches(lab) <= 10 + 5


def test_a_refusal_beside_a_lost_answer_is_told_only_once_the_job_is_surely_not_there(lab: Lab) -> None:
    """The trial: "Invalid argument" on a side line, "Socket timed out" on the last one, and the job runs."""
    assert answer(Exit(1, "", SIDE_LINE)).reply is Reply.DOUBTFUL
    lab.fake.knob(lie=1, lie_text=SIDE_LINE)
    lab.when(lab.has("1"), lab.runs("1"))
    (outcome,) = lab.outcomes([ECHO])
    assert outcome.state == "done"
    assert len(lab.fake.jobs()) == 1


def test_an_earlier_order_is_looked_for_before_the_refusal_of_a_later_one_is_told(lab: Lab) -> None:
    lab.fake.knob(lie=1, late=60.0, sacct="absent")  # in no list for a minute
    lab.when(lambda: bool(lab.told("doubt")), lambda: lab.fake.knob(refuse=LUA))
    lab.when(lambda: len(lab.told("doubt")) > 1, lambda: lab.fake.set("1", "PENDING", appears=0.0))
    lab.after(0, lab.runs("1"))
    (outcome,) = lab.outcomes([ECHO])
    assert outcome.state == "done"
    assert len(lab.fake.jobs()) == 1


def test_a_job_in_doubt_that_is_cancelled_is_not_ordered_again(lab: Lab) -> None:
    lab.fake.knob(sbatch="down")
    dispatcher = lab.dispatcher()
    jobs = dispatcher.submit([ECHO])
    dispatcher.cancel(jobs)
    lab.fake.knob(sbatch="up")
    (outcome,) = dispatcher.wait(jobs)
    assert outcome.state == "cancelled"
    assert _sbatches(lab) == 1


HELD = "launch failed requeued held"


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


def test_a_damaged_result_is_not_done(lab: Lab) -> None:
    def damage() -> None:
        lab.fake.launch("1", wait=True)
        path = next((lab.folder / "root" / "jobs").glob("*/*/result.json"))
        path.write_bytes(path.read_bytes().replace(b"1", b"2", 1))

    lab.when(lab.has("1"), damage)
    lab.when(lab.has("2"), lab.runs("2"))
    (outcome,) = lab.outcomes([ECHO])
    assert outcome.result == {"echo": {"n": 1}}
    assert lab.told("remedy")[0]["cause"] == "lost_result"


def test_the_error_of_the_socket_is_the_one_that_was_seen() -> None:
    assert "Socket timed out" in TIMEOUT


def test_a_dead_dispatchers_journal_is_readable_by_hand(lab: Lab) -> None:
    dispatcher = lab.dispatcher()
    (job,) = dispatcher.submit([ECHO])
    text = Path(job.folder, "journal.json").read_text()
    assert '"slurm_jobs:echo"' in text
    assert job.key in text


def test_a_job_cancelled_while_its_id_was_unknown_is_cancelled_once_it_is_known(lab: Lab) -> None:
    lab.fake.knob(lie=1)
    dispatcher = lab.dispatcher()
    jobs = dispatcher.submit([ECHO])
    dispatcher.cancel(jobs)
    assert lab.fake.jobs()["1"]["state"] == "PENDING"
    (outcome,) = dispatcher.wait(jobs)
    assert outcome.state == "cancelled"
    assert lab.fake.jobs()["1"]["state"] == "CANCELLED"


def test_a_cancellation_that_the_controller_missed_is_repeated(lab: Lab) -> None:
    dispatcher = lab.dispatcher()
    jobs = dispatcher.submit([ECHO])
    cancel, lab.fake._scancel = lab.fake._scancel, lambda arguments: None  # type: ignore[method-assign,assignment]
    dispatcher.cancel(jobs)
    lab.after(15, lambda: setattr(lab.fake, "_scancel", cancel))
    (outcome,) = dispatcher.wait(jobs)
    assert outcome.state == "cancelled"
    assert lab.fake.jobs()["1"]["state"] == "CANCELLED"
