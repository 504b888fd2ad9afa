"""Networks and captures small enough for a test of every detail."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from denoise_core.corpus.captures import Context
from denoise_core.model.mamba_uv import MambaUV
from denoise_core.model.preprocess import Preprocess
from denoise_core.plans import ModelPlan

L = 33
GRID = np.linspace(300.0, 316.0, L)


def small(**changes: object) -> ModelPlan:
    settings: dict[str, object] = {"sequence_length": L, "d_model": 8, "n_layers": 2, "d_state": 3} | changes
    return ModelPlan.model_validate(settings)


def network(plan: ModelPlan, seed: int = 0, preprocessing: Preprocess | None = None) -> MambaUV:
    torch.manual_seed(seed)
    net = MambaUV(plan, GRID, preprocessing)
    for parameter in net.parameters():  # nothing left at zero: a lost parameter shows
        torch.nn.init.normal_(parameter, std=0.1)
    return net


def captures(size: int = 7) -> tuple[NDArray[np.float32], Context]:
    rng = np.random.default_rng(0)
    x = rng.uniform(0.1, 0.5, (size, L)).astype(np.float32)
    return x, Context(np.array(["treatment_1"] * size), rng.normal(size=(size, 8)).astype(np.float32))
