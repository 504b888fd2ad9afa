"""Starting another deployment from inside a run, once, however often and wherever this one dies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from prefect import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from pydantic import BaseModel

from study_core.files import read_json
from study_core.verdict import read_verdict
from tasks import audit
from tasks.audit import Run, artifacts_root
from tasks.slurm import faults

ACT_B = "act-b/fallback"


class NoSource(ValueError):
    """A fallback was given neither a checkpoint nor a source run that left a verdict here."""

    remedy = "name a checkpoint, or the id of a run whose gates failed"


Plan = TypeVar("Plan", bound=BaseModel)
HANDED_ON = ("label", "corpus", "where", "training", "panel", "gates", "top_k", "approval")


def act_b(run: Run, plan: Mapping[str, Any], *, checkpoint: str, failed: Sequence[str]) -> str | None:
    """Create Act B's flow run, its source as its parent. The idempotency key makes a second call find the first.

    Returns the flow run's id, or None when no server serves the deployment (then the audit log says so).
    """
    parameters = {"plan": _handed_on(plan, run.id, checkpoint, failed)}
    name = audit.dated_name(ACT_B.partition("/")[2], plan["label"])  # as it will call itself once it runs
    try:
        started = run_deployment(
            ACT_B, parameters=parameters, timeout=0, idempotency_key=f"act-b-{run.id}", tags=[f"source:{run.id}"],
            flow_run_name=name,
        )  # fmt: skip
    except ObjectNotFound:
        run.event("act-b", f"Act B not started: no deployment {ACT_B}; start it with `make up`", parameters=parameters)
        return None
    assert isinstance(started, FlowRun)  # a coroutine only where the caller is async
    faults.reach("after_trigger")
    run.event("act-b", f"Act B started: {started.name}", flow_run=str(started.id))
    _name_the_step(started)
    audit.publish_run_link(run, "act-b", str(started.id), "Act B's run", f"The fallback of this run, {started.name}")
    return str(started.id)


def _name_the_step(started: FlowRun) -> None:
    """The step that stands for the other run in this run's graph would carry a random name."""
    if started.parent_task_run_id is None:
        return
    with suppress(Exception), get_client(sync_client=True) as client:  # a label in the UI, nothing more
        client.set_task_run_name(started.parent_task_run_id, ACT_B)


def link_source(run: Run, source: str) -> None:
    """From a fallback's run to the run whose refusal started it."""
    if source:
        audit.publish_run_link(run, "source", source, "The refused run", "The run whose gates failed")


def _handed_on(plan: Mapping[str, Any], source: str, checkpoint: str, failed: Sequence[str]) -> dict[str, Any]:
    kept = {key: plan[key] for key in HANDED_ON}
    return {**kept, "source_run": source, "checkpoint": checkpoint, "failed_gates": list(failed)}


def completed(plan: Plan) -> Plan:
    """A fallback's plan that names only its source run (the backstop automation knows no more), filled in from that
    run's folder. A plan with a checkpoint is taken as it is.

    Raises NoSource when the source left no verdict here, or none is named.
    """
    content = plan.model_dump(mode="json")
    source = str(content.get("source_run") or "")
    if content.get("checkpoint"):
        return plan
    folder = folder_of(source)
    verdict = read_verdict(folder / "verdict.json")
    given = read_json(folder / "plan.json")
    return type(plan).model_validate(_handed_on(given, source, verdict.candidate, verdict.failed_gates))


def folder_of(flow_run_id: str) -> Path:
    """The folder of a run by its flow run's id. Raises NoSource where there is none with a verdict."""
    found = sorted(artifacts_root().glob(f"*/*-{flow_run_id[:8]}/verdict.json")) if flow_run_id else []
    if not found:
        said = f"no verdict of flow run {flow_run_id}" if flow_run_id else "no source run"
        raise NoSource(f"{artifacts_root()}: {said}; {NoSource.remedy}")
    return found[0].parent
