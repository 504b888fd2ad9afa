"""How a network is trained, as data: every number of the recipe with its reason."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ptycho_core.design import StudyDesign
from study_core.plan import Frozen

Arm = Literal["pinn", "baseline"]
MEAN_TRANSMISSION = 0.85
"""The flat object that the network starts from, and what its inputs are taken relative to: a design constant."""


class Recipe(Frozen):
    """One training. Iterations, never seconds, so that equal recipes end equal."""

    arm: Arm = Field("pinn", description="pinn: photons alone. baseline: supervised on the train half's truth")
    gridsize: int = Field(2, ge=1, description="gs: C = gs² patterns are assembled inside the loss")
    seed: int = 0
    iterations: int = Field(300, ge=1)
    width: int = Field(24, ge=8, multiple_of=4, description="Channels at the finest level")
    batch_patterns: int = Field(32, ge=1, description="Patterns of a step: 8 groups of 4, or 32 single ones")
    lr: float = Field(2e-3, gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    warmup: int = Field(30, ge=0, description="Iterations of linear rise")
    final_lr: float = Field(0.01, ge=0, le=1, description="Where the cosine ends, of lr")
    clip: float = Field(1.0, gt=0, description="Gradient norm")
    thinning: float = Field(
        0.7, gt=0, le=1,
        description="Share of the photons that is seen; the loss is on the rest, so copied noise gains nothing. "
        "1: the loss sees what the network sees",
    )  # fmt: skip
    bf16: bool = Field(True, description="The network alone in bfloat16, where the device has it")
    state_every: int = Field(50, ge=1, description="Iterations between saved states")


def recipe_for(design: StudyDesign, arm: Arm = "pinn", gridsize: int = 2, seed: int = 0) -> Recipe:
    """The study's recipe; the Baseline takes half of the iterations and sees every photon."""
    if arm == "baseline":
        half = max(1, design.iterations // 2)
        return Recipe(arm=arm, gridsize=1, seed=seed, iterations=half, thinning=1.0)
    return Recipe(arm=arm, gridsize=gridsize, seed=seed, iterations=design.iterations)
