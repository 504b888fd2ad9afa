"""What every tenant's form asks for: where it runs, a label, a person's sign-off. Titles and help show in the UI."""

from __future__ import annotations

import os
from typing import Annotated

from pydantic import BeforeValidator, Field

from study_core.plan import Frozen

# Empty or zero stands for "not given": the form shows one plain field for it, where a nullable type makes it ask for a
# type first. JSON's null means the same.
Text = Annotated[str, BeforeValidator(lambda value: value or "")]
Number = Annotated[int, BeforeValidator(lambda value: value or 0)]
Rate = Annotated[float, BeforeValidator(lambda value: value or 0.0)]


def _default_profile() -> str:
    return os.environ.get("GATED_PROFILE", "local")


class Where(Frozen):
    """Which computer does the work. Changing it changes no result's name."""

    profile: str = Field(
        default_factory=_default_profile, title="Site profile", description="A file of slurm_templates/, e.g. a100."
    )
    device: str = Field("auto", title="Device on the node", description="auto, cpu, cuda or cuda:N.")
    detach: bool = Field(
        False, title="Detach jobs", description="Leave jobs running when this flow run is cancelled or dies."
    )
    fresh: bool = Field(
        False,
        title="Start afresh",
        description="Do everything again instead of reusing finished jobs of the same plan.",
    )


class Common(Frozen):
    """What every flow asks for."""

    label: Text = Field("", title="Label", description="Free text for the run's name; no part of its identity.")
    where: Where = Field(default_factory=Where, title="Where it runs")


class Approval(Frozen):
    """A person's sign-off before anything ships."""

    ask: bool = Field(False, title="Ask a person before shipping")
    timeout_hours: float = Field(72.0, gt=0, title="Wait for at most (hours)")
