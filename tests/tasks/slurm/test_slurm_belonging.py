"""A root's live jobs are in one cluster: another one is asked about none of them, and nothing is cancelled there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable

import pytest
from dispatch_lab import Lab
from fake_slurm import FakeSlurm

from study_core.errors import BadInput
from tasks.slurm.dispatcher import Dispatcher, JobSpec
from tasks.slurm.poller import Slurm

SPEC = JobSpec("theirs", "slurm_jobs:echo", {"n": 7})


@pytest.fixture
def other(lab: Lab) -> FakeSlurm:
    """Another cluster, which has a job under the same number."""
    lab.fake.knob(config="ClusterName             = alpha")
    fake = FakeSlurm(lab.folder / "other", clock=lab.clock)
    fake.knob(sacct="works", config="ClusterName             = beta")
    elsewhere = Lab(lab.folder / "elsewhere", lab.code)
    elsewhere.fake = fake
    elsewhere.dispatcher().submit([JobSpec("a-strangers", "slurm_jobs:echo", {"n": 1})])
    assert list(fake.jobs()) == ["1"]
    return fake


def door(lab: Lab, fake: FakeSlurm) -> Dispatcher:
    """The same root, from a shell that asks another cluster."""
    mine = lab.dispatcher()
    scheduler = Slurm(fake, folder=lab.folder / "other poll", clock=lab.clock, poll_seconds=mine.profile.poll_seconds)
    return Dispatcher(
        mine.profile, lab.folder / "root", code=lab.code, clock=lab.clock, sleep=lab.sleep, scheduler=scheduler
    )


def test_another_cluster_is_asked_about_none_and_none_is_cancelled_there(lab: Lab, other: FakeSlurm) -> None:
    (job,) = lab.dispatcher().submit([SPEC])
    there = door(lab, other)
    calls: list[Callable[[], object]] = [
        lambda: there.submit([SPEC]), lambda: list(there.wait([job])), lambda: there.cancel([job]),
        lambda: there.abandon("whoever"), lambda: there.sweep(grace_s=0.0),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(BadInput, match=r"1 live jobs \(theirs\) are in the cluster alpha, .* asks beta"):
            call()
    assert other.jobs()["1"]["state"] == lab.fake.jobs()["1"]["state"] == "PENDING"
    assert len(other.jobs()) == 1
    lab.fake.launch("1", wait=True)
    (outcome,) = lab.dispatcher().wait([job])
    assert (outcome.state, outcome.attempts) == ("done", 1)


def test_a_root_without_live_jobs_moves_and_repeats_nothing(lab: Lab, other: FakeSlurm) -> None:
    (job,) = lab.dispatcher().submit([SPEC])
    lab.fake.launch("1", wait=True)
    (first,) = lab.dispatcher().wait([job])
    there = door(lab, other)
    (again,) = there.wait(there.submit([SPEC]))
    assert (first.state, again.state, again.reused) == ("done", "done", True)
    assert len(other.jobs()) == 1
    (new,) = there.submit([JobSpec("new", "slurm_jobs:echo", {"n": 8})])
    with pytest.raises(BadInput, match="are in the cluster beta, and this shell asks alpha"):
        lab.dispatcher().cancel([new])


def test_a_controller_that_is_away_names_no_cluster_and_holds_nothing_up(lab: Lab, other: FakeSlurm) -> None:
    lab.fake.knob(config="")
    (job,) = lab.dispatcher().submit([SPEC])
    assert not (lab.folder / "root" / "cluster.json").exists()
    lab.fake.knob(config="ClusterName             = alpha")
    shutil.rmtree(lab.folder / "poll")
    lab.dispatcher().sweep()
    assert json.loads((lab.folder / "root" / "cluster.json").read_text()) == {"name": "alpha"}
    with pytest.raises(BadInput, match="go back to the SLURM_CONF of alpha"):
        door(lab, other).cancel([job])
