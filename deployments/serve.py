"""Serves every tenant's deployments: their forms open with the defaults of their flow's plan.

Each deployment has a limit of its own, kept by a runner of its own in this one process. Prefect's limit of a deployment
will not do: a pause gives the slot back and ends the lease that the paused run goes on renewing, and the run is ended
for it; so is one whose server was away for a renewal.
"""

from __future__ import annotations

import asyncio
import importlib
import re
import signal
import typing
from collections.abc import Iterable
from typing import Any

from prefect import Flow
from prefect.deployments.runner import RunnerDeployment
from prefect.runner import Runner
from pydantic import BaseModel

from deployments.tenancy import TAG, Served, Tenant, served
from tasks import orphans


def deployments() -> list[tuple[Served, RunnerDeployment]]:
    """Every deployment in the order a person meets them. Each flow's docstring is its description."""
    return [(one, _deployment(tenant, one)) for tenant, one in served()]


def _deployment(tenant: Tenant, one: Served) -> RunnerDeployment:
    module, _, name = one.flow.partition(":")
    flow = getattr(importlib.import_module(module), name)
    parameters = {**_plan(flow), **one.parameters}
    made = flow.to_deployment(
        one.name, tags=[TAG, tenant.name], parameters=parameters, description=flowing(flow.description or "")
    )
    assert isinstance(made, RunnerDeployment)  # a coroutine only where the caller is async
    return made


def flowing(text: str) -> str:
    """A docstring with each paragraph on one line: the web page breaks a paragraph at every end of a line."""
    return re.sub(r"(?<!\n)\n(?![\n\-*|#\s])", " ", text)


def _plan(flow: Flow[..., Any]) -> dict[str, Any]:
    """The defaults of the flow's plan, in full: a form shows what a run would take."""
    kind = typing.get_type_hints(flow.fn).get("plan")
    return {"plan": kind().model_dump(mode="json")} if isinstance(kind, type) and issubclass(kind, BaseModel) else {}


async def serve(made: Iterable[tuple[Served, RunnerDeployment]]) -> None:
    """Register the deployments and run what is asked of them until SIGTERM; then withdraw the runs and return."""
    shared = Runner(pause_on_shutdown=False, limit=None)
    runners = {id(shared): shared}
    for one, deployment in made:
        runner = shared if one.limit is None else Runner(pause_on_shutdown=False, limit=one.limit)
        runners[id(runner)] = runner
        await runner.aadd_deployment(deployment)
    started = [asyncio.create_task(runner.start()) for runner in runners.values()]
    while not all(runner.started for runner in runners.values()) and not any(task.done() for task in started):
        await asyncio.sleep(0.05)

    async def stop() -> None:
        await asyncio.gather(*(runner.astop() for runner in runners.values() if runner.started))

    # Each runner took the signal for itself alone when it started.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: asyncio.ensure_future(stop()))
    await asyncio.gather(*started)


def main() -> None:
    orphans.sweep()
    asyncio.run(serve(deployments()))


if __name__ == "__main__":
    main()
