"""Automations: a webhook when a gate refuses, a job is lost or a person is waited for, and backstops of fallbacks.

`gated webhook URL` creates or replaces them on the house that is up, or on the server of PREFECT_API_URL.
The webhook gets a POST with the run's name, id, state, message and page as JSON, and the whole in one line as `text`.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any
from uuid import UUID

import httpx
import typer
from prefect import get_client
from prefect.automations import Automation, EventTrigger
from prefect.blocks.webhook import Webhook
from prefect.events.actions import CallWebhook, RunDeployment
from prefect.events.schemas.automations import Posture
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, PREFECT_UI_URL, temporary_settings
from prefect.types import SecretDict
from pydantic import SecretStr

from deployments import server
from deployments.tenancy import TAG, served
from tasks.terminal import Json, call, single

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


def automations(webhook_block: Any, backstops: Mapping[str, UUID], ui: str) -> list[Automation]:
    """A notification for each trigger, and a backstop for each fallback: by the flow that it follows, its deployment.

    A refused run starts its fallback itself before it ends; the backstop covers a server that was away at that moment.
    A fallback refuses a second run for the same source, so both may fire.
    """
    made = [
        Automation(
            name=f"gated: {name}",
            trigger=trigger,
            actions=[CallWebhook(block_document_id=webhook_block, payload=payload(ui))],
        )
        for name, trigger in triggers().items()
    ]
    return made + [_backstop(flow, deployment) for flow, deployment in backstops.items()]


def _backstop(flow: str, deployment: UUID) -> Automation:
    refused = EventTrigger(
        expect={"prefect.flow-run.GateFailed"},
        match={"prefect.resource.id": "prefect.flow-run.*"},
        match_related={"prefect.resource.role": "flow", "prefect.resource.name": flow},
        posture=Posture.Reactive,
        threshold=1,
    )
    source = {"source_run": {"__prefect_kind": "jinja", "template": f"{{{{ {SOURCE} }}}}"}}
    start = RunDeployment(deployment_id=deployment, parameters={"plan": source})
    return Automation(name=f"gated: backstop of {flow}", trigger=refused, actions=[start])


def _backstops() -> dict[str, UUID]:
    """The deployment that follows a refused run, by the flow of that run, as the tenants declare them."""
    wanted = [(one, f"{_flow_name(one.flow)}/{one.name}") for _, one in served() if one.backstop_of]
    with get_client(sync_client=True) as client:
        return {one.backstop_of: client.read_deployment_by_name(name).id for one, name in wanted}


def _flow_name(flow: str) -> str:
    module, _, function = flow.partition(":")
    return str(getattr(importlib.import_module(module), function).name)


def install(webhook: str) -> list[str]:
    """Create or replace every automation; their names."""
    block = Webhook(method="POST", url=SecretStr(webhook), headers=SecretDict({"Content-Type": "application/json"}))
    backstops = _backstops()
    block_id = block.save(WEBHOOK_BLOCK, overwrite=True)
    names = []
    for automation in automations(block_id, backstops, PREFECT_UI_URL.value() or ""):
        with contextlib.suppress(ObjectNotFound, ValueError):
            old = Automation.read(name=automation.name)
            assert isinstance(old, Automation)  # a coroutine only where the caller is async
            old.delete()
        automation.create()
        names.append(automation.name)
    return names


def webhook(
    url: Annotated[str, typer.Argument(metavar="URL", help="Address that gets the POSTs.")],
    as_json: Json = False,
) -> None:
    """Send a POST for each refused run, lost job, failed fold and wanted sign-off; a second call replaces the address.

    Backstops are installed as well: a fallback is started by the server if the refused run could not.
    """
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{url}: no address of a webhook; https://…")
    address = _address()
    settings = {PREFECT_API_URL: address.api, PREFECT_API_AUTH_STRING: address.key or None}
    try:
        with temporary_settings(settings):
            names = install(url)
    except ObjectNotFound as error:
        raise ValueError(f"{address.api}: not all deployments are there; start the house: make up") from error
    except httpx.HTTPStatusError as error:
        if error.response.status_code != 401:
            raise ValueError(f"{address.api}: {error.response.text}") from error
        raise ValueError(f"{address.api}: the server asks for its key; type: source .prefect/env.sh") from error
    except (httpx.HTTPError, RuntimeError) as error:  # Prefect wraps a refused connection
        raise ValueError(f"{address.api}: no Prefect server answers ({error}); start the house: make up") from error
    print(json.dumps(names) if as_json else "\n".join(names))


def _address() -> server.Address:
    """The server that is named by variables, else the house that is up."""
    if named := PREFECT_API_URL.value():
        key = PREFECT_API_AUTH_STRING.value()
        return server.Address(str(named), getattr(key, "get_secret_value", lambda: key or "")())
    if (found := server.standing(server.home())) is None:
        raise ValueError("no house is up and no server is named; start one: make up")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m deployments.automations --webhook URL`: as `gated webhook URL`; 2 where there is no server of ours."""
    given = [word for word in (sys.argv[1:] if arguments is None else arguments) if word != "--webhook"]
    return call(single(webhook), "python -m deployments.automations", given)


if __name__ == "__main__":
    sys.exit(main())
