"""The same door without Slurm: re-attachment, kill -9, cancellation, logs and progress mean the same."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasks.slurm.dispatcher import Dispatcher, JobSpec, Outcome
from tasks.slurm.profiles import load_profile
from tasks.slurm.snapshot import Snapshot

pytestmark = pytest.mark.usefixtures("no_process_left")


@pytest.fixture
def no_process_left(quick_folder: Path) -> Iterator[None]:
    yield
    for process in psutil.process_iter(["environ", "cmdline"]):
        if any(str(quick_folder) in part for part in process.info["cmdline"] or []):
            process.kill()


def _dispatcher(folder: Path, code: Snapshot, **changes: Any) -> Dispatcher:
    profile = load_profile("local").model_copy(update={"settle_seconds": 0.2, **changes.pop("profile", {})})
    return Dispatcher(profile, folder / "a root", code=code, **changes)


def _run(dispatcher: Dispatcher, specs: list[JobSpec], **wait: Any) -> dict[str, Outcome]:
    array = len(specs) > 2
    return {one.spec.name: one for one in dispatcher.wait(dispatcher.submit(specs, array=array), **wait)}


def test_jobs_run_one_after_another_and_their_output_arrives(quick_folder: Path, code: Snapshot) -> None:
    log: list[str] = []
    specs = [JobSpec(f"job-{n}", "slurm_jobs:nap", {"seconds": 0.3, "n": n}) for n in range(3)]
    spec = JobSpec("talker", "slurm_jobs:echo", {"lines": 3})
    progress: list[dict[str, Any]] = []
    outcomes = _run(
        _dispatcher(quick_folder, code),
        [*specs, spec],
        on_log=lambda job, text: log.append(text),
        on_progress=lambda job, seen: progress.append(seen),
    )
    assert {outcome.state for outcome in outcomes.values()} == {"done"}
    assert "\n".join(log).splitlines() == ["line 0", "line 1", "line 2"]
    assert any(seen.get("step") for seen in progress)
    times = sorted(
        (float(one.accounting["submitted"]) + one.accounting["queue_wait_s"], one.accounting["elapsed_s"])
        for one in outcomes.values()
        if one.spec.name != "talker"
    )
    for (start, elapsed), (following, _) in itertools.pairwise(times):
        assert following >= start + elapsed - 0.1  # max_parallel is 1


def test_a_killed_dispatcher_finds_its_running_job_again(quick_folder: Path, code: Snapshot) -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[2])\nfrom pathlib import Path\n"
        "from tasks.slurm.dispatcher import Dispatcher, JobSpec\nfrom tasks.slurm.profiles import load_profile\n"
        "from tasks.slurm.snapshot import Snapshot\nimport os\nfolder = Path(sys.argv[1])\n"
        "code = Snapshot(Path(sys.argv[3]), sys.argv[4])\n"
        "Dispatcher(load_profile('local'), folder / 'a root', code=code).submit("
        "[JobSpec('nap', 'slurm_jobs:nap', {'seconds': 1.0})])\nos.kill(os.getpid(), 9)\n"
    )
    command = [sys.executable, "-c", script, str(quick_folder), str(Path(__file__).parent)]
    killed = subprocess.run([*command, str(code.folder), code.sha256], check=False)
    assert killed.returncode == -9
    events: list[dict[str, Any]] = []
    outcomes = _run(
        _dispatcher(quick_folder, code, events=events.append), [JobSpec("nap", "slurm_jobs:nap", {"seconds": 1.0})]
    )
    assert outcomes["nap"].state == "done"
    assert outcomes["nap"].attempts == 1
    assert [event["event"] for event in events] == ["attached", "done"]


def test_a_killed_job_runs_again_from_its_folder(quick_folder: Path, code: Snapshot) -> None:
    outcomes = _run(_dispatcher(quick_folder, code), [JobSpec("die", "slurm_jobs:die", {"times": 1})])
    assert outcomes["die"].result == {"deaths": 1}
    assert outcomes["die"].remedies == ("killed: run again",)


@pytest.mark.parametrize("victim", ["keeper", "both"])
def test_a_killed_keeper_loses_and_repeats_nothing(quick_folder: Path, code: Snapshot, victim: str) -> None:
    dispatcher = _dispatcher(quick_folder, code)
    trace = quick_folder / "trace"
    spec = JobSpec("echo", "slurm_jobs:echo", {"n": 5, "trace": str(trace), "lines": 10, "pause": 0.05})
    jobs = dispatcher.submit([spec])
    deadline = time.time() + 10
    while not trace.exists() and time.time() < deadline:
        time.sleep(0.02)
    pid = int(trace.read_text().split()[1])
    keeper = psutil.Process(pid).ppid()
    os.kill(keeper, signal.SIGKILL)
    if victim == "both":
        os.kill(pid, signal.SIGKILL)
    (outcome,) = dispatcher.wait(jobs)
    assert outcome.state == "done"
    assert len(trace.read_text().splitlines()) == (2 if victim == "both" else 1)


def test_cancelling_ends_what_runs_and_what_waits(quick_folder: Path, code: Snapshot) -> None:
    dispatcher = _dispatcher(quick_folder, code)
    specs = [JobSpec(f"nap-{n}", "slurm_jobs:nap", {"seconds": 60, "n": n}) for n in range(2)]
    running: set[str] = set()
    outcomes = _run(
        dispatcher,
        specs,
        on_progress=lambda job, seen: running.add(job.name) if seen.get("step") else None,
        stop=lambda: bool(running),
    )
    assert {outcome.state for outcome in outcomes.values()} == {"cancelled"}
    time.sleep(0.3)
    assert not [one for one in psutil.process_iter(["cmdline"]) if str(quick_folder) in str(one.info["cmdline"])]


def test_a_stubborn_job_is_killed_after_its_time(quick_folder: Path, code: Snapshot) -> None:
    profile = load_profile("local")
    short = profile.section("gpu").model_copy(update={"time": "00:00:02", "signal_seconds": 1})
    dispatcher = _dispatcher(quick_folder, code, profile={"stages": {**profile.stages, "gpu": short}})
    polite, stubborn = (
        _run(dispatcher, [JobSpec("nap", "slurm_jobs:train", {"steps": steps, "pause": 0.05})])["nap"]
        for steps in (5, 30)
    )
    assert polite.attempts == 1
    assert stubborn.state == "done"
    assert stubborn.result is not None
    assert stubborn.result["stops"] >= 1
    assert set(stubborn.remedies) == {"time_limit: resume from checkpoint"}
