"""Killed, run again, cancelled: nothing is trained twice, nothing is left behind."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
from flow_lab import LENIENT, Lab, starts, tiny, until, warm_start

from tasks.ledger import verify

pytestmark = pytest.mark.prefect

CANCEL_S = 30.0
SHIPPING = {"gates": LENIENT, "training": tiny(epochs=12, early_stop_patience=99, lr=2e-6)}


def _checkpoint(lab: Lab, run_id: str) -> str:
    """SHA-256 of what the run's Act of God training made."""
    (receipt,) = [event for event in lab.events(run_id, "receipt") if event["text"].startswith("train-god_run")]
    return str(receipt["data"]["result"]["sha256"])


@pytest.fixture(scope="module")
def killed(lab: Lab) -> str:
    """A run whose process was killed while its training was at work."""
    run_id = lab.start("act-of-god/warm-start", warm_start(label="killed", **SHIPPING))
    entry, folder = lab.job_started(run_id, "train-god_run")
    lab.kill_flow(run_id)
    assert entry.state == "live"
    assert not (folder / "result.json").exists(), "the training was over before the kill: the test shows nothing"
    return run_id


@pytest.fixture(scope="module")
def shipped(lab: Lab, killed: str) -> str:
    """The same deployment, started again at once."""
    run_id = lab.start("act-of-god/warm-start", warm_start(label="again", **SHIPPING))
    assert lab.ended(run_id)["type"] == "COMPLETED", lab.log(run_id)
    return run_id


def test_a_killed_flow_run_again_trains_nothing_twice(lab: Lab, killed: str, shipped: str) -> None:
    assert lab.ended(killed)["name"] == "Crashed"
    entry, folder = lab.job(shipped, "train-god_run")
    assert entry.state == "done"
    assert len(entry.attempts) == 1
    assert len(starts(folder)) == 1
    assert [event["data"]["key"] for event in lab.events(shipped, "job-attached")] == [entry.key]
    epochs = (folder / "work/logs/god_run/metrics.csv").read_text().splitlines()
    assert len(epochs) == 1 + 13  # the header, the start, twelve epochs


def test_logs_of_killed_and_finished_runs_verify(lab: Lab, killed: str, shipped: str) -> None:
    for run_id in (killed, shipped):
        assert verify(lab.folder(run_id) / "audit.jsonl") == []
    jobs_log = lab.folder(shipped) / "audit.jsonl"
    lines = jobs_log.read_text().splitlines(keepends=True)
    copy = jobs_log.with_name("tampered.jsonl")
    copy.write_text("".join(lines[:2] + lines[3:]))
    assert any("line 3" in problem for problem in verify(copy))
    copy.unlink()


def test_the_same_plan_again_reuses_everything(lab: Lab, shipped: str) -> None:
    before, production = lab.job_keys(), (lab.artifacts / "registry/production.json").read_text()
    code, run_id, printed = lab.watch("act-of-god/warm-start", warm_start(label="thrice", **SHIPPING))
    assert code == 0, printed
    new = [entry.spec["name"] for entry, _ in lab.jobs() if entry.key not in before]
    assert new == ["audit-panel"]  # beside the model that the second run put into production
    entry, folder = lab.job(run_id, "train-god_run")
    assert len(entry.attempts) == len(starts(folder)) == 1
    assert _checkpoint(lab, run_id) == _checkpoint(lab, shipped)
    assert (lab.artifacts / "registry/production.json").read_text() == production


def _processes_below(folder: Path) -> list[psutil.Process]:
    """Live processes that work in a job's folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def test_cancelling_the_flow_run_ends_its_job(lab: Lab) -> None:
    endless = tiny(epochs=100_000, early_stop_patience=100_000, lr=3e-6)
    run_id = lab.start("act-of-god/warm-start", warm_start(label="cancelled", training=endless, gates=LENIENT))
    _, folder = lab.job_started(run_id, "train-god_run")
    assert until("the job's process", lambda: _processes_below(folder), pause=0.05)

    assert lab.cli("flow-run", "cancel", run_id).returncode == 0
    until("the end of the job's process", lambda: not _processes_below(folder), CANCEL_S)
    assert lab.ended(run_id, CANCEL_S)["name"] == "Cancelled"
    entry, _ = lab.job(run_id, "train-god_run")
    assert entry.cancel is not None
    assert entry.state == "cancelled"
    assert lab.events(run_id, "job-cancelling")
    assert verify(lab.folder(run_id) / "audit.jsonl") == []
