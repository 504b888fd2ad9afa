"""Follow-ups in the allocation of the job that they follow: one wait in the queue, and no way to be lost in there."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from dispatch_lab import Lab

from tasks.slurm import files
from tasks.slurm.dispatcher import Dispatcher, Job, JobSpec
from tasks.slurm.guests import Guests
from tasks.slurm.hosting import ALLOCATION, GUESTS
from tasks.slurm.poller import Slurm
from tasks.slurm.profiles import BadProfile, Profile, load_profile
from tasks.slurm.resources import Resources

TRAINING = JobSpec("training", "slurm_jobs:echo", {"n": 0}, stage="train")
FOLLOW_UP = JobSpec("follow-up", "slurm_jobs:echo", {"n": 1}, stage="denoise")
SRUN = f"""#!/bin/bash
while [[ $1 != {sys.executable} ]]; do [[ $1 = --output ]] && log=${{2//%j_%t/${{SLURM_JOB_ID}}_0}}; shift; done
exec "$@" >>"$log" 2>&1
"""


def _profile(**changes: Any) -> Profile:
    profile = load_profile("slurm-dev").model_copy(update={"settle_seconds": 10.0, "marker_grace_seconds": 2.0})
    base = {**profile.section("gpu").model_dump(), "time": "00:30:00"}
    stages = {
        "train": Resources(**{**base, "linger_seconds": 2}),
        "denoise": Resources(**{**base, "allocation": "shared", "time": "00:10:00", **changes}),
    }
    return profile.model_copy(update={"stages": stages})


class Home:
    """A training that is done, and its allocation."""

    def __init__(self, lab: Lab, profile: Profile) -> None:
        self.lab, self.profile = lab, profile
        lab.when(lab.has("1"), lab.runs("1"))
        door = self.door()
        (self.training,) = door.submit([TRAINING])
        assert [one.state for one in door.wait([self.training])] == ["done"]
        lab.fake.set("1", "RUNNING")
        lab.clock.now += 10

    def door(self) -> Dispatcher:
        poll = self.lab.folder / "poll"
        slurm = Slurm(self.lab.fake, folder=poll, clock=self.lab.clock, poll_seconds=self.profile.poll_seconds)
        root = self.lab.folder / "root"
        shared = Guests(slurm, self.profile, root, lambda key: root / "jobs" / key[:2] / key[:20], self.lab.clock)
        return Dispatcher(
            self.profile, root, scheduler=shared, events=self.lab.events.append, code=self.lab.code,
            clock=self.lab.clock, sleep=self.lab.sleep,
        )  # fmt: skip

    def announce(self, *, left_s: float = 1200.0) -> None:
        """As the node does once the training is done."""
        files.make_folder(self.training.folder / GUESTS)
        until = self.lab.clock.now + left_s
        content = {"slurm_id": "1", "job": "1", "until": until, "at": self.lab.clock.now}
        files.write_json(self.training.folder / ALLOCATION, content)

    def submit(self, door: Dispatcher) -> Job:
        (job,) = door.submit([FOLLOW_UP], inside=self.training)
        return job

    def host(self) -> None:
        """The last line of the training's script, to its end."""
        until = str(time.time() + 60)
        environment = {**os.environ, "SLURM_JOB_ID": "1", "GATED_LINGER": "1", "GATED_UNTIL": until}
        submission = next((self.lab.folder / "root" / "submissions").glob("training*"))
        command = [sys.executable, "-P", "-m", "tasks.slurm.hosting", str(submission)]
        subprocess.run(command, env=environment, check=True, timeout=60)

    def orders(self) -> int:
        return sum(call[0] == "sbatch" for call in self.lab.fake.calls)


@pytest.fixture(autouse=True)
def _srun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The follow-ups' scripts find one that runs the command on this machine."""
    (tmp_path / "srun").write_text(SRUN)
    (tmp_path / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")


@pytest.fixture
def home(lab: Lab) -> Home:
    return Home(lab, _profile())


def test_a_follow_up_runs_inside_the_allocation_and_nothing_is_ordered(home: Home) -> None:
    home.announce()
    door = home.door()
    job = home.submit(door)
    home.host()
    (outcome,) = door.wait([job])
    assert (outcome.state, outcome.result) == ("done", {"echo": {"n": 1}})
    assert outcome.slurm_ids == ("1+1",)
    assert home.orders() == 1
    assert not (home.training.folder / ALLOCATION).exists()  # it has left: the next one is a job of its own


def test_a_follow_up_that_is_cancelled_before_its_turn_never_begins(home: Home) -> None:
    home.announce()
    door = home.door()
    job = home.submit(door)
    door.cancel([job])
    home.host()
    (outcome,) = door.wait([job])
    assert (outcome.state, outcome.attempts) == ("cancelled", 1)
    assert not (job.folder / "starts.jsonl").exists()


@pytest.mark.parametrize(
    ("changes", "left_s", "state"),
    [({}, 60.0, "RUNNING"), ({"cpus": 64}, 1200.0, "RUNNING"), ({"memory": "900GB"}, 1200.0, "RUNNING"),
     ({}, 1200.0, "COMPLETED"), ({"allocation": "own"}, 1200.0, "RUNNING")],
    ids=["too little time", "too few CPUs", "too little memory", "it has ended", "not asked for"],
)  # fmt: skip
def test_what_does_not_fit_is_a_job_of_its_own(lab: Lab, changes: dict[str, Any], left_s: float, state: str) -> None:
    home = Home(lab, _profile(**changes))
    home.announce(left_s=left_s)
    lab.fake.set("1", state)
    home.submit(home.door())
    assert home.orders() == 2
    assert not list((home.training.folder / GUESTS).glob("*"))


def test_an_allocation_that_ends_loses_no_follow_up(home: Home) -> None:
    home.announce()
    door = home.door()
    job = home.submit(door)
    assert home.orders() == 1
    home.lab.after(5, lambda: home.lab.fake.set("1", "NODE_FAIL"))
    home.lab.after(5, lambda: home.lab.fake.set("1", "FAILED"))
    home.lab.when(home.lab.has("2"), home.lab.runs("2"))
    (outcome,) = door.wait([job])
    assert (outcome.state, outcome.attempts) == ("done", 2)
    assert outcome.remedies == ("preempted: resume from checkpoint",)


def test_another_process_finds_a_follow_up_whose_owner_died_while_handing_it_over(home: Home) -> None:
    home.announce()
    job = home.submit(home.door())
    submission = next((home.lab.folder / "root" / "submissions").glob("follow-up*"))
    (submission / "handle.json").unlink()  # killed before it was written
    (submission / "reply.txt").write_bytes(b"")
    home.host()
    (outcome,) = home.door().wait([job])
    assert (outcome.state, outcome.attempts, home.orders()) == ("done", 1, 1)


def test_an_allocation_that_cannot_take_anything_says_so_in_the_profile(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text("stages:\n  train:\n    linger_seconds: 60\n    allocation: shared\n")
    (tmp_path / "site.yaml").chmod(0o600)
    with pytest.raises(BadProfile, match=r"stage denoise/train: linger_seconds: a job in another one's allocation"):
        load_profile(tmp_path / "site.yaml")
