"""`python -m deployments.automations`: a wrong call is one line with the next step; the template is JSON."""

from __future__ import annotations

import json

import pytest
from jinja2 import Environment
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from deployments import automations
from deployments.automations import FIELDS, payload

NOWHERE = "http://127.0.0.1:1/api"
HOOK = ["--webhook", "https://example.org/hook"]


@pytest.mark.parametrize(
    ("api", "call", "named"),
    [
        (NOWHERE, [], ("--webhook", "--help")),
        (NOWHERE, ["--webhook", "example.org"], ("example.org", "https://")),
        ("", HOOK, ("PREFECT_API_URL", "make up")),
        (NOWHERE, HOOK, (NOWHERE, "make up")),
    ],
)
def test_a_wrong_call_is_one_line(
    api: str, call: list[str], named: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with temporary_settings({PREFECT_API_URL: api or None, PREFECT_CLIENT_MAX_RETRIES: 0}):
        assert automations.main(call) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("error: ")
    assert told.err.count("\n") == 1, told.err
    for text in named:
        assert text in told.err


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
