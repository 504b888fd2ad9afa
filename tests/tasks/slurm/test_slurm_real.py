"""The dispatcher on a real Slurm: every remedy, every outage, as they happen, in one day on one cluster.

All jobs are submitted at the start and run side by side; the tests then read how each of them ended.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Cluster, small_cluster
from slurm_day import ARRAY, SINGLES, Day, what_happens

from tasks.slurm.dispatcher import Dispatcher, JobSpec
from tasks.slurm.profiles import load_profile
from tasks.slurm.resources import Resources

pytestmark = pytest.mark.slurm

DAY_SECONDS = 200


@pytest.fixture(scope="module")
def day(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    day = Day(cluster, tmp_path_factory.mktemp("day") / "a root")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SERVICE_TOKEN", "canary-5f1d")
        cluster.run("scontrol", "update", "NodeName=g4", "State=drain", "Reason=spare")
        jobs = day.door.submit(ARRAY, array=True) + day.door.submit(SINGLES)
    waiting = [day.wait(jobs)]
    try:
        waiting += what_happens(day)
        for thread in waiting:
            thread.join(timeout=DAY_SECONDS)
    except AssertionError as error:  # told once, by the first test
        day.errors.append(error)
    yield day
    day.door.cancel(list(day.jobs.values()))


def test_every_job_has_an_outcome_and_every_remedy_its_event(day: Day) -> None:
    assert not day.errors
    assert set(day.outcomes) == {spec.name for spec in (*ARRAY, *SINGLES)} | {"urgent", "unaccounted"}
    for event in day.events:
        if event["event"] == "remedy":
            assert event["cause"]
            assert event["action"]


def test_the_root_says_which_cluster_its_jobs_are_in(day: Day) -> None:
    """The name that slurm-up.sh gives, as the controller says it: test_slurm_belonging.py has what follows from it."""
    assert json.loads((day.root / "cluster.json").read_text()) == {"name": "lab"}


def test_an_array_is_one_slurm_job(day: Day) -> None:
    outcomes = [day.outcomes[spec.name] for spec in ARRAY]
    assert [outcome.result for outcome in outcomes] == [{"echo": {"n": n}} for n in range(4)]
    assert {outcome.slurm_ids[0].partition("_")[0] for outcome in outcomes} == {
        outcomes[0].slurm_ids[0].partition("_")[0]
    }


@pytest.mark.parametrize(
    ("name", "state", "cause", "remedies"),
    [
        ("bug", "failed", "exception", []),
        ("refused", "failed", "rejected", []),
        ("cuda", "done", "", ["cuda_oom"]),
        ("nan", "done", "", ["nan_loss"]),
        ("memory", "done", "", ["oom"]),
        ("die", "done", "", ["killed"]),
        ("scancelled", "cancelled", "cancelled", []),
        ("cancelled", "cancelled", "cancelled", []),
        ("long", "done", "", []),  # through an outage of the accounting and a restart of the controller
        ("unaccounted", "done", "", []),
        ("urgent", "done", "", []),
    ],
)
def test_each_cause_ends_as_its_table_says(day: Day, name: str, state: str, cause: str, remedies: list[str]) -> None:
    outcome = day.outcomes[name]
    assert (outcome.state, outcome.cause) == (state, cause), outcome.message
    assert [event["cause"] for event in day.told(name, "remedy")] == remedies
    assert outcome.attempts == 1 + len(remedies)


def test_a_refusal_has_slurms_own_words(day: Day) -> None:
    assert "invalid partition" in day.outcomes["refused"].message


def test_memory_was_halved(day: Day) -> None:
    assert day.outcomes["memory"].result == {"mb": 150, "halvings": 1}


@pytest.mark.parametrize(
    ("name", "cause", "least"),
    [
        ("limited", "time_limit", 1),
        ("requeued", "preempted", 5),
        ("preempted", "preempted", 1),
        ("powerless", "node_fail", 2),
    ],
)
def test_an_interrupted_training_ends_bit_identical(day: Day, name: str, cause: str, least: int) -> None:
    outcome, plain = day.outcomes[name], day.outcomes["plain"]
    assert outcome.state == "done", outcome.message
    assert outcome.result is not None
    assert plain.result is not None
    assert outcome.result["digest"] == plain.result["digest"]
    told = [event["cause"] for event in day.told(name, "remedy")]
    assert told.count(cause) >= least
    assert set(told) == {cause}
    if name != "powerless":
        assert outcome.result["stops"] >= least  # it resumed from where it was stopped
    assert len(outcome.slurm_ids) == 1  # all under one Slurm job: no flow had to be alive for it


def test_a_node_that_failed_a_job_twice_is_left_out_of_its_next_start(day: Day) -> None:
    """The node is up and idle again, and would be Slurm's first choice; the profile's own list still holds."""
    (event,) = day.told("powerless", "excluded")
    assert event["exclude"] == ["g3"]
    assert [start["node"] for start in day.starts("powerless")] == ["g3", "g3", "g4"]
    shown = day.cluster.run("scontrol", "show", "job", day.slurm_id("powerless"))
    found = re.search(r"ExcNodeList=(\S+)", shown)
    assert found, shown
    assert day.cluster.run("scontrol", "show", "hostnames", found[1]).split() == ["g1", "g2", "g3"]


def test_nothing_was_submitted_twice(day: Day) -> None:
    names = day.cluster.run("sacct", "-X", "-n", "-P", "-o", "JobName", "-S", "today").split()
    known = {path.name for path in (day.root / "submissions").iterdir()}
    singles = [name for name in names if name in known and "-array-" not in name]
    assert len(singles) == len(set(singles))


def test_output_arrives_while_the_job_runs_and_once(day: Day) -> None:
    pieces = day.log["talker"]
    lines = [line for _, text in pieces for line in text.splitlines()]
    assert lines == [f"line {n}" for n in range(12)]
    assert len(pieces) >= 4
    assert pieces[0][0] < day.ended_at["talker"] - 2


def test_progress_shows_state_node_and_the_jobs_own_fields(day: Day) -> None:
    seen = day.progress["requeued"]
    assert seen["node"] == "g1"
    assert seen["step"] > 0
    assert {"state", "slurm_id", "elapsed_s", "attempt"} <= set(seen)


def test_cancellation_empties_the_queue_in_time(day: Day) -> None:
    assert day.ended_at["cancelled"] - day.cancelled_at < 30  # type: ignore[attr-defined]
    assert not day.cluster.run("squeue", "-h").strip()


def test_accounting_has_a_row_for_every_job(day: Day) -> None:
    for name, outcome in day.outcomes.items():
        row = outcome.accounting
        assert row["job"] == name
        if outcome.state == "done":
            assert row["elapsed_s"] > 0, row
            assert row["memory_peak_mb"] > 5, row
            assert row["nodes"], row
    assert day.outcomes["powerless"].accounting["starts"] >= 2


def test_the_secret_is_in_no_file_that_the_run_leaves(day: Day) -> None:
    assert "SERVICE_TOKEN" not in day.outcomes["environment"].result["names"]  # type: ignore[index]
    for top in (day.root, day.cluster.root):
        for path in top.rglob("*"):
            if path.is_file():
                assert b"canary-5f1d" not in path.read_bytes(), path


def test_logs_and_results_are_private(day: Day) -> None:
    for path in day.root.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_twenty_kills_lose_and_duplicate_nothing(cluster: Cluster, day: Day, tmp_path: Path) -> None:
    trials = 20
    script = Path(__file__).with_name("real_kill.py")
    command = [sys.executable, str(script), str(tmp_path / "root"), str(tmp_path / "trace"), str(trials)]
    done = subprocess.run(command, capture_output=True, text=True, env=cluster.environment, timeout=180, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    killed = [status for point, status in found["first"] if status is not None]
    assert killed == [-9] * len(killed)
    assert {state for state, *_ in found["outcomes"].values()} == {"done"}, found
    assert len(found["outcomes"]) == trials
    names = cluster.run("squeue", "-h", "-t", "all", "-o", "%j").split()
    submitted = sorted(name.split(".")[0] for name in names if name.startswith("trial-"))
    assert submitted == sorted(f"trial-{n}" for n in range(trials))
    executed = sorted(line.split()[0] for line in (tmp_path / "trace").read_text().splitlines())
    assert executed == sorted(str(n) for n in range(trials))


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Dispatcher]:
    """A door to a second cluster beside the first one: without slurmdbd, and with arrays of at most three."""
    with small_cluster(tmp_path, "MaxArraySize=3"):
        yield Dispatcher(load_profile("slurm-dev"), tmp_path / "root")


def test_without_accounting_a_silent_death_is_noticed_arrays_are_split_and_dependencies_hold(bare: Dispatcher) -> None:
    jobs = bare.submit([JobSpec("die", "slurm_jobs:die", {"times": 1}), JobSpec("echo", "slurm_jobs:echo")])
    array = bare.submit([JobSpec(f"part-{n}", "slurm_jobs:echo", {"n": n, "lines": 1}) for n in range(5)], array=True)
    last = bare.submit([JobSpec("last", "slurm_jobs:echo", {"after": "all"})], after=array)
    outcomes = {outcome.spec.name: outcome for outcome in bare.wait([*jobs, *array, *last])}
    assert {outcome.state for outcome in outcomes.values()} == {"done"}
    assert outcomes["die"].remedies == ("killed: run again",)
    bases = [outcomes[f"part-{n}"].slurm_ids[0].partition("_")[0] for n in range(5)]
    assert bases[0] == bases[1] == bases[2] != bases[3] == bases[4]
    ended = [line["at"] for job in array for line in bare.journal.starts(job.key) if line["event"] == "stop"]
    (started,) = [line["at"] for line in bare.journal.starts(last[0].key) if line["event"] == "start"]
    assert len(ended) == 5
    assert started >= max(ended)


def test_the_worker_hands_over_to_itself_at_its_time_limit(cluster: Cluster, day: Day, tmp_path: Path) -> None:
    script = Path(__file__).resolve().parents[3] / "slurm_templates" / "worker.sbatch"
    trace = tmp_path / "trace"
    worker = tmp_path / "worker.sh"
    worker.write_text(
        f"#!/bin/bash\necho started >> {trace}\ntrap 'echo stopped >> {trace}; exit' TERM\nsleep 60 & wait\n"
    )
    worker.chmod(0o755)
    command = ["sbatch", "--parsable", "--export", f"ALL,GATED_WORKER={worker}", "--chdir", str(tmp_path), str(script)]
    job = cluster.run(*command).strip()
    day.until(lambda: trace.exists(), "the worker starts")
    cluster.run("scancel", "--batch", "--signal", "USR1", job)  # what Slurm sends five minutes before the limit
    day.until(lambda: trace.read_text().splitlines()[:3] == ["started", "stopped", "started"], "it starts again")
    cluster.run("scancel", job)
    day.until(lambda: "stopped" in trace.read_text().splitlines()[3:], "it ends in order")


def test_follow_ups_of_an_array_run_in_its_allocations_and_wait_in_no_queue(cluster: Cluster, tmp_path: Path) -> None:
    profile = load_profile("slurm-dev")
    base = {**profile.section("gpu").model_dump(), "memory": "512MB"}
    stages = {
        "train": Resources(**{**base, "linger_seconds": 6}),
        "denoise": Resources(**{**base, "allocation": "shared", "time": "00:10:00"}),
    }
    profile = profile.model_copy(update={"stages": stages})
    door = Dispatcher(profile, tmp_path / "jobs")
    trainings = [JobSpec(f"training-{n}", "slurm_jobs:nap", {"seconds": 6, "n": n}, stage="train") for n in range(2)]
    sent = {job.name: job for job in door.submit(trainings, array=True)}
    ends = []
    for outcome in door.wait(list(sent.values())):
        follow = [
            JobSpec(
                f"{kind}-{outcome.spec.name}",
                "slurm_jobs:echo",
                {"is": f"{kind} of {outcome.spec.name}", "lines": 2},
                stage="denoise",
            )
            for kind in ("denoise", "evaluate")
        ]
        ends += [outcome, *door.wait(door.submit(follow, inside=sent[outcome.spec.name]))]
    assert [(one.state, one.attempts) for one in ends] == [("done", 1)] * 6, [one.message for one in ends]
    assert {one.slurm_ids[0].partition("+")[2] for one in ends[1:3]} == {"1", "2"}
    array = ends[0].slurm_ids[0].partition("_")[0]
    log = next((tmp_path / "jobs" / "submissions").glob("denoise-training-0*/*_0_log.out"))
    assert "line 1" in log.read_text()
    deadline = time.time() + 60
    while array in cluster.run("squeue", "-h", "-t", "R,CG", "-o", "%A %F"):  # the allocations leave by themselves
        assert time.time() < deadline
        time.sleep(0.5)
    own = f"--name={','.join(path.name for path in (tmp_path / 'jobs' / 'submissions').iterdir())}"
    rows = cluster.run("sacct", "-X", "-n", "-P", "-o", "JobID,State", own).split()
    assert sorted(rows) == [f"{array}_0|COMPLETED", f"{array}_1|COMPLETED"]
