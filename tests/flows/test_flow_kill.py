"""Killed, run again, cancelled: nothing is trained twice, nothing is left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from flow_lab import LENIENT, SIGNED, Lab, processes_below, starts, tiny, until, warm_start

from tasks.audit_log import verify

pytestmark = pytest.mark.prefect

CANCEL_S = 30.0
EPOCHS = 40
SHIPPING = {"gates": LENIENT, "approval": SIGNED, "training": tiny(epochs=EPOCHS, early_stop_patience=99, lr=2e-6)}


def _checkpoint(lab: Lab, run_id: str) -> str:
    """SHA-256 of what the run's Act of God training made."""
    (receipt,) = [event for event in lab.events(run_id, "receipt") if event["text"].startswith("train-god_run")]
    return str(receipt["data"]["result"]["best"]["sha256"])


def _epochs(folder: Path) -> list[int]:
    """Epochs on record of the training whose job has that folder."""
    return [epoch for file in folder.glob("work/logs/*/metrics.csv") for epoch in pd.read_csv(file)["epoch"]]


@pytest.fixture(scope="module")
def killed(lab: Lab) -> str:
    """A run whose process was killed while its training was at work, some epochs behind it."""
    run_id = lab.start("act-of-god/warm-start", warm_start(label="killed", **SHIPPING))
    entry, folder = lab.job_started(run_id, "train-god_run")
    until("some epochs", lambda: len(_epochs(folder)) > 3, pause=0.05)
    lab.kill_flow(run_id)
    assert entry.state == "live"
    assert not (folder / "result.json").exists(), "the training was over before the kill: the test shows nothing"
    return run_id


@pytest.fixture(scope="module")
def shipped(lab: Lab, killed: str) -> str:
    """The same deployment, started again."""
    run_id = lab.start("act-of-god/warm-start", warm_start(label="again", **SHIPPING))
    assert lab.ended(run_id)["type"] == "COMPLETED", lab.log(run_id)
    return run_id


def test_killing_the_flows_process_ends_its_job(lab: Lab, killed: str) -> None:
    _, folder = lab.job(killed, "train-god_run")
    until("the end of the job's process", lambda: not processes_below(folder), CANCEL_S)
    assert lab.ended(killed)["name"] == "Crashed"
    until("the end in the journal", lambda: lab.job(killed, "train-god_run")[0].state == "cancelled", CANCEL_S)
    (event,) = until("the audit event", lambda: lab.events(killed, "cancelled"))
    assert event["data"]["jobs"] == {"train-god_run": "cancelled"}


def test_a_killed_flow_run_again_trains_no_epoch_twice(lab: Lab, killed: str, shipped: str) -> None:
    entry, folder = lab.job(shipped, "train-god_run")
    assert entry.key == lab.job(killed, "train-god_run")[0].key
    assert entry.state == "done"
    assert len(starts(folder)) == 2
    assert _epochs(folder) == list(range(EPOCHS + 1))
    told = (folder / "work/logs/god_run/auditing_manifest.log").read_text()
    assert told.count("Launching training run") == 1
    assert any(f"Resuming after epoch {epoch}\n" in told for epoch in range(3, EPOCHS))


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
    before, production = lab.job_keys(), lab.pointer().read_text()
    code, run_id, printed = lab.watch("act-of-god/warm-start", warm_start(label="thrice", **SHIPPING))
    assert code == 0, printed
    new = [entry.spec["name"] for entry, _ in lab.jobs() if entry.key not in before]
    assert set(new) <= {"audit-panel"}  # measured again only where another model was in production before
    _, folder = lab.job(run_id, "train-god_run")
    assert len(starts(folder)) == 2  # the killed one's and the one that went on
    assert _checkpoint(lab, run_id) == _checkpoint(lab, shipped)
    assert lab.pointer().read_text() == production


def test_cancelling_the_flow_run_ends_its_job(lab: Lab) -> None:
    endless = tiny(epochs=100_000, early_stop_patience=100_000, lr=3e-6)
    run_id = lab.start("act-of-god/warm-start", warm_start(label="cancelled", training=endless, gates=LENIENT))
    _, folder = lab.job_started(run_id, "train-god_run")
    assert until("the job's process", lambda: processes_below(folder), pause=0.05)

    lab.cancel(run_id)
    until("the end of the job's process", lambda: not processes_below(folder), CANCEL_S)
    assert lab.ended(run_id, CANCEL_S)["name"] == "Cancelled"
    entry, _ = lab.job(run_id, "train-god_run")
    assert entry.cancel is not None
    assert entry.state == "cancelled"
    assert lab.events(run_id, "job-cancelling")
    assert verify(lab.folder(run_id) / "audit.jsonl") == []


FOLD_EPOCHS = 16
SUMMARY = "artifacts/cross_validation/fold_summary.csv"


def campaign(label: str, folds: list[int], **plan: Any) -> dict[str, Any]:
    return {
        "label": label,
        "folds": folds,
        "training": tiny(epochs=FOLD_EPOCHS, early_stop_patience=99, lr=7e-6),
        **plan,
    }


def test_a_killed_campaign_again_finishes_what_is_missing(lab: Lab) -> None:
    dead = lab.start("cross-validation/five-fold", campaign("dead", [1, 2]))
    until(
        "the end of fold 1", lambda: [e for e, _ in lab.jobs("train-fold_01") if (e.owner, e.state) == (dead, "done")]
    )
    _, second = lab.job_started(dead, "train-fold_02")
    until("some epochs of fold 2", lambda: len(_epochs(second)) > 3, pause=0.05)
    lab.kill_flow(dead)
    until("the end of the job's process", lambda: not processes_below(second), CANCEL_S)

    run_id = lab.start("cross-validation/five-fold", campaign("again", [1, 2]))
    assert lab.ended(run_id)["type"] == "COMPLETED", lab.log(run_id)
    for fold, often in ((1, 1), (2, 2)):
        entry, folder = lab.job(run_id, f"train-fold_0{fold}")
        assert entry.key == lab.job(dead, f"train-fold_0{fold}")[0].key
        assert len(starts(folder)) == often
        assert _epochs(folder) == list(range(FOLD_EPOCHS + 1))  # none twice, none left out
    summary = pd.read_csv(lab.artifacts / SUMMARY)
    assert list(summary["fold"]) == [1, 2]
    assert list(summary["status"]) == ["done", "done"]
    assert verify(lab.folder(run_id) / "audit.jsonl") == []
