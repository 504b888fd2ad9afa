"""`gated webhook`: a wrong call is one line with the next step; the template is JSON."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import UUID

import pytest
from jinja2 import Environment
from prefect.events.actions import RunDeployment
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from deployments import automations
from deployments.automations import FIELDS, payload

NOWHERE = "http://127.0.0.1:1/api"
HOOK = "https://example.org/hook"


@pytest.mark.parametrize(
    ("api", "call", "named"),
    [
        (NOWHERE, [], ("URL", "--help")),
        (NOWHERE, ["example.org"], ("example.org", "https://")),
        ("", [HOOK], ("no house is up", "make up")),
        (NOWHERE, [HOOK], (NOWHERE, "make up")),
        (NOWHERE, ["--webhook", HOOK], (NOWHERE, "make up")),  # as it was typed once
    ],
)
def test_a_wrong_call_is_one_line(
    api: str,
    call: list[str],
    named: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    with temporary_settings({PREFECT_API_URL: api or None, PREFECT_CLIENT_MAX_RETRIES: 0}):
        assert automations.main(call) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("error: ")
    assert told.err.count("\n") == 1, told.err
    for text in named:
        assert text in told.err


def test_each_fallback_has_its_backstop() -> None:
    followed = UUID(int=7)
    made = automations.automations(UUID(int=1), {"toy-judge": followed}, "http://127.0.0.1:4200")
    (backstop,) = [one for one in made if one.name == "gated: backstop of toy-judge"]
    assert [action.deployment_id for action in backstop.actions if isinstance(action, RunDeployment)] == [followed]
    assert "toy-judge" in backstop.trigger.model_dump_json()
    assert len(made) == len(automations.STATES) + 1


@pytest.mark.parametrize("message", ['says "no"', "two\nlines", "plain", None])
def test_whatever_a_run_says_the_message_is_json(message: str | None) -> None:
    resource = {
        "prefect.resource.id": "prefect.flow-run.1234",
        "prefect.resource.name": "warm-start",
        "prefect.state-name": "GateFailed",
        **({"prefect.state-message": message} if message else {}),
    }
    text = Environment().from_string(payload("http://127.0.0.1:4200/")).render(event={"resource": resource})
    told = json.loads(text)
    assert told.keys() == FIELDS.keys()
    assert (told["id"], told["message"]) == ("1234", message or "")
    assert told["url"] == "http://127.0.0.1:4200/runs/flow-run/1234"
    assert told["text"].startswith("warm-start: GateFailed. ")
