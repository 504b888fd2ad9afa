"""Who lives is asked of the disk's locks; a lock says who holds it; nobody hangs behind somebody's slow sbatch."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from dispatch_lab import Lab

from tasks.slurm.dispatcher import JobSpec
from tasks.slurm.owners import ELSEWHERE_S

SCRIPT = """
import os, sys, time
sys.path[:0] = [sys.argv[2]]
from pathlib import Path
from dispatch_lab import Lab
from tasks.slurm.dispatcher import JobSpec
from tasks.slurm.snapshot import Snapshot
folder = Path(sys.argv[1])
lab = Lab(folder, Snapshot.take(folder / 'root', ['slurm_jobs']))
door = lab.dispatcher(owner='other-flow', clock=time.time, sleep=time.sleep)
if sys.argv[3] == 'lock':
    with door.journal.lock(who='other-flow, submitting 1 jobs'):
        print('ready', flush=True)
        time.sleep(600)
jobs = door.submit([JobSpec('theirs', 'slurm_jobs:echo', {'n': 7})])
print('ready', flush=True)
list(door.wait(jobs))
"""


@contextlib.contextmanager
def _other(lab: Lab, what: str) -> Iterator[subprocess.Popen[str]]:
    """Another process over the same root, SIGSTOPped in the middle of its wait, or with the lock in its hand."""
    command = [sys.executable, "-c", SCRIPT, str(lab.folder), str(Path(__file__).parent), what]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        if what == "wait":
            _until(lambda: lab.dispatcher().owners.leased("other-flow"))
        process.send_signal(signal.SIGSTOP)
        yield process
    finally:
        process.kill()
        process.wait()


def _until(condition: object, seconds: float = 20.0) -> None:
    deadline = time.time() + seconds
    while not condition():  # type: ignore[operator]
        assert time.time() < deadline
        time.sleep(0.05)


def _elsewhere(lab: Lab) -> None:
    """As if it had been written on another host."""
    path = lab.folder / "root" / "owners" / "other-flow.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "host": "another-host"}))


def test_an_owner_that_is_stopped_for_long_is_alive_whatever_the_clocks_say(lab: Lab) -> None:
    with _other(lab, "wait") as process:
        _elsewhere(lab)
        lab.clock.now += 86400.0  # the sweeper's clock is a day ahead
        os.utime(lab.folder / "root" / "owners" / "other-flow.json", (1, 1))
        assert lab.dispatcher().sweep() == []
        process.kill()
        process.wait()
        assert [job.name for job in lab.dispatcher().sweep()] == ["theirs"]
    (event,) = lab.told("cancelling")
    assert "other-flow" in event["cause"]
    assert "another-host" in event["cause"]
    assert event["by"].startswith(socket.gethostname())
    (outcome,) = lab.outcomes([JobSpec("mine", "slurm_jobs:echo", {"n": 1})], stop=lambda: True)
    assert outcome.message.startswith("cancelled by ")


def test_a_clock_that_runs_ahead_kills_nobody_where_locks_do_not_reach(lab: Lab) -> None:
    lab.dispatcher(owner="other-flow").submit([JobSpec("theirs", "slurm_jobs:echo", {"n": 7})])
    _elsewhere(lab)
    sweeper = lab.dispatcher()
    lab.clock.now += 10 * ELSEWHERE_S
    assert sweeper.sweep() == []  # by the disk's own clock it beat a moment ago
    path = lab.folder / "root" / "owners" / "other-flow.json"
    os.utime(path, (time.time() - 2 * ELSEWHERE_S,) * 2)
    assert [job.name for job in sweeper.sweep()] == ["theirs"]


def test_owners_whose_heartbeats_a_cleaner_took_are_not_dead(lab: Lab) -> None:
    owner = lab.dispatcher(owner="other-flow")
    owner.submit([JobSpec("theirs", "slurm_jobs:echo", {"n": 7})])
    shutil.rmtree(lab.folder / "root" / "owners")
    sweeper = lab.dispatcher()
    assert sweeper.sweep(grace_s=0.0) == []
    lab.clock.now += 11
    owner.submit([JobSpec("theirs", "slurm_jobs:echo", {"n": 7})])  # as any other look does, it beats
    lab.clock.now += 3600
    assert sweeper.sweep(grace_s=0.0) == []  # it lives: its heartbeat is there again
    shutil.rmtree(lab.folder / "root" / "owners")
    assert lab.dispatcher().sweep(grace_s=0.0) == []
    lab.clock.now += 31  # and this time nobody writes it anew
    assert [job.name for job in lab.dispatcher().sweep(grace_s=0.0)] == ["theirs"]


@pytest.mark.parametrize("placed", [True, False])
def test_a_cancellation_does_not_wait_for_somebodys_sbatch(lab: Lab, placed: bool) -> None:
    dispatcher = lab.dispatcher(profile={} if placed else {"max_parallel": 1})
    first, *rest = dispatcher.submit(
        [JobSpec(f"job-{n}", "slurm_jobs:echo", {"n": n}) for n in range(1 if placed else 2)]
    )
    mine = rest[0] if rest else first
    with _other(lab, "lock"):
        begun = time.monotonic()
        dispatcher.cancel([mine])
        assert time.monotonic() - begun < 5
        (event,) = lab.told("cancelling")
        assert "held by other-flow, submitting 1 jobs, pid" in event["text"]
        assert not placed or lab.fake.jobs()["1"]["state"] == "CANCELLED"
        if placed:  # and a node that starts it all the same leaves at once
            assert lab.fake.launch("1", wait=True) == 0
            assert not (mine.folder / "claim-1.json").exists()
    (outcome,) = dispatcher.wait([mine])
    assert outcome.state == "cancelled"
    assert len(lab.fake.jobs()) == 1


def test_a_cancellation_beside_the_lock_is_of_this_round_alone(lab: Lab) -> None:
    dispatcher = lab.dispatcher()
    jobs = dispatcher.submit([JobSpec("job", "slurm_jobs:echo", {"n": 1})])
    with _other(lab, "lock"):
        dispatcher.cancel(jobs)
    assert [one.state for one in dispatcher.wait(jobs)] == ["cancelled"]
    lab.when(lab.has("2"), lab.runs("2"))
    assert [one.state for one in lab.outcomes([JobSpec("job", "slurm_jobs:echo", {"n": 1})])] == ["done"]


def test_who_waits_for_the_lock_is_told_who_holds_it(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.slurm.dispatcher.COMPLAIN_S", 0.2)
    dispatcher = lab.dispatcher()
    with _other(lab, "lock") as process:
        with pytest.raises(TimeoutError, match=f"other-flow.*pid {process.pid}"), dispatcher.journal.lock(0.1):
            pass
        monkeypatch.setattr(dispatcher, "_events", lambda event: (lab.events.append(event), process.kill()))
        dispatcher.submit([JobSpec("job", "slurm_jobs:echo", {"n": 1})])
    assert f"pid {process.pid}" in lab.told("waiting")[0]["text"]
