"""What runs on the node: claims, fences, code checks, certified results, orderly stops."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dispatch_lab import Lab

from tasks.slurm import remedies, results, runner, surroundings
from tasks.slurm.dispatcher import Job, JobSpec
from tasks.slurm.snapshot import CodeChanged, Snapshot, verify


def _job(lab: Lab, function: str = "echo", arguments: dict[str, Any] | None = None) -> Job:
    (job,) = lab.dispatcher().submit([JobSpec("job", f"slurm_jobs:{function}", arguments or {})])
    return job


def _marker(job: Job, attempt: int = 1) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((job.folder / f"marker-{attempt}.json").read_text())
    return content


def test_result_before_marker_and_the_marker_certifies_it(lab: Lab) -> None:
    job = _job(lab)
    assert lab.fake.launch("1", wait=True) == 0
    result = results.read_result(job.folder)
    assert result is not None
    assert _marker(job)["result_sha256"] == result.file_sha256
    assert (job.folder / "result.json").stat().st_mtime_ns <= (job.folder / "marker-1.json").stat().st_mtime_ns


def test_a_second_start_of_a_finished_attempt_does_nothing(lab: Lab) -> None:
    job = _job(lab, arguments={"trace": str(lab.folder / "trace")})
    for _ in range(2):
        assert lab.fake.launch("1", wait=True) == 0
    assert len((lab.folder / "trace").read_text().splitlines()) == 1
    assert len(lab.dispatcher().journal.starts(job.key)) == 2  # one start, one stop


@pytest.mark.parametrize("change", ["edit", "add", "remove"])
def test_code_that_is_not_what_was_submitted_does_not_run(lab: Lab, change: str) -> None:
    lab.code = Snapshot.take(lab.folder / "root", ["slurm_jobs"])
    job = _job(lab, arguments={"trace": str(lab.folder / "trace")})
    path = lab.code.folder / "slurm_jobs.py"
    if change == "edit":
        path.write_text(path.read_text().replace("return", "return  ", 1))
    elif change == "add":
        (lab.code.folder / "json.py").write_text("raise SystemExit('shadowed')")
    else:
        (lab.code.folder / "tasks" / "slurm" / "faults.py").unlink()
    lab.fake.launch("1", wait=True)
    assert _marker(job)["cause"] == "code_changed"
    assert not (lab.folder / "trace").exists()


def test_an_edit_after_submission_does_not_reach_the_job(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "edited_job.py"
    module.write_text("def job(arguments, context):\n    return {'version': 1}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    dispatcher = lab.dispatcher(code=None)
    spec = JobSpec("job", "edited_job:job")
    jobs = dispatcher.submit([spec])
    module.write_text("def job(arguments, context):\n    return {'version': 2}\n")
    lab.when(lab.has("1"), lab.runs("1"))
    assert next(iter(dispatcher.wait(jobs))).result == {"version": 1}
    lab.when(lab.has("2"), lab.runs("2"))
    assert next(iter(dispatcher.wait(dispatcher.submit([spec])))).result == {"version": 2}  # another key: new code


def test_a_snapshot_carries_what_the_node_needs_and_notices_an_edit(tmp_path: Path) -> None:
    snapshot = Snapshot.take(tmp_path, ["slurm_jobs"])
    carried = {path.relative_to(snapshot.folder).as_posix() for path in snapshot.folder.rglob("*.py")}
    assert {"slurm_jobs.py", "tasks/slurm/runner.py", "study_core/job.py"} <= carried
    verify(snapshot.folder, snapshot.sha256)
    (snapshot.folder / "slurm_jobs.py").write_text("another")
    with pytest.raises(CodeChanged):
        verify(snapshot.folder, snapshot.sha256)


def test_a_snapshot_of_unchanged_code_is_taken_once(tmp_path: Path) -> None:
    first, second = Snapshot.take(tmp_path, ["slurm_jobs"]), Snapshot.take(tmp_path, ["slurm_jobs"])
    assert first == second
    assert [path.name for path in (tmp_path / "code").iterdir()] == [first.sha256]


def test_a_lease_that_cannot_be_read_for_a_while_stops_no_training(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stale handle, an input error: what watches the job is not what it depends on."""
    monkeypatch.setattr(runner, "LEASE_SECONDS", 0.02)
    job = _job(lab, "train", {"steps": 40, "pause": 0.01})
    lease, aside = job.folder / "incarnation.json", job.folder / "aside"

    def trouble() -> None:
        while not (job.folder / "starts.jsonl").exists():
            time.sleep(0.005)
        lease.rename(aside)
        lease.mkdir()  # every read is an error now
        time.sleep(0.15)
        lease.rmdir()
        aside.rename(lease)

    meanwhile = threading.Thread(target=trouble)
    meanwhile.start()
    assert lab.fake.launch("1", wait=True) == 0
    meanwhile.join()
    assert _marker(job)["state"] == "done"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2, signal.SIGUSR1])
