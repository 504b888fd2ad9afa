"""A scheduler that lies, lags and forgets: neither loses nor duplicates a job."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
from dispatch_lab import Lab

from tasks.slurm.dispatcher import JobSpec

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
    other = {"name": "somebody-else", "comment": "x", "submitted": lab.clock.now + 600}
    lab.when(lab.has("1"), lambda: lab.fake.set("1", "COMPLETED", **other))
    lab.when(lab.has("2"), lab.runs("2"))
    (outcome,) = lab.outcomes([ECHO])
    assert outcome.state == "done"
    assert lab.told("remedy")[0]["cause"] == "vanished"


@pytest.mark.parametrize("comment", [{}, {"comment": "project 7"}])
@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize("sacct", ["works", "absent"])
def test_a_renamed_job_is_followed_by_its_id(lab: Lab, sacct: str, running: bool, comment: dict[str, str]) -> None:
    """`scontrol update JobName=…`, by its owner: the comment, or the hour of its submission, still says whose it is."""
    lab.fake.knob(sacct=sacct)
    state = "RUNNING" if running else "PENDING"
    lab.when(lab.has("1"), lambda: lab.fake.set("1", state, name="renamed", **comment))
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


def test_a_node_whose_clock_is_a_day_ahead_hides_no_death(lab: Lab) -> None:
    """It recorded its start tomorrow; that is no start after the look at the queue that shows the job's end."""

    def dies() -> None:
        (folder,) = (lab.folder / "root" / "jobs").glob("*/*")
        line = {"event": "start", "attempt": 1, "node": "g1", "at": lab.clock.now + 86400, "incarnation": "x"}
        (folder / "starts.jsonl").write_text(json.dumps(line) + "\n")
        lab.fake.set("1", "FAILED")

    lab.when(lab.has("1"), dies)
    lab.when(lab.has("2"), lab.runs("2"))
    (outcome,) = lab.outcomes([ECHO])
    assert (outcome.state, outcome.attempts) == ("done", 2)


def test_an_array_of_another_era_under_the_same_id_is_no_sibling(lab: Lab) -> None:
    """Ids come again; the accounting keeps every job that ever was. A job that was lost is no cancelled one."""
    lab.fake.knob(strangers=[("1_0", "somebodys-array"), ("1_1", "somebodys-array")])
    lab.when(lab.has("1"), lambda: lab.fake.set("1", "PENDING", purged=True))
    lab.when(lab.has("2"), lab.runs("2"))
    (outcome,) = lab.outcomes([ECHO])
    assert (outcome.state, outcome.attempts) == ("done", 2)
    assert lab.told("remedy")[0]["cause"] == "vanished"


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
