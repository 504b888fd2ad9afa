"""Automations: a webhook when a gate refuses, a job is lost or a person is waited for, and Act B's backstop.

`python -m deployments.automations --webhook URL` creates or replaces them on the server of PREFECT_API_URL.
The webhook gets a POST with the run's name, id, state, message and page as JSON, and the whole in one line as `text`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence
from typing import Any

import httpx
from prefect import get_client
from prefect.automations import Automation, EventTrigger
from prefect.blocks.webhook import Webhook
from prefect.events.actions import CallWebhook, RunDeployment
from prefect.events.schemas.automations import Posture
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, PREFECT_UI_URL
from prefect.types import SecretDict
from pydantic import SecretStr

from tasks.denoise.fallback import DEPLOYMENT as ACT_B
from tasks.terminal import Parser, run

TAG = "gated"  # of every deployment of ours: a server may run other people's flows
STATES = {
    "gate failed": "GateFailed",
    "job lost": "JobLost",
    "fold failed": "FoldFailed",
    "sign-off wanted": "Paused",
}
WEBHOOK_BLOCK = "gated-notifications"
_RUN = "event.resource['prefect.resource.name']"
_STATE = "event.resource['prefect.state-name']"
_MESSAGE = "event.resource['prefect.state-message'] | default('')"
SOURCE = "event.resource['prefect.resource.id'] | replace('prefect.flow-run.', '')"
FIELDS = {
    "text": f"{_RUN} ~ ': ' ~ {_STATE} ~ '. ' ~ ({_MESSAGE})",
    "run": _RUN,
    "id": SOURCE,
    "state": _STATE,
    "message": _MESSAGE,
    "url": f"PAGES ~ {SOURCE}",
}


def payload(ui: str) -> str:
    """The message's template. `ui` is the web page's address: the server's own `ui_url` filter gives nothing.

    `tojson` quotes: a message with a quotation mark or a line end would otherwise be no JSON.
    """
    pages = json.dumps(f"{ui.rstrip('/')}/runs/flow-run/")
    values = {name: value.replace("PAGES", pages) for name, value in FIELDS.items()}
    return "{" + ", ".join(f'"{name}": {{{{ ({value}) | tojson }}}}' for name, value in values.items()) + "}"


def triggers() -> dict[str, EventTrigger]:
    """What is listened for: the named states that a run of ours ends in, and a pause for a sign-off."""
    return {
        name: EventTrigger(
            expect={f"prefect.flow-run.{state}"},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related={"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{TAG}"},
            posture=Posture.Reactive,
            threshold=1,
        )
        for name, state in STATES.items()
    }


def automations(webhook_block: Any, act_b_deployment: Any, ui: str) -> list[Automation]:
    """A notification for each trigger, and Act B as a backstop on `GateFailed` of Act of God.

    Act of God starts Act B itself before it ends; the backstop covers a server that was away at that moment. Act B
    refuses a second run for the same source, so both may fire.
    """
    made = [
        Automation(
            name=f"gated: {name}",
            trigger=trigger,
            actions=[CallWebhook(block_document_id=webhook_block, payload=payload(ui))],
        )
        for name, trigger in triggers().items()
    ]
    backstop = EventTrigger(
        expect={"prefect.flow-run.GateFailed"},
        match={"prefect.resource.id": "prefect.flow-run.*"},
        match_related={"prefect.resource.role": "flow", "prefect.resource.name": "act-of-god"},
        posture=Posture.Reactive,
        threshold=1,
    )
    made.append(
        Automation(
            name="gated: act b backstop",
            trigger=backstop,
            actions=[
                RunDeployment(
                    deployment_id=act_b_deployment,
                    parameters={
                        "plan": {"source_run": {"__prefect_kind": "jinja", "template": f"{{{{ {SOURCE} }}}}"}},
                    },
                )
            ],
        )
    )
    return made


def install(webhook: str) -> list[str]:
    """Create or replace every automation; their names."""
    block = Webhook(method="POST", url=SecretStr(webhook), headers=SecretDict({"Content-Type": "application/json"}))
    block_id = block.save(WEBHOOK_BLOCK, overwrite=True)
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name(ACT_B)
    names = []
    for automation in automations(block_id, deployment.id, PREFECT_UI_URL.value() or ""):
        with contextlib.suppress(ObjectNotFound, ValueError):
            old = Automation.read(name=automation.name)
            assert isinstance(old, Automation)  # a coroutine only where the caller is async
            old.delete()
        automation.create()
        names.append(automation.name)
    return names


def _do(options: argparse.Namespace) -> None:
    api = PREFECT_API_URL.value()
    if not api:
        raise ValueError("no server is named; type the line that `make up` prints: export PREFECT_API_URL=…")
    if not options.webhook.startswith(("http://", "https://")):
        raise ValueError(f"{options.webhook}: no address of a webhook; --webhook https://…")
    try:
        names = install(options.webhook)
    except ObjectNotFound as error:
        raise ValueError(f"{api}: no deployment {ACT_B} there; start the house: make up") from error
    except (httpx.HTTPError, RuntimeError) as error:  # Prefect wraps a refused connection
        raise ValueError(f"{api}: no Prefect server answers ({error}); start the house: make up") from error
    print(json.dumps(names) if options.json else "\n".join(names))


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; 2 where there is no server, or none of ours."""
    parser = Parser(prog="python -m deployments.automations", description=__doc__)
    parser.add_argument("--webhook", required=True, help="URL that gets a POST for each event")
    parser.add_argument("--json", action="store_true", help="names of the automations as JSON")
    return run(parser, _do, arguments)


if __name__ == "__main__":
    sys.exit(main())
