"""Act B: the plan that a refused run hands on to it, and the plan that it makes of what it was told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from study_core.files import read_json
from study_core.verdict import read_verdict
from tasks import trigger
from tasks.audit import Run
from tasks.denoise.parameters import ActBPlan, WarmStartPlan

DEPLOYMENT = "act-b/fallback"
HANDED_ON = ("label", "corpus", "where", "training", "panel", "gates", "top_k", "approval")


def start(run: Run, plan: WarmStartPlan, *, checkpoint: str, failed: Sequence[str]) -> str | None:
    """Start Act B for a refused run, once."""
    handed = _handed_on(plan.model_dump(mode="json"), run.id, checkpoint, failed)
    return trigger.start(run, DEPLOYMENT, {"plan": handed}, what="Act B", label=plan.label)


def _handed_on(plan: Mapping[str, Any], source: str, checkpoint: str, failed: Sequence[str]) -> dict[str, Any]:
    kept = {key: plan[key] for key in HANDED_ON}
    return {**kept, "source_run": source, "checkpoint": checkpoint, "failed_gates": list(failed)}


def completed(plan: ActBPlan) -> ActBPlan:
    """A fallback's plan that names only its source run (the backstop automation knows no more), filled in from that
    run's folder. A plan with a checkpoint is taken as it is.

    Raises NoSource when the source left no verdict here, or none is named.
    """
    if plan.checkpoint:
        return plan
    source = plan.source_run
    folder = trigger.folder_of(source)
    verdict = read_verdict(folder / "verdict.json")
    given = read_json(folder / "plan.json")
    return ActBPlan.model_validate(_handed_on(given, source, verdict.candidate, verdict.failed_gates))
