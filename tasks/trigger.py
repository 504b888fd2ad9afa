"""Starting another deployment from inside a run, once, however often and wherever this one dies."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from prefect import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound

from tasks import artifacts
from tasks.provenance import artifacts_root
from tasks.run import Run, dated_name
from tasks.slurm import faults


class NoSource(ValueError):
    """A fallback was given neither a checkpoint nor a source run that left a verdict here."""

    remedy = "name a checkpoint, or the id of a run whose gates failed"


def start(run: Run, deployment: str, parameters: Mapping[str, Any], *, what: str, label: str) -> str | None:
    """Create a follow-up's flow run, this run as its parent. The idempotency key makes a second call find the first.

    `what` names the follow-up in the audit log, in its key and for people. Returns the flow run's id, or None when no
    server serves the deployment (then the audit log says so).
    """
    key = what.lower().replace(" ", "-")
    name = dated_name(deployment.partition("/")[2], label)  # as it will call itself once it runs
    try:
        started = run_deployment(
            deployment, parameters=dict(parameters), timeout=0, idempotency_key=f"{key}-{run.id}",
            tags=[f"source:{run.id}"], flow_run_name=name,
        )  # fmt: skip
    except ObjectNotFound:
        told = f"{what} not started: no deployment {deployment}; start it with `make up`"
        run.event(key, told, parameters=dict(parameters))
        return None
    assert isinstance(started, FlowRun)  # a coroutine only where the caller is async
    faults.reach("after_trigger")
    run.event(key, f"{what} started: {started.name}", flow_run=str(started.id))
    _name_the_step(started, deployment)
    artifacts.publish_run_link(run, key, str(started.id), f"{what}'s run", f"The fallback of this run, {started.name}")
    return str(started.id)


def _name_the_step(started: FlowRun, deployment: str) -> None:
    """The step that stands for the other run in this run's graph would carry a random name."""
    if started.parent_task_run_id is None:
        return
    with suppress(Exception), get_client(sync_client=True) as client:  # a label in the UI, nothing more
        client.set_task_run_name(started.parent_task_run_id, deployment)


def link_source(run: Run, source: str) -> None:
    """From a fallback's run to the run whose refusal started it."""
    if source:
        artifacts.publish_run_link(run, "source", source, "The refused run", "The run whose gates failed")


def folder_of(flow_run_id: str) -> Path:
    """The folder of a run by its flow run's id. Raises NoSource where there is none with a verdict."""
    found = sorted(artifacts_root().glob(f"*/*-{flow_run_id[:8]}/verdict.json")) if flow_run_id else []
    if not found:
        said = f"no verdict of flow run {flow_run_id}" if flow_run_id else "no source run"
        raise NoSource(f"{artifacts_root()}: {said}; {NoSource.remedy}")
    return found[0].parent
