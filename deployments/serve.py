"""The deployments: names, descriptions, tags, and the parameters their forms open with."""

from __future__ import annotations

from typing import Any

from prefect import Flow, serve
from prefect.deployments.runner import RunnerDeployment
from pydantic import BaseModel

from deployments.tenants import ptycho
from flows.denoise.act_b import act_b
from flows.denoise.act_of_god import act_of_god
from flows.denoise.cross_validation import cross_validation
from flows.denoise.manifest import denoise_manifest
from flows.denoise.panel_qa import panel_qa
from tasks import orphans
from tasks.denoise.parameters import ActBPlan, CrossValidationPlan, DenoisePlan, PanelQAPlan, WarmStartPlan


def deployments() -> list[RunnerDeployment]:
    """One entry a deployment, in the order a person meets them. Each flow's docstring is its description."""
    return [
        _deployment(act_of_god, "warm-start", WarmStartPlan()),
        _deployment(act_b, "fallback", ActBPlan()),
        _deployment(cross_validation, "five-fold", CrossValidationPlan()),
        _deployment(panel_qa, "audit", PanelQAPlan()),
        _deployment(denoise_manifest, "manifest", DenoisePlan()),
        *ptycho.deployments(),
    ]


def _deployment(flow: Flow[..., Any], name: str, plan: BaseModel) -> RunnerDeployment:
    made = flow.to_deployment(name, tags=["gated", "denoise"], parameters={"plan": plan.model_dump(mode="json")})
    assert isinstance(made, RunnerDeployment)  # a coroutine only where the caller is async
    return made


def main() -> None:
    orphans.sweep()
    serve(*deployments(), pause_on_shutdown=False, limit=4)


if __name__ == "__main__":
    main()
