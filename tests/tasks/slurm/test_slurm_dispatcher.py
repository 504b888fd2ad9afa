"""The door: one key, one job; arrays, caps, dependencies, reuse, cancellation, sweep, prune."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dispatch_lab import Lab

from tasks.slurm import accounting, files
from tasks.slurm.dispatcher import JobSpec


def _echo(n: int, **more: Any) -> JobSpec:
    return JobSpec(f"fold-{n:02d}", "slurm_jobs:echo", {"n": n}, **more)


def _sbatches(lab: Lab) -> int:
    return sum(1 for call in lab.fake.calls if call[0] == "sbatch")


def test_the_key_names_the_work_and_nothing_else() -> None:
    spec = JobSpec("a", "m:f", {"x": 1}, {"data": "abc"})
    key = spec.key("code")
    assert key == JobSpec("b", "m:f", {"x": 1}, {"data": "abc"}, stage="evaluate", places={"p": "/a"}).key("code")
    others = [
        JobSpec("a", "m:g", {"x": 1}, {"data": "abc"}).key("code"),
        JobSpec("a", "m:f", {"x": 2}, {"data": "abc"}).key("code"),
        JobSpec("a", "m:f", {"x": 1}, {"data": "abd"}).key("code"),
        spec.key("other code"),
    ]
    assert len({key, *others}) == 5


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "a b", "function": "m:f"},
        {"name": "a|b", "function": "m:f"},
        {"name": "a", "function": "m.f"},
        {"name": "a", "function": "m:f", "arguments": {"x": {1}}},
        {"name": "a", "function": "m:f", "arguments": {"x": [{"y": float("inf")}]}},
        {"name": "a", "function": "m:f", "places": {"x": {float("nan"): 1}}},
    ],
)
def test_a_spec_that_cannot_be_run_is_refused_before_anything_happens(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"name|function|JSON"):
        JobSpec(**wrong)


def test_name_and_comment_of_the_slurm_job_carry_the_key(lab: Lab) -> None:
    (job,) = lab.dispatcher().submit([_echo(2)])
    (slurm,) = lab.fake.jobs().values()
    assert re.fullmatch(rf"fold-02\.{job.key[:12]}\.[0-9a-f]{{4}}-1-[0-9a-f]{{4}}", slurm["name"])
    assert f"--comment={job.key}" in Path(slurm["script"]).read_text()


def test_an_array_is_one_sbatch_and_is_split_at_the_clusters_limit(lab: Lab) -> None:
    jobs = lab.dispatcher().submit([_echo(n) for n in range(250)], array=True)
    assert _sbatches(lab) == 3  # MaxArraySize of the fake is 101
    assert len(lab.fake.jobs()) == len(jobs) == 250
    scripts = [Path(call[1]).read_text() for call in lab.fake.calls if call[0] == "sbatch"]
    assert [re.search(r"--array=(\S+)", text)[1] for text in scripts] == ["0-100%4", "0-100%4", "0-47%4"]  # type: ignore[index]


def test_one_member_of_an_array_is_retried_alone(lab: Lab) -> None:
    specs = [_echo(0), JobSpec("hungry", "slurm_jobs:cuda_hungry", {"fits_after": 1})]
    for job_id in ("1_0", "1_1", "2"):
        lab.when(lab.has(job_id), lab.runs(job_id))
    outcomes = {outcome.spec.name: outcome for outcome in lab.outcomes(specs, submit={"array": True})}
    assert outcomes["hungry"].slurm_ids == ("1_1", "2")
    assert outcomes["fold-00"].slurm_ids == ("1_0",)


def test_the_same_specs_attach_to_what_is_live_and_reuse_what_is_done(lab: Lab) -> None:
    specs = [_echo(1), _echo(2)]
    lab.dispatcher().submit(specs)
    lab.when(lab.has("2"), lab.runs("1"))
    lab.after(0, lab.runs("2"))
    outcomes = lab.outcomes([*specs, _echo(1)])
    assert [outcome.state for outcome in outcomes] == ["done"] * 2
    assert not any(outcome.reused for outcome in outcomes)
    again = lab.outcomes(specs)
    assert all(outcome.reused for outcome in again)
    assert [one.result for one in again] == [{"echo": {"n": 1}}, {"echo": {"n": 2}}]
    assert _sbatches(lab) == 2
    assert {event["event"] for event in lab.events} >= {"submitted", "attached", "reused", "done"}


def test_fresh_sets_result_and_checkpoint_aside(lab: Lab) -> None:
    lab.when(lab.has("1"), lab.runs("1"))
    (old,) = lab.outcomes([_echo(1)])
    (old.folder / "checkpoint").write_text("old")
    lab.when(lab.has("2"), lab.runs("2"))
    (new,) = lab.outcomes([_echo(1)], submit={"fresh": True})
    assert new.state == "done"
    assert not new.reused
    assert new.folder == old.folder
    assert not (new.folder / "checkpoint").exists()


def test_a_run_that_outlives_a_fresh_start_is_fenced_off(lab: Lab) -> None:
    spec = JobSpec("job", "slurm_jobs:echo", {"trace": str(lab.folder / "trace")})
    lab.dispatcher().submit([spec])
    lab.when(lab.has("2"), lambda: lab.fake.set("1", "PENDING"))  # as if scancel had not reached it
    lab.after(0, lab.runs("1"))
    lab.after(0, lambda: _assert(not (lab.folder / "trace").exists()))
    lab.after(0, lab.runs("2"))
    (outcome,) = lab.outcomes([spec], submit={"fresh": True})
    assert outcome.slurm_ids == ("2",)
    assert len((lab.folder / "trace").read_text().splitlines()) == 1


def _assert(condition: bool) -> None:
    assert condition


def test_a_cancellation_that_comes_after_the_result_changes_nothing(lab: Lab) -> None:
    dispatcher = lab.dispatcher()
    jobs = dispatcher.submit([_echo(1)])
    lab.fake.launch("1", wait=True)
    dispatcher.cancel(jobs)
    (outcome,) = lab.outcomes([_echo(1)])
    assert outcome.state == "done"
    assert _sbatches(lab) == 1


def test_a_failed_job_asked_for_again_runs_again_with_fresh_counts(lab: Lab) -> None:
    spec = JobSpec("nan", "slurm_jobs:diverging", {"always": True})
    for number in ("1", "2"):
        lab.when(lab.has(number), lab.runs(number))
    assert lab.outcomes([spec])[0].attempts == 2
    for number in ("3", "4"):
        lab.when(lab.has(number), lab.runs(number))
    (second,) = lab.outcomes([spec])
    assert second.attempts == 2
    assert second.slurm_ids == ("3", "4")


def test_the_cap_of_the_profile_holds_over_dispatchers(lab: Lab) -> None:
    seen: list[int] = []
    lab.fake.knob()
    dispatchers = [lab.dispatcher(profile={"max_parallel": 2}) for _ in range(2)]
    jobs = [dispatchers[n].submit([_echo(10 * n + k) for k in range(3)]) for n in range(2)]

    def step() -> None:
        live = [job_id for job_id, job in lab.fake.jobs().items() if job["state"] == "PENDING"]
        seen.append(len(live))
        lab.fake.launch(live[0], wait=True)

    for _ in range(6):
        lab.after(12, step)
    first = list(dispatchers[0].wait(jobs[0]))
    second = list(dispatchers[1].wait(jobs[1]))
    assert len(first) + len(second) == 6
    assert max(seen) <= 2 + 2  # each may place before it sees the other's newest


def test_a_dependency_is_slurms_own_and_a_failed_one_fails_with_its_name(lab: Lab) -> None:
    dispatcher = lab.dispatcher()
    (first,) = dispatcher.submit([_echo(1)])
    (second,) = dispatcher.submit([_echo(2)], after=[first])
    assert "--dependency=afterok:1" in Path(lab.fake.jobs()["2"]["script"]).read_text()
    lab.when(lab.has("2"), lambda: (lab.fake.set("1", "CANCELLED"), lab.fake.set("2", "CANCELLED")))
    outcomes = {outcome.spec.name: outcome for outcome in dispatcher.wait([first, second])}
    assert outcomes["fold-01"].state == "cancelled"
    assert (outcomes["fold-02"].state, outcomes["fold-02"].cause) == ("failed", "dependency")
    assert "fold-01" in outcomes["fold-02"].message


def test_a_dependent_job_follows_its_repaired_dependency(lab: Lab) -> None:
    dispatcher = lab.dispatcher()
    (first,) = dispatcher.submit([JobSpec("hungry", "slurm_jobs:cuda_hungry", {"fits_after": 1})])
    (second,) = dispatcher.submit([_echo(2)], after=[first])
    lab.when(lab.has("1"), lab.runs("1"))
    lab.when(lab.has("3"), lambda: lab.fake.set("2", "CANCELLED"))  # kill-on-invalid-dep
    lab.after(30, lab.runs("3"))
    lab.when(lambda: len(lab.fake.jobs()) >= 4, lambda: lab.fake.launch(max(lab.fake.jobs(), key=int), wait=True))
    outcomes = {outcome.spec.name: outcome for outcome in dispatcher.wait([first, second])}
    assert outcomes["hungry"].state == "done"
    assert outcomes["fold-02"].state == "done"


def test_stopping_the_wait_cancels_and_cancelled_stays_cancelled(lab: Lab) -> None:
    (outcome,) = lab.outcomes([_echo(1)], stop=lambda: True)
    assert outcome.state == "cancelled"
    assert lab.fake.jobs()["1"]["state"] == "CANCELLED"
    assert not lab.told("remedy")
    assert lab.fake.launch("1", wait=True) == 0  # a node that starts it all the same leaves at once
    assert not (outcome.folder.parent / "claim-1.json").exists()


def test_detach_leaves_the_jobs_alone(lab: Lab) -> None:
    dispatcher = lab.dispatcher(detach=True)
    jobs = dispatcher.submit([_echo(1)])
    assert list(dispatcher.wait(jobs, stop=lambda: True)) == []
    assert lab.fake.jobs()["1"]["state"] == "PENDING"


def test_a_cancelled_job_asked_for_again_starts_anew(lab: Lab) -> None:
    assert lab.outcomes([_echo(1)], stop=lambda: True)[0].state == "cancelled"
    lab.when(lab.has("2"), lab.runs("2"))
    assert lab.outcomes([_echo(1)])[0].state == "done"


def test_sweep_ends_the_orphans_of_the_dead_and_of_nobody_else(lab: Lab) -> None:
    script = (
        "import os, sys; sys.path[:0] = sys.argv[2:]\n"
        "from pathlib import Path\nfrom dispatch_lab import Lab\nfrom tasks.slurm.dispatcher import JobSpec\n"
        "from tasks.slurm.snapshot import Snapshot\n"
        "folder = Path(sys.argv[1]); lab = Lab(folder, Snapshot.take(folder / 'root', ['slurm_jobs']))\n"
        "lab.dispatcher().submit([JobSpec('orphan', 'slurm_jobs:echo', {'n': 7})])\n"
        "lab.dispatcher(detach=True).submit([JobSpec('kept', 'slurm_jobs:echo', {'n': 8})])\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(lab.folder), str(Path(__file__).parent)], check=False)
    alive = lab.dispatcher()
    alive.submit([_echo(1)])
    sweeper = lab.dispatcher()
    assert sweeper.sweep() == []  # dead for less than the grace
    lab.clock.now += 120
    assert [job.name for job in sweeper.sweep()] == ["orphan"]
    states = {job["name"].split(".")[0]: job["state"] for job in lab.fake.jobs().values()}
    assert states == {"orphan": "CANCELLED", "kept": "PENDING", "fold-01": "PENDING"}


def test_what_a_dead_owner_left_is_ended_and_goes_on_when_asked_for_again(lab: Lab) -> None:
    lab.dispatcher(owner="flow-run-1").submit([_echo(1), _echo(3)])
    lab.dispatcher(owner="flow-run-1", detach=True).submit([_echo(2)])
    lab.dispatcher(owner="flow-run-2").submit([_echo(3), _echo(4)])  # takes fold 3 over
    other = lab.dispatcher()
    left = other.abandon("flow-run-1")
    assert [job.name for job in left] == ["fold-01"]
    states = {job["name"].split(".")[0]: job["state"] for job in lab.fake.jobs().values()}
    assert states == {"fold-01": "CANCELLED", "fold-02": "PENDING", "fold-03": "PENDING", "fold-04": "PENDING"}
    assert [outcome.state for outcome in other.wait(left)] == ["cancelled"]
    lab.when(lab.has("5"), lab.runs("5"))
    (outcome,) = lab.outcomes([_echo(1)])
    assert (outcome.state, outcome.key) == ("done", left[0].key)


def test_what_waits_in_the_queue_though_its_work_is_over_is_swept(lab: Lab) -> None:
    """A lost node finished the work, and Slurm put the job back: held after a failed launch, it would wait for ever."""
    held = "launch failed requeued held"
    lab.when(lab.has("1"), lab.runs("1"))
    lab.outcomes([_echo(1)])
    lab.dispatcher().submit([_echo(2)])
    lab.fake.set("1", "PENDING", reason=held)
    lab.fake.set("2", "PENDING", reason=held)
    lab.clock.now += 60
    assert lab.dispatcher(owner="sweeper").sweep() == []
    assert {number: job["state"] for number, job in lab.fake.jobs().items()} == {"1": "CANCELLED", "2": "PENDING"}


def test_a_job_that_is_put_back_after_its_failure_was_told_makes_place_for_the_next_attempt(lab: Lab) -> None:
    lab.when(lab.has("1"), lambda: lab.fake.set("1", "NODE_FAIL"))
    lab.after(6, lambda: _goes_on(lab, "1"))
    lab.when(lab.has("2"), lab.runs("2"))
    (outcome,) = lab.outcomes([JobSpec("diverges", "slurm_jobs:diverging")])
    assert outcome.attempts == 2
    assert lab.fake.jobs()["1"]["state"] == "CANCELLED"


def _goes_on(lab: Lab, number: str) -> None:
    """The lost node ends the attempt; by then Slurm has put the job back."""
    lab.fake.launch(number, wait=True)
    lab.fake.set(number, "PENDING", reason="BeginTime")


@pytest.mark.parametrize("harm", [lambda file: file.unlink(), lambda file: file.write_bytes(file.read_bytes()[:-1])])
def test_a_result_whose_file_is_damaged_is_made_again(lab: Lab, harm: Callable[[Path], object]) -> None:
    spec = JobSpec("keeper", "slurm_jobs:keeper")
    lab.when(lab.has("1"), lab.runs("1"))
    (first,) = lab.outcomes([spec])
    assert first.result is not None
    (file,) = first.result["files"]
    assert lab.outcomes([spec])[0].reused
    harm(Path(file))
    lab.when(lab.has("2"), lab.runs("2"))
    (again,) = lab.outcomes([spec])
    assert (again.state, again.reused, again.result) == ("done", False, first.result)
    assert again.attempts == 1
    assert file in lab.told("damaged")[0]["text"]


def test_a_folders_hash_names_every_file_below_it(tmp_path: Path) -> None:
    (tmp_path / "out" / "deep").mkdir(parents=True)
    (tmp_path / "out" / "deep" / "a.npy").write_bytes(b"1")
    before = files.sha256_of(tmp_path / "out")
    assert files.damaged({"files": {str(tmp_path / "out"): before}}) is None
    (tmp_path / "out" / "b.npy").write_bytes(b"")
    assert files.damaged({"files": {str(tmp_path / "out"): before}}) == str(tmp_path / "out")
    assert files.damaged({"result": "of a job that names none"}) is None


def test_prune_removes_what_is_old_and_nothing_that_is_needed(lab: Lab) -> None:
    lab.when(lab.has("1"), lab.runs("1"))
    (old,) = lab.outcomes([_echo(1)])
    lab.clock.now += 10 * 86400
    lab.when(lab.has("2"), lab.runs("2"))
    (recent,) = lab.outcomes([_echo(2)])
    (live,) = lab.dispatcher().submit([_echo(3)])
    for path in (lab.folder / "root" / "submissions").iterdir():
        os.utime(path, (1, 1))
    removed = lab.dispatcher().prune(7 * 86400)
    assert old.folder.parent in removed
    assert not old.folder.exists()
    assert recent.folder.exists()
    names = [path.name.split(".")[0] for path in (lab.folder / "root" / "submissions").iterdir()]
    assert sorted(names) == ["fold-02", "fold-03"]
    lab.when(lab.has("3"), lab.runs("3"))
    assert next(iter(lab.dispatcher().wait([live]))).state == "done"


def test_every_file_of_a_run_is_private(lab: Lab) -> None:
    lab.when(lab.has("1"), lab.runs("1"))
    lab.outcomes([_echo(1)])
    for path in [lab.folder / "root", *(lab.folder / "root").rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_secret_of_the_environment_is_in_no_file(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_TOKEN", "canary-5f1d")
    lab.when(lab.has("1"), lab.runs("1"))
    (outcome,) = lab.outcomes([JobSpec("env", "slurm_jobs:echo")])
    assert outcome.state == "done"
    assert "SERVICE_TOKEN" not in lab.fake.jobs()["1"]["environment"]
    for path in (lab.folder / "root").rglob("*"):
        assert path.is_dir() or b"canary-5f1d" not in path.read_bytes(), path


def test_progress_and_log_reach_the_waiter_once(lab: Lab) -> None:
    progress: list[dict[str, Any]] = []
    log: list[str] = []
    lab.when(lab.has("1"), lab.runs("1"))
    spec = JobSpec("talker", "slurm_jobs:echo", {"lines": 5})
    lab.outcomes([spec], on_progress=lambda job, seen: progress.append(seen), on_log=lambda job, text: log.append(text))
    assert "\n".join(log).splitlines() == [f"line {n}" for n in range(5)]
    assert progress[0]["state"] in ("SUBMITTED", "PENDING")
    assert {"state", "node", "elapsed_s", "attempt", "slurm_id"} <= set(progress[0])
    assert (progress[-1]["state"], progress[-1]["slurm_id"]) == ("done", "1")


def test_accounting_rows_of_a_run(lab: Lab, tmp_path: Path) -> None:
    lab.when(lab.has("1"), lab.runs("1"))
    lab.when(lab.has("2"), lambda: lab.fake.set("2", "CANCELLED"))
    outcomes = lab.outcomes([_echo(1), _echo(2)])
    accounting.write_csv([outcome.accounting for outcome in outcomes], tmp_path / "accounting.csv")
    assert stat.S_IMODE((tmp_path / "accounting.csv").stat().st_mode) & 0o044  # the auditor is another user
    header, *rows = (tmp_path / "accounting.csv").read_text().splitlines()
    assert header.split(",") == list(accounting.COLUMNS)
    assert len(rows) == 2
    done = next(outcome.accounting for outcome in outcomes if outcome.state == "done")
    assert done["elapsed_s"] > 0
    assert done["cpu_s"] > 0
    assert 0 < done["memory_efficiency"] < 1
    assert done["queue_wait_s"] is not None
    assert done["gpu_hours"] == pytest.approx(done["elapsed_s"] / 3600, abs=1e-3)  # one GPU a job in this profile
    assert done["gpu_utilisation"] is None  # no GPU here: unknown, not zero


def test_a_removed_journal_is_an_error_that_says_so(lab: Lab) -> None:
    dispatcher = lab.dispatcher()
    (job,) = dispatcher.submit([_echo(1)])
    (job.folder / "journal.json").unlink()
    with pytest.raises(FileNotFoundError, match=str(job.folder)):
        list(dispatcher.wait([job]))


@pytest.mark.parametrize("module", ["tasks.slurm.runner", "tasks.slurm.dispatcher"])
def test_no_prefect_no_core_and_on_the_node_only_the_standard_library(module: str) -> None:
    code = f"import sys, {module}; print(*{{name.split('.')[0] for name in sys.modules}})"
    loaded = set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split())
    assert not loaded & {"prefect", "torch", "pandas", "denoise_core", "submitit"}
    if module.endswith("runner"):
        assert not loaded & {"pydantic", "yaml", "psutil", "numpy"}
