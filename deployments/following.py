"""A main job's runs, one after the other: created, followed into their fallbacks, told at the end."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.utilities.schema_tools.validation import ValidationError, validate

from deployments import server
from deployments.asking import Job
from deployments.server import Address
from deployments.telling import VERDICT, Terminal, show_verdict, tell
from deployments.tenancy import Step
from deployments.watching import Ended, Watcher
from tasks.terminal import BAD_INPUT, LOST, REFUSED, near

PLAN = 160  # characters of a plan on the terminal; the whole stands in the run's folder
REFUSALS = ("GateFailed", "PromotionRefused", "NotApproved", "Duplicate")


def main_job(job: Job, address: Address, terminal: Terminal, between: Callable[[], object], seen: list[Watcher]) -> int:
    """Every step, each followed into its fallback; the first that does not end well is the last."""
    folder_of = partial(_folder, job.asked.artifacts)
    ended, code = None, 0
    with SyncPrefectClient(address.api, auth_string=address.key) as client:
        watcher = Watcher(
            client, lambda line: terminal.say(f"  {line}"), terminal.status, folder_of, job.tenant.words, between,
            aside=terminal.aside.quiet,
        )  # fmt: skip
        seen.append(watcher)
        for step in job.steps():  # none is started before the forms take them all
            _whole(client, step)
        for step in job.steps():
            run_id = _start(client, step, terminal)
            ended = _followed(watcher, run_id, terminal, partial(_why_refused, job, terminal, folder_of))
            code = _code(ended)
            if code:
                break
    if ended is None:
        return 0
    folder = folder_of(ended.id)
    tell(terminal, job.tenant, folder, ended)
    told = " ".join(f"{ended.state}: {ended.message}".split())
    if code and (folder is None or not (folder / VERDICT).exists()):
        print(f"error: {told}; the run's log: {near(server.home() / 'serve.log')}", file=sys.stderr)
    else:
        terminal.say(told)
    if code == REFUSED:
        terminal.say("nothing was shipped, production is untouched; next: the report says what failed, and by how much")
    terminal.say(f"In the web page of `gated up`: /runs/flow-run/{ended.id}")
    return code


def _start(client: Any, step: Step, terminal: Terminal) -> str:
    """Create the flow run; ValueError for a plan that the deployment's form does not take."""
    plan = json.dumps(dict(step.plan), ensure_ascii=False)
    terminal.say(f"{step.deployment} {plan if len(plan) <= PLAN else plan[:PLAN] + ' …'}")
    deployment, whole = _whole(client, step)
    try:
        made = client.create_flow_run_from_deployment(deployment, parameters={"plan": whole})
    except PrefectHTTPStatusError as error:
        if error.response.status_code not in (409, 422):
            raise
        detail = error.response.json().get("detail", error.response.text)
        raise ValueError(f"{step.deployment}: {detail}; the fields are in the deployment's form") from error
    return str(made.id)


def _whole(client: Any, step: Step) -> tuple[UUID, dict[str, Any]]:
    """The deployment's id, and its plan with the step's put over it; ValueError where its form does not take that."""
    try:
        deployment = client.read_deployment_by_name(step.deployment)
    except ObjectNotFound as error:
        raise ValueError(f"{step.deployment}: no such deployment; the web page lists them all") from error
    whole = _over(deployment.parameters.get("plan") or {}, step.plan)
    try:
        validate({"plan": whole}, deployment.parameter_openapi_schema, raise_on_error=True, ignore_required=True)
    except ValidationError as error:
        raise ValueError(f"{step.deployment}: {error}; the fields are in the deployment's form") from error
    return deployment.id, whole


def _over(defaults: Mapping[str, Any], plan: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults with what was given put over them, section by section."""
    merged = dict(defaults)
    for key, value in plan.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _over(merged[key], value) if both else value
    return merged


def _why_refused(job: Job, terminal: Terminal, folder_of: Callable[[str], Path | None], run_id: str) -> None:
    """The gates that refused a run which goes on in another: only that one's table stands at the end."""
    folder = folder_of(run_id)
    if folder is not None and (folder / VERDICT).exists():
        show_verdict(terminal.console, folder, job.tenant.row, failed_only=True)


def _followed(watcher: Watcher, run_id: str, terminal: Terminal, why: Callable[[str], None]) -> Ended:
    """Follow a run, and after a refusal the fallback that it started; `why` shows what refused it."""
    ended = watcher.follow(run_id)
    while _code(ended) == REFUSED and (fallback := watcher.follow_up(ended.id)) is not None:
        terminal.say(f"  refused: {' '.join(ended.message.split())}")
        why(ended.id)
        terminal.say(f"  it goes on as {fallback.name}: /runs/flow-run/{fallback.id}")
        ended = watcher.follow(str(fallback.id))
    return ended


def _code(ended: Ended) -> int:
    if ended.kind == "COMPLETED":
        return 0
    if ended.state == "BadInput":
        return BAD_INPUT
    return REFUSED if ended.state in REFUSALS else LOST


def _folder(artifacts: Path, run_id: str) -> Path | None:
    """A run's folder below the artifacts, once it is there."""
    places = (f"*/*-{run_id[:8]}", f"*/*/*-{run_id[:8]}")
    return next((folder for place in places for folder in sorted(artifacts.glob(place))), None)
