"""What every tenant's form asks for: where it runs, a label, a person's sign-off. Titles and help show in the UI."""

from __future__ import annotations

import os
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from study_core.paths import Name, Words, inside, plain
from study_core.plan import Frozen
from tasks.slurm.profiles import profile_names

# Empty or zero stands for "not given": the form shows one plain field for it, where a nullable type makes it ask for a
# type first. JSON's null means the same.
Text = Annotated[Words, BeforeValidator(lambda value: value or "")]
OneName = Annotated[str, BeforeValidator(lambda value: value or ""), AfterValidator(lambda text: text and plain(text))]
Folder = Annotated[str, BeforeValidator(lambda value: value or ""), AfterValidator(lambda text: text and inside(text))]
Number = Annotated[int, BeforeValidator(lambda value: value or 0)]
Rate = Annotated[float, BeforeValidator(lambda value: value or 0.0)]


def default_profile() -> str:
    return os.environ.get("GATED_PROFILE", "local")


def _profiles(schema: dict[str, Any]) -> None:
    """The form's choice; read when a deployment is registered."""
    schema["enum"] = sorted({*profile_names(), default_profile()})


DEVICES = ["auto", "cpu", "cuda", *(f"cuda:{number}" for number in range(16))]


class Where(Frozen):
    """Which computer does the work. Changing it changes no result's name."""

    profile: Name = Field(
        default_factory=default_profile,
        title="Site profile",
        description="A file of slurm_templates/. One that you add is offered once the house is up again.",
        json_schema_extra=_profiles,
    )
    device: Words = Field(
        "auto",
        title="Device on the node",
        description="auto: a GPU where the node has one.",
        json_schema_extra={"enum": [*DEVICES]},
    )
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
    where: Where = Field(
        default_factory=Where,
        title="Where it runs",
        description="Which computer does the work. Changing it changes no result's name.",
    )


class Production(Frozen):
    """The line of models that a run ships into, and the gate against the one in production there."""

    channel: Text = Field(
        "",
        pattern=r"^([a-z0-9][a-z0-9_-]{0,40})?$",
        title="Channel",
        description="The line of models it ships into: demo, mini, real … Empty: named after the data. A channel that "
        "you name here may go on with another corpus or panel; an unnamed one is refused.",
    )
    margin: float = Field(
        0.0,
        allow_inf_nan=False,
        title="Better than production by at least",
        description="In the study's score, on the same panel. 0: no worse. Below 0: it may be that much worse.",
    )


class Approval(Frozen):
    """A person's sign-off before anything ships; what passed under changed thresholds ships with one only."""

    by: Text = Field(
        "",
        title="Signed off by",
        description="Your name: you answer for shipping this without being asked, changed thresholds included. It "
        "stands in the registry.",
    )
    ask: bool = Field(
        False,
        title="Ask a person before shipping",
        description="The run pauses on its page until somebody answers under their name.",
    )
    timeout_hours: float = Field(
        72.0,
        gt=0,
        title="Wait for at most (hours)",
        description="Then it ends as NotApproved; run again to be asked again.",
    )


# What each tenant's form asks the same way.
PRODUCTION: Any = Field(
    default_factory=Production, title="Production", description="How a candidate must stand against it."
)
APPROVAL: Any = Field(
    default_factory=Approval, title="Sign-off", description="Whether a person decides once every gate has passed."
)
