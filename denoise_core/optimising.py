"""How weights move: the optimiser's options after remedies, the rate of every step, and the weights' average."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from denoise_core.model.mamba_uv import MambaUV
from denoise_core.plans import OptimiserPlan

NO_DECAY = ("A_log", "D", "bias")  # and every LayerNorm


def adjusted(plan: OptimiserPlan, adjustments: Mapping[str, Any]) -> OptimiserPlan:
    """The optimiser's options after a dispatcher's remedies: the effective batch stays, its memory halves."""
    halvings = int(adjustments.get("batch_halvings", 0))
    factor = float(adjustments.get("lr_factor", 1.0))
    clip = adjustments.get("grad_clip") or plan.grad_clip
    steps = plan.steps_per_epoch
    return plan.model_copy(
        update={
            "bs": max(1, plan.bs >> halvings),
            "grad_accum": plan.grad_accum << halvings,
            "steps_per_epoch": steps << halvings if steps else None,
            "lr": plan.lr * factor,
            "lr_min": plan.lr_min * factor,
            "grad_clip": clip,
        }
    )


def learning_rate(progress: float, plan: OptimiserPlan) -> float:
    """Linear warm-up to `lr`, then cosine to `lr_min`; `progress` in epochs."""
    warm = min(plan.warmup_epochs, plan.epochs - 1)
    if progress < warm:
        return plan.lr * max(progress, 1e-3) / warm
    done = (progress - warm) / max(plan.epochs - warm, 1)
    return plan.lr_min + (plan.lr - plan.lr_min) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def parameter_groups(model: MambaUV, weight_decay: float) -> list[dict[str, Any]]:
    """Weights decay; states' rates (A_log, D), biases and norms do not."""
    decayed: list[torch.nn.Parameter] = []
    others: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (others if name.rsplit(".", 1)[-1] in NO_DECAY or "norm" in name else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


class WeightAverage:
    """Exponential moving average of a network's weights, and a network that has them."""

    def __init__(self, model: MambaUV, plan: OptimiserPlan) -> None:
        self._model, self._plan = model, plan
        self.state: dict[str, Tensor] = {name: value.detach().clone() for name, value in model.state_dict().items()}
        self.count = 0
        self._shadow: MambaUV | None = None

    @torch.no_grad()
    def update(self) -> None:
        """Take the network's weights in; early steps weigh more, so that the average is not stuck at its start."""
        self.count += 1
        decay = min(self._plan.ema_decay, (1 + self.count) / (10 + self.count)) if self._plan.ema else 0.0
        state = self._model.state_dict()
        floats = [name for name, value in state.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.state[name] for name in floats], [state[name] for name in floats], 1 - decay)

    def resume(self, state: Mapping[str, Tensor], count: int) -> None:
        """Go on from a saved average of `count` steps."""
        device = next(self._model.parameters()).device
        self.state, self.count = {name: value.to(device) for name, value in state.items()}, count

    def checkpoint_state(self) -> dict[str, Any]:
        """As torch's AveragedModel keeps it, which is the published format."""
        return {"n_averaged": self.count, **{f"module.{name}": value for name, value in self.state.items()}}

    def model(self) -> MambaUV:
        """The averaged network; the same object at each call."""
        if self._shadow is None:
            model = self._model
            with torch.random.fork_rng(devices=[]):
                self._shadow = MambaUV(model.plan, model.wavelength_nm, model.preprocessing)
            self._shadow.to(next(model.parameters()).device)
        self._shadow.load_state_dict(self.state)
        return self._shadow
