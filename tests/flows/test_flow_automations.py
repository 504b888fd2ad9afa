"""Webhooks and the backstop: what a refusal and a lost job send, and who runs Act B when two start it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from flow_lab import ROOT, Lab, tiny, until, warm_start

from deployments.automations import FIELDS, STATES

pytestmark = pytest.mark.prefect

QUOTED = 'says "no", twice'  # in a run's name: breaks JSON that is pasted together


@dataclass
class Receiver:
    """An address that takes POSTs, and what came."""

    url: str
    posts: list[tuple[str, bytes]] = field(default_factory=list)

    def of(self, run_id: str) -> dict[str, Any]:
        """The message about a flow run, once it is here."""

        def came() -> dict[str, Any] | None:
            found = [body for body in map(json.loads, (body for _, body in self.posts)) if body["id"] == run_id]
            assert len(found) <= 1, f"told {len(found)} times of {run_id}"
            return found[0] if found else None

        return until(f"a POST about {run_id}", came, patience=60)


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    received = Receiver("")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.posts.append((self.headers["Content-Type"], body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    received.url = f"http://127.0.0.1:{server.server_port}/hook"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield received
    server.shutdown()
    thread.join()
    server.server_close()


def install(lab: Lab, url: str) -> list[str]:
    command = [sys.executable, "-m", "deployments.automations", "--webhook", url]
    done = subprocess.run(command, cwd=ROOT, env=lab.env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def ours(lab: Lab) -> list[dict[str, Any]]:
    found = lab.api("POST", "/automations/filter", {})
    return [row for row in found if row["name"].startswith("gated: ")]


@pytest.fixture(scope="module")
def listening(lab: Lab, receiver: Receiver) -> Iterator[Lab]:
    """The automations on the house's server; gone again for the tests that come after."""
    install(lab, "http://127.0.0.1:1/an-earlier-address")
    names = install(lab, receiver.url)
    assert {f"gated: {name}" for name in STATES} < set(names)
    assert sorted(row["name"] for row in ours(lab)) == sorted(names)  # replaced, not doubled
    yield lab
    for row in ours(lab):
        lab.api("DELETE", f"/automations/{row['id']}")


@pytest.fixture(scope="module")
def refused(listening: Lab) -> str:
    plan = warm_start(label=QUOTED, gates={"psnr_mean_min": 999})
    run_id = listening.start("act-of-god/warm-start", plan)
    assert listening.ended(run_id)["name"] == "GateFailed"
    return run_id


def test_a_refusal_posts_what_a_person_needs_to_know(listening: Lab, refused: str, receiver: Receiver) -> None:
    told = receiver.of(refused)
    run = listening.run(refused)
    assert {kind for kind, _ in receiver.posts} == {"application/json"}
    assert told.keys() == FIELDS.keys()
    assert (told["run"], told["state"], told["message"]) == (run["name"], "GateFailed", run["state"]["message"])
    assert QUOTED in told["run"]
    assert "psnr_mean" in told["text"]
    assert "999" in told["text"]
    assert told["url"] == f"{listening.ui}/runs/flow-run/{refused}"


def test_act_b_runs_once_though_the_flow_and_the_backstop_both_start_it(listening: Lab, refused: str) -> None:
    """Either may come first; the other ends as `Duplicate` and does nothing."""

    def both() -> list[str] | None:
        runs = listening.api("POST", "/flow_runs/filter", {"flows": {"name": {"any_": ["act-b"]}}})
        of_it = [run["id"] for run in runs if run["parameters"]["plan"]["source_run"] == refused]
        return of_it if len(of_it) == 2 else None

    states = {run_id: listening.ended(run_id)["name"] for run_id in until("two runs of Act B", both)}
    assert sorted(states.values()) == ["Duplicate", "GateFailed"]
    (second,) = [run_id for run_id, name in states.items() if name == "Duplicate"]
    assert not [entry for entry, _ in listening.jobs() if entry.owner == second]
    assert listening.events(second, "receipt") == []


def test_a_lost_job_posts_its_cause(listening: Lab, receiver: Receiver) -> None:
    nowhere = {"device": "cuda:15"}  # the last that the form offers: no node of a test has that many
    plan = warm_start(label="lost", training=tiny(lr=2e-5), where=nowhere)
    run_id = listening.start("act-of-god/warm-start", plan)
    assert listening.ended(run_id)["name"] == "JobLost"
    told = receiver.of(run_id)
    assert told["state"] == "JobLost"
    assert "train-god_run" in told["message"]
    assert "Traceback" not in told["message"]
    assert "\n" not in told["message"]