def test_a_signal_is_an_orderly_stop_and_the_next_run_resumes(lab: Lab, number: signal.Signals) -> None:
    job = _job(lab, "train", {"steps": 40, "pause": 0.02})
    _signal_soon(lab, "1", number)
    status = lab.fake.launch("1", wait=True)
    assert status == runner.STOPPED
    stop = lab.dispatcher().journal.starts(job.key)[-1]
    assert stop["reason"] == ("time_limit" if number is signal.SIGUSR2 else "terminated")
    has_marker = (job.folder / "marker-1.json").exists()
    assert has_marker is (number is signal.SIGUSR2)  # no scontrol here: the dispatcher has to requeue


def test_a_controller_out_of_reach_at_the_time_limit_is_asked_again(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The words are a real scontrol's, whose controller was restarting."""
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    asked = tmp_path / "asked"
    scontrol.write_text(
        f"""#!/bin/sh
echo "$*" >>'{asked}'
[ "$(wc -l <'{asked}')" -gt 1 ] || {{ echo "Unexpected message received for job $2" >&2; exit 1; }}
"""
    )
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{scontrol.parent}:{os.environ['PATH']}")
    job = _job(lab, "nap", {"seconds": 60})
    _signal_soon(lab, "1", signal.SIGUSR2)
    assert lab.fake.launch("1", wait=True) == runner.STOPPED
    assert asked.read_text().splitlines() == ["requeue 1"] * 2
    assert not (job.folder / "marker-1.json").exists()  # the same Slurm job runs again


def test_a_training_interrupted_five_times_ends_as_an_uninterrupted_one(lab: Lab) -> None:
    plain = _job(lab, "train", {"steps": 60})
    lab.fake.launch("1", wait=True)
    job = _job(lab, "train", {"steps": 60, "pause": 0.01})
    for _ in range(5):
        _signal_soon(lab, "2", signal.SIGTERM)
        assert lab.fake.launch("2", wait=True) == runner.STOPPED
        lab.fake.set("2", "PENDING")
    assert lab.fake.launch("2", wait=True) == 0
    uninterrupted, interrupted = results.read_result(plain.folder), results.read_result(job.folder)
    assert uninterrupted is not None
    assert interrupted is not None
    assert interrupted.value == {"digest": uninterrupted.value["digest"], "stops": 5}


def _signal_soon(lab: Lab, job_id: str, number: signal.Signals) -> None:
    """Send once the job's handlers are in place: its newest start is on record and it has published progress."""
    folder = Path(
        json.loads((Path(lab.fake.jobs()[job_id]["script"]).parent / "submission.json").read_text())["members"][0][
            "folder"
        ]
    )
    begun = _starts(folder)
    (folder / "progress.json").unlink(missing_ok=True)

    def send() -> None:
        deadline = time.time() + 10
        while time.time() < deadline:
            if _starts(folder) > begun and (folder / "progress.json").exists():
                os.kill(lab.fake.jobs()[job_id]["pids"][0], number)
                return
            time.sleep(0.005)

    threading.Thread(target=send, daemon=True).start()


def _starts(folder: Path) -> int:
    path = folder / "starts.jsonl"
    return path.read_text().count('"event":"start"') if path.exists() else 0


def test_an_exception_after_a_signal_is_no_bug(lab: Lab) -> None:
    """A loader's worker dies of the same SIGTERM and the training raises RuntimeError: an interruption all the same."""
    error = RuntimeError("DataLoader worker is killed by signal: Terminated")
    assert remedies.cause_of(error) == "exception"
    job = _job(lab, "nap", {"seconds": 30})
    _signal_soon(lab, "1", signal.SIGTERM)
    assert lab.fake.launch("1", wait=True) == runner.STOPPED
    assert not (job.folder / "marker-1.json").exists()


class _TorchLike(RuntimeError):
    pass


_TorchLike.__name__ = "OutOfMemoryError"


def _caused(cause: str) -> Exception:
    error = RuntimeError("x")
    error.job_cause = cause  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (MemoryError(), "oom"),
        (_TorchLike("x"), "cuda_oom"),
        (RuntimeError("CUDA out of memory. Tried to allocate"), "cuda_oom"),
        (_caused("nan_loss"), "nan_loss"),
        (_caused("interrupted"), "interrupted"),
        (_caused("not in the table"), "exception"),
        (ValueError("x"), "exception"),
        (KeyboardInterrupt(), "exception"),
    ],
)
def test_causes(error: BaseException, cause: str) -> None:
    assert remedies.cause_of(error) == cause
    wrapped = RuntimeError("wrapped")
    wrapped.__cause__ = error
    assert remedies.cause_of(wrapped) == cause


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"result":{},"sha256":"0"}'])
def test_a_damaged_result_is_none(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "result.json").write_bytes(damage)
    assert results.read_result(tmp_path) is None


