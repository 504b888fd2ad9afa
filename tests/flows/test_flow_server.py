"""kill -9 of the Prefect server while a run is at work: it is started again, and the run never notices."""

from __future__ import annotations

import httpx
import psutil
import pytest
from flow_lab import LENIENT, SIGNED, Lab, starts, tiny, until, warm_start

from tasks.audit_log import verify

pytestmark = pytest.mark.prefect

LONG = tiny(epochs=40, early_stop_patience=99, lr=3e-6)


def server_of(lab: Lab) -> psutil.Process:
    port = lab.ui.rpartition(":")[2]

    def is_it(process: psutil.Process) -> bool:
        try:
            line = process.cmdline()
        except psutil.Error:
            return False
        return "server" in line and "start" in line and port in line

    (found,) = filter(is_it, psutil.process_iter())
    return found


def up(lab: Lab) -> bool:
    try:
        return httpx.get(f"{lab.env['PREFECT_API_URL']}/health", timeout=5).is_success
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module")
def survived(lab: Lab) -> str:
    """A run whose server was killed while its training was at work, after its end."""
    run_id = lab.start(
        "act-of-god/warm-start", warm_start(label="no-server", gates=LENIENT, approval=SIGNED, training=LONG)
    )
    _, folder = lab.job_started(run_id, "train-god_run")
    server_of(lab).kill()
    assert not (folder / "result.json").exists(), "the training was over before the kill: the test shows nothing"
    until("the server, started again", lambda: up(lab), patience=90)
    lab.ended(run_id)
    return run_id


def test_nothing_is_lost_or_run_twice(lab: Lab, survived: str) -> None:
    run = lab.run(survived)
    assert run["state"]["name"] in ("Completed", "PromotionRefused"), run["state"]  # better than production or not
    assert run["run_count"] == 1
    for name in ("train-god_run", "audit-panel"):
        entry, folder = lab.job(survived, name)
        assert entry.state == "done"
        assert len(starts(folder)) == 1
    assert verify(lab.folder(survived) / "audit.jsonl") == []
    assert (lab.folder(survived) / "report.html").exists()


def test_a_run_after_it_can_be_cancelled_in_the_web_page(lab: Lab, survived: str) -> None:
    """Prefect's runner goes deaf to cancellations when it loses its server: the house replaces it once it is idle."""
    until("a new runner", lambda: "can be cancelled" in (lab.artifacts.parent / "house.log").read_text())
    run_id = lab.start("act-of-god/warm-start", warm_start(label="cancelled", training=tiny(epochs=400, lr=4e-6)))
    entry, _ = lab.job_started(run_id, "train-god_run")
    cancelling = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
    lab.api("POST", f"/flow_runs/{run_id}/set_state", cancelling)
    assert lab.ended(run_id, patience=60)["type"] == "CANCELLED"
    until("the job's end", lambda: lab.job(run_id, entry.spec["name"])[0].state == "cancelled", patience=30)
