"""Starting another deployment from inside a run, once, however often and wherever this one dies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from pydantic import BaseModel

from tasks.audit import Run, artifacts_root
from tasks.files import read_json
from tasks.slurm import faults
from tasks.verdict import read_verdict

ACT_B = "act-b/fallback"
Plan = TypeVar("Plan", bound=BaseModel)
HANDED_ON = ("label", "corpus", "where", "training", "panel", "gates", "top_k", "approval")


def act_b(run: Run, plan: Mapping[str, Any], *, checkpoint: str, failed: Sequence[str]) -> str | None:
    """Create Act B's flow run, its source as its parent. The idempotency key makes a second call find the first.

    Returns the flow run's id, or None when no server serves the deployment (then the audit log says so).
    """
    parameters = {"plan": _handed_on(plan, run.id, checkpoint, failed)}
    try:
        started = run_deployment(
            ACT_B, parameters=parameters, timeout=0, idempotency_key=f"act-b-{run.id}", tags=[f"source:{run.id}"]
        )
    except ObjectNotFound:
        run.event("act-b", f"Act B not started: no deployment {ACT_B}; start it with `make up`", parameters=parameters)
        return None
    assert isinstance(started, FlowRun)  # a coroutine only where the caller is async
    faults.reach("after_trigger")
    run.event("act-b", f"Act B started: {started.name}", flow_run=str(started.id))
    return str(started.id)


def _handed_on(plan: Mapping[str, Any], source: str, checkpoint: str, failed: Sequence[str]) -> dict[str, Any]:
    kept = {key: plan[key] for key in HANDED_ON}
    return {**kept, "source_run": source, "checkpoint": checkpoint, "failed_gates": list(failed)}


def completed(plan: Plan) -> Plan:
    """A fallback's plan that names only its source run (the backstop automation knows no more), filled in from that
    run's folder. A plan with a checkpoint is taken as it is.

    Raises FileNotFoundError when the source left no verdict here.
    """
    content = plan.model_dump(mode="json")
    source = str(content.get("source_run") or "")
    if content.get("checkpoint") or not source:
        return plan
    folder = folder_of(source)
    verdict = read_verdict(folder / "verdict.json")
    given = read_json(folder / "plan.json")
    return type(plan).model_validate(_handed_on(given, source, verdict.candidate, verdict.failed_gates))


def folder_of(flow_run_id: str) -> Path:
    """The folder of a run by its flow run's id."""
    found = sorted(artifacts_root().glob(f"*/*-{flow_run_id[:8]}/verdict.json"))
    if not found:
        raise FileNotFoundError(f"no verdict of flow run {flow_run_id} below {artifacts_root()}; name a checkpoint")
    return found[0].parent
