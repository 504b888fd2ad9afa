"""What sbatch says: refusals are final, what passes is waited out, and neither costs anybody else."""

from __future__ import annotations

import re
from typing import Any

import pytest
from dispatch_lab import Lab
from fake_slurm import TIMEOUT
from slurm_replies import CORPUS, FAILED, LIMIT, LUA, OVERLONG, SIDE_LINE, UNREADABLE, UNWRITABLE

from tasks.slurm.commands import Exit
from tasks.slurm.dispatcher import JobSpec
from tasks.slurm.replies import TABLE, answer, decisive
from tasks.slurm.scheduler import Reply

ECHO = JobSpec("echo", "slurm_jobs:echo", {"n": 1})


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


def test_the_error_of_the_socket_is_the_one_that_was_seen() -> None:
    assert "Socket timed out" in TIMEOUT
