"""Starting another deployment from inside a run, once, however often and wherever this one dies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound

from tasks.audit import Run

ACT_B = "act-b/fallback"


def act_b(run: Run, plan: Mapping[str, Any], *, checkpoint: str, failed: Sequence[str]) -> str | None:
    """Create Act B's flow run, its source as its parent. The idempotency key makes a second call find the first.

    Returns the flow run's id, or None when no server serves the deployment (then the audit log says so).
    """
    kept = ("label", "corpus", "where", "training", "panel", "gates", "top_k", "approval")
    parameters = {
        "plan": {
            **{key: plan[key] for key in kept},
            "source_run": run.id,
            "checkpoint": checkpoint,
            "failed_gates": list(failed),
        }
    }
    try:
        started = run_deployment(
            ACT_B, parameters=parameters, timeout=0, idempotency_key=f"act-b-{run.id}", tags=[f"source:{run.id}"]
        )
    except ObjectNotFound:
        run.event("act-b", f"Act B not started: no deployment {ACT_B}; start it with `make up`", parameters=parameters)
        return None
    assert isinstance(started, FlowRun)  # a coroutine only where the caller is async
    run.event("act-b", f"Act B started: {started.name}", flow_run=str(started.id))
    return str(started.id)
