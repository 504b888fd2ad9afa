"""A person's sign-off: asked for in the UI, given or refused by name, and not waited for without end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from flow_lab import LENIENT, Lab, until, warm_start

from tasks.audit_log import verify

pytestmark = pytest.mark.prefect

SHORT_H = 0.004  # 14 seconds


@pytest.fixture(scope="module")
def empty_registry(lab: Lab) -> Iterator[Lab]:
    """Nothing in production while these tests run; then what was there."""
    pointer = lab.pointer()
    before = pointer.read_text() if pointer.exists() else None
    pointer.unlink(missing_ok=True)
    yield lab
    pointer.unlink(missing_ok=True)
    if before is not None:
        pointer.write_text(before)


@pytest.fixture(scope="module")
def asked(empty_registry: Lab) -> dict[str, str]:
    """Three runs of one plan that a gate passes and a person has to sign, by what happens to each."""
    hours = {"refused": 1.0, "approved": 1.0, "silent": SHORT_H}
    return {
        label: empty_registry.start(
            "act-of-god/warm-start",
            warm_start(label=label, gates=LENIENT, approval={"ask": True, "timeout_hours": hours[label]}),
        )
        for label in hours
    }


def paused(lab: Lab, run_id: str) -> dict[str, Any]:
    """Wait until a run asks, and can be answered; its state."""

    def waiting() -> dict[str, Any] | None:
        state: dict[str, Any] = lab.run(run_id)["state"]
        assert state["type"] not in ("COMPLETED", "FAILED", "CRASHED"), state
        return state if state["type"] == "PAUSED" else None

    state = until(f"the question of {run_id}", waiting)
    question(lab, state)  # an answer that comes before the form is refused
    return state


def question(lab: Lab, state: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """What the UI shows to a person who presses Resume: the text and the form."""
    run_id, keys = state["state_details"]["flow_run_id"], state["state_details"]["run_input_keyset"]
    path, asking = f"/flow_runs/{run_id}/input/filter", {"prefix": "paused", "limit": 9}

    def saved() -> dict[str, str] | None:  # the server says "paused" a moment before the form is there
        found = {row["key"]: row["value"] for row in lab.api("POST", path, asking)}
        return found if {keys["description"], keys["schema"]} <= found.keys() else None

    values = until("the form", saved, patience=20)
    return values[keys["description"]], json.loads(values[keys["schema"]])


def answer(lab: Lab, run_id: str, **fields: Any) -> str:
    """Submit the form; whether the server took it."""
    return str(lab.api("POST", f"/flow_runs/{run_id}/resume", {"run_input": fields})["status"])


def production(lab: Lab) -> dict[str, Any] | None:
    """The blessing that production points at."""
    root, pointer = lab.artifacts / "registry" / "denoise", lab.pointer()
    if not pointer.exists():
        return None
    blessing = json.loads(pointer.read_text())["blessing"]
    found: dict[str, Any] = json.loads((root / f"blessings/{blessing}.json").read_text())
    return found


def test_the_question_says_what_is_judged_and_refuses_an_anonymous_answer(lab: Lab, asked: dict[str, str]) -> None:
    state = paused(lab, asked["refused"])
    text, form = question(lab, state)
    assert "PASSED all 7 gates" in text
    assert str(lab.folder(asked["refused"]) / "report.html") in text
    assert form["properties"]["ship"]["default"] is False
    for nameless in ({"ship": True}, {"ship": True, "name": "  "}):
        assert answer(lab, asked["refused"], **nameless) == "REJECT"
    assert lab.run(asked["refused"])["state"]["type"] == "PAUSED"


def test_a_refused_model_does_not_ship(lab: Lab, asked: dict[str, str]) -> None:
    paused(lab, asked["refused"])
    assert answer(lab, asked["refused"], name="Ada Lovelace", ship=False, comment="dips too shallow") == "ACCEPT"
    state = lab.ended(asked["refused"])
    assert (state["type"], state["name"]) == ("FAILED", "NotApproved")
    assert "Ada Lovelace did not approve: dips too shallow" in state["message"]
    assert production(lab) is None
    assert "NOT SHIPPED: " in (lab.folder(asked["refused"]) / "report.html").read_text()
    assert "Traceback" not in lab.log(asked["refused"])


def test_nobody_answers_in_time(lab: Lab, asked: dict[str, str]) -> None:
    state = lab.ended(asked["silent"])
    assert (state["type"], state["name"]) == ("FAILED", "NotApproved")
    assert f"nobody signed off within {SHORT_H} h" in state["message"]
    assert production(lab) is None
    assert lab.events(asked["silent"], "closed")[-1]["data"]["state"] == "NotApproved"
    assert "Traceback" not in lab.log(asked["silent"])


def test_a_named_person_ships_and_stands_in_the_registry(lab: Lab, asked: dict[str, str]) -> None:
    paused(lab, asked["approved"])
    assert production(lab) is None
    assert answer(lab, asked["approved"], name="Ada Lovelace", ship=True) == "ACCEPT"
    state = lab.ended(asked["approved"])
    assert state["type"] == "COMPLETED", state
    shipped = production(lab)
    assert shipped is not None
    assert (shipped["approved_by"], shipped["run"]) == ("Ada Lovelace", asked["approved"])
    (signed,) = lab.events(asked["approved"], "signed")
    assert (signed["data"]["name"], signed["data"]["ship"]) == ("Ada Lovelace", True)
    assert verify(lab.folder(asked["approved"]) / "audit.jsonl") == []

    report = (lab.folder(asked["approved"]) / "report.html").read_text()
    artifacts = lab.artifacts_of(asked["approved"])
    for text in (report, artifacts["act-of-god-report"]["data"]):
        assert f"is in production as {shipped['id']}, replacing nothing" in text
    rows = {row["run"]: row for row in json.loads(artifacts["runs"]["data"])}
    assert rows[lab.folder(asked["approved"]).name]["state"] == "shipped"
    assert rows[lab.folder(asked["refused"]).name]["state"] == "NotApproved"


def test_a_retry_by_hand_asks_again(lab: Lab, asked: dict[str, str]) -> None:
    run_id = asked["silent"]
    lab.ended(run_id)
    retry = {"state": {"type": "SCHEDULED", "name": "AwaitingRetry", "message": "by a person"}, "force": True}
    lab.api("POST", f"/flow_runs/{run_id}/set_state", retry)
    paused(lab, run_id)
    assert answer(lab, run_id, name="Grace Hopper", ship=False) == "ACCEPT"
    assert "Grace Hopper did not approve: no reason given" in lab.ended(run_id)["message"]
    compared = lab.artifacts_of(run_id)["act-of-god-comparison"]["data"]
    assert lab.folder(asked["approved"]).name in compared  # whose model is in production
