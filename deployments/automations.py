"""Automations: a webhook when a gate refuses or a job is lost, and Act B's backstop.

`python -m deployments.automations --webhook URL` creates or replaces them on the server of PREFECT_API_URL.
`--dry-run` prints them. The webhook gets the run's name, state and address as JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from typing import Any

from prefect import get_client
from prefect.automations import Automation, EventTrigger
from prefect.blocks.webhook import Webhook
from prefect.events.actions import CallWebhook, RunDeployment
from prefect.events.schemas.automations import Posture
from prefect.exceptions import ObjectNotFound
from pydantic import SecretStr

WEBHOOK_BLOCK = "gated-notifications"
PAYLOAD = json.dumps(
    {
        "run": "{{ event.resource['prefect.resource.name'] }}",
        "id": "{{ event.resource['prefect.resource.id'] }}",
        "state": "{{ event.resource['prefect.state-name'] }}",
        "message": "{{ event.resource['prefect.state-message'] }}",
    }
)


def triggers() -> dict[str, EventTrigger]:
    """What is listened for: the named states that a run of ours ends in."""
    return {
        name: EventTrigger(
            expect={f"prefect.flow-run.{state}"},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            posture=Posture.Reactive,
            threshold=1,
        )
        for name, state in (("gate failed", "GateFailed"), ("job lost", "JobLost"), ("fold failed", "FoldFailed"))
    }


def automations(webhook_block: Any, act_b_deployment: Any) -> list[Automation]:
    """A notification for each trigger, and Act B as a backstop on `GateFailed` of Act of God.

    Act of God starts Act B itself before it ends; the backstop covers a server that was away at that moment. Act B
    refuses a second run for the same source, so both may fire.
    """
    made = [
        Automation(
            name=f"gated: {name}",
            trigger=trigger,
            actions=[CallWebhook(block_document_id=webhook_block, payload=PAYLOAD)],
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
    source = "{{ event.resource['prefect.resource.id'] | replace('prefect.flow-run.', '') }}"
    made.append(
        Automation(
            name="gated: act b backstop",
            trigger=backstop,
            actions=[
                RunDeployment(
                    deployment_id=act_b_deployment,
                    parameters={
                        "plan": {"source_run": {"__prefect_kind": "jinja", "template": source}},
                    },
                )
            ],
        )
    )
    return made


def install(webhook: str) -> list[str]:
    """Create or replace every automation; their names."""
    block = Webhook(method="POST", url=SecretStr(webhook))
    block_id = block.save(WEBHOOK_BLOCK, overwrite=True)
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name("act-b/fallback")
    names = []
    for automation in automations(block_id, deployment.id):
        with contextlib.suppress(ObjectNotFound, ValueError):
            old = Automation.read(name=automation.name)
            assert isinstance(old, Automation)  # a coroutine only where the caller is async
            old.delete()
        automation.create()
        names.append(automation.name)
    return names


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deployments.automations", description=__doc__)
    parser.add_argument("--webhook", required=True, help="URL that gets a POST for each event")
    options = parser.parse_args()
    for name in install(options.webhook):
        print(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
