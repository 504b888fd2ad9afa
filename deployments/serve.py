"""The five deployments: names, descriptions, tags, and the parameters their forms open with."""

from __future__ import annotations

from prefect import serve
from prefect.deployments.runner import RunnerDeployment

from flows.act_b import act_b
from flows.act_of_god import act_of_god
from flows.cross_validation import cross_validation
from flows.denoise import denoise_manifest
from flows.panel_qa import panel_qa
from flows.parameters import CrossValidationPlan, DenoisePlan, PanelQAPlan, WarmStartPlan


def deployments() -> list[RunnerDeployment]:
    """One entry a deployment, in the order a person meets them. Each flow's docstring is its description."""
    return [
        act_of_god.to_deployment(
            "warm-start", tags=["gated", "denoise"], parameters={"plan": WarmStartPlan().model_dump(mode="json")}
        ),
        act_b.to_deployment("fallback", tags=["gated", "denoise"]),
        cross_validation.to_deployment(
            "five-fold", tags=["denoise"], parameters={"plan": CrossValidationPlan().model_dump(mode="json")}
        ),
        panel_qa.to_deployment("audit", tags=["denoise"], parameters={"plan": PanelQAPlan().model_dump(mode="json")}),
        denoise_manifest.to_deployment(
            "manifest", tags=["denoise"], parameters={"plan": DenoisePlan().model_dump(mode="json")}
        ),
    ]


def main() -> None:
    serve(*deployments(), pause_on_shutdown=False, limit=4)


if __name__ == "__main__":
    main()
