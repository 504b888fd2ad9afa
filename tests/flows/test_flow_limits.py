"""Limits are a deployment's own: a run that waits for a person keeps no other deployment's run from starting."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from flow_lab import ROOT, Lab, until

pytestmark = pytest.mark.prefect
TOY = """
from deployments.tenancy import Served, Tenant

TENANT = Tenant("toy", (Served("toy_flows:asks", "one", limit=1), Served("toy_flows:answers", "any", limit=None)))
"""
FLOWS = """
from prefect import flow, pause_flow_run

@flow(name="toy-asks")
def asks() -> None:
    pause_flow_run(timeout=600, poll_interval=1)

@flow(name="toy-answers")
def answers() -> int:
    return 1
"""
SERVE = """
import deployments.tenants
deployments.tenants.__path__ = ["tenants"]
from deployments import serve
serve.main()
"""


@pytest.fixture
def toys(lab: Lab, tmp_path: Path) -> Iterator[Lab]:
    """A second process that serves a toy's two deployments on the house's server."""
    (tmp_path / "tenants").mkdir()
    (tmp_path / "tenants" / "toy.py").write_text(TOY)
    (tmp_path / "toy_flows.py").write_text(FLOWS)
    env = {**lab.env, "PYTHONPATH": f"{tmp_path}:{ROOT}", "GATED_ARTIFACTS": str(tmp_path / "artifacts")}
    with open(tmp_path / "serve.log", "wb") as log:
        serving = subprocess.Popen(
            [sys.executable, "-c", SERVE], cwd=tmp_path, env=env, stdout=log, stderr=log, start_new_session=True
        )
    try:
        wanted = {"deployments": {"tags": {"all_": ["toy"]}}}

        def ready() -> bool:
            assert serving.poll() is None, (tmp_path / "serve.log").read_text()
            found = lab.api("POST", "/deployments/filter", wanted)
            return len(found) == 2 and all(row["status"] == "READY" for row in found)

        until("the toy's deployments", ready)
        yield lab
        serving.terminate()
        assert serving.wait(60) == 0, (tmp_path / "serve.log").read_text()
    finally:
        serving.kill()
        serving.wait()
        for row in lab.api("POST", "/deployments/filter", wanted):
            lab.api("DELETE", f"/deployments/{row['id']}")


def start(lab: Lab, deployment: str) -> str:
    found = lab.api("GET", f"/deployments/name/{deployment}")
    return str(lab.api("POST", f"/deployments/{found['id']}/create_flow_run", {})["id"])


def test_a_waiting_run_keeps_its_own_place_and_nobody_elses(toys: Lab) -> None:
    first = start(toys, "toy-asks/one")
    until("the question", lambda: toys.run(first)["state"]["type"] == "PAUSED")
    second = start(toys, "toy-asks/one")
    other = start(toys, "toy-answers/any")
    assert toys.ended(other)["type"] == "COMPLETED"
    assert toys.run(second)["state"]["type"] == "SCHEDULED"  # its deployment's one place is taken

    toys.api("POST", f"/flow_runs/{first}/resume", {})
    assert toys.ended(first)["type"] == "COMPLETED"
    until("the second question", lambda: toys.run(second)["state"]["type"] == "PAUSED")
    # it is waiting when its house ends: the fixture sees the serving process end in order