@pytest.mark.parametrize("result", [{}, {"a": float("inf"), "b": ["ü", None, 1e-300]}])
def test_a_result_survives_its_file(tmp_path: Path, result: dict[str, Any]) -> None:
    (tmp_path / "result.json").write_bytes(results.result_bytes(result, 1))
    found = results.read_result(tmp_path)
    assert found is not None
    assert found.value == result


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"a": [[{"b": (1.0, float("-inf"))}]]}, "result.a[0][0].b[1] is -inf"),
        ({"a": {float("nan"): 1}}, "a key of result.a is nan"),
        ({"a": {(1, 2): 3}}, "a key of result.a is (1, 2)"),
        ({"a": np.float64("nan")}, "result.a is nan"),
        ({"a": {"b": np.float32("nan")}}, "result.a.b is a float32"),
        ({"a": [np.zeros(2)]}, "result.a[0] is a ndarray"),
        ({"a": Path("x")}, "result.a is a PosixPath"),
        ({"a": "lone \ud800", "b": [None, True, 10**400, 1e308]}, ""),
    ],
)
def test_what_is_no_json_is_named_by_its_place(value: dict[str, Any], says: str) -> None:
    assert results.not_json(value) == says


def test_the_ids_slurm_gives() -> None:
    assert (
        surroundings.slurm_id({"SLURM_JOB_ID": "17", "SLURM_ARRAY_JOB_ID": "11", "SLURM_ARRAY_TASK_ID": "4"}) == "11_4"
    )
    assert surroundings.slurm_id({"SLURM_JOB_ID": "17"}) == "17"


@pytest.mark.parametrize("how", ["surrogate", "long", "no text"])
def test_every_failure_can_be_told(lab: Lab, how: str) -> None:
    lab.when(lab.has("1"), lab.runs("1"))
    (outcome,) = lab.outcomes([JobSpec("job", "slurm_jobs:unprintable", {"how": how})])
    assert (outcome.state, outcome.cause, outcome.attempts) == ("failed", "exception", 1)
    assert len(outcome.message) < 70_000
    assert "\0" not in outcome.message
    outcome.message.encode()  # what goes into the log and the state of a run, and PostgreSQL
    assert {"surrogate": "\\ud800", "long": "left out", "no text": "Unreadable"}[how] in outcome.message


@pytest.mark.parametrize("gone", ["marker", "and its text"])
def test_a_cause_on_record_is_not_overruled_by_a_missing_marker(lab: Lab, gone: str) -> None:
    def lose_the_marker() -> None:
        lab.fake.launch("1", wait=True)
        (marker,) = (lab.folder / "root" / "jobs").glob("*/*/marker-1.json")
        marker.unlink()
        if gone == "and its text":
            starts = marker.with_name("starts.jsonl")
            lines = [json.loads(line) for line in starts.read_text().splitlines()]
            starts.write_text("".join(json.dumps({**line, "message": ""}) + "\n" for line in lines))

    lab.when(lab.has("1"), lose_the_marker)
    (outcome,) = lab.outcomes([JobSpec("job", "slurm_jobs:bug")])
    assert (outcome.state, outcome.cause, outcome.attempts) == ("failed", "exception", 1)
    assert "a bug in the job" in outcome.message


def test_a_number_that_is_no_json_is_refused_on_the_node(lab: Lab) -> None:
    lab.when(lab.has("1"), lab.runs("1"))
    (outcome,) = lab.outcomes([JobSpec("job", "slurm_jobs:nan")])
    assert (outcome.state, outcome.cause) == ("failed", "exception")
    assert "slurm_jobs:nan returned result.folds[1].rmse is nan" in outcome.message


def test_a_second_process_of_a_function_for_one_leaves_at_once(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """As under --ntasks=2: srun starts the runner twice under one Slurm id."""
    job = _job(lab, arguments={"trace": str(lab.folder / "trace")})
    submission = Path(lab.fake.jobs()["1"]["script"]).parent
    monkeypatch.setenv("SLURM_PROCID", "1")
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    assert runner.run_job(submission, 0) == 0
    assert not (job.folder / "claim-1.json").exists()
    monkeypatch.undo()
    assert lab.fake.launch("1", wait=True) == 0
    assert len((lab.folder / "trace").read_text().splitlines()) == 1


def test_a_disk_without_room_is_named_and_no_node_is_blamed(lab: Lab) -> None:
    def full() -> None:
        log = next((lab.folder / "root" / "submissions").iterdir()) / "1_0_log.out"
        log.write_text("OSError: [Errno 28] No space left on device: '/data/jobs/claim-1.json'\n")
        lab.fake.set("1", "FAILED")

    lab.when(lab.has("1"), full)
    lab.when(lab.has("2"), lab.runs("2"))
    (outcome,) = lab.outcomes([JobSpec("job", "slurm_jobs:echo")])
    assert outcome.state == "done"
    assert lab.told("remedy")[0]["cause"] == "disk_full"
    assert lab.told("remedy")[0]["exclude"] == []
