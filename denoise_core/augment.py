"""Augmentation of training inputs: jitter and cutout, batched tensor operations. Never for validation or panel.

B batch, L wavelengths; reflectance in and out.
"""

from __future__ import annotations

import torch
from torch import Tensor

from denoise_core.plans import DataPlan


def augment(x_BL: Tensor, plan: DataPlan, noise_sd_L: Tensor, step_nm: float, generator: torch.Generator) -> Tensor:
    """Jitter, then cutout, as the plan says; clipped to [0, 1]."""
    if plan.jitter:
        x_BL = jitter(x_BL, plan, noise_sd_L, step_nm, generator)
    if plan.cutout:
        x_BL = cutout(x_BL, plan, step_nm, generator)
    return x_BL.clamp(0.0, 1.0) if plan.jitter or plan.cutout else x_BL


def jitter(x_BL: Tensor, plan: DataPlan, noise_sd_L: Tensor, step_nm: float, generator: torch.Generator) -> Tensor:
    """Gain 1 ± `jitter_gain`, a shift of up to `jitter_shift_nm` (linear interpolation), noise of the corpus's sd."""
    batch, device = len(x_BL), x_BL.device
    gain_B1 = 1 + plan.jitter_gain * _uniform(batch, generator, device)
    shift_B1 = plan.jitter_shift_nm / step_nm * _uniform(batch, generator, device)
    neighbour_BL = torch.where(shift_B1 > 0, _shifted(x_BL, 1), _shifted(x_BL, -1))
    moved_BL = x_BL + shift_B1.abs() * (neighbour_BL - x_BL)
    noise_BL = torch.randn(x_BL.shape, generator=generator, device=device, dtype=x_BL.dtype) * noise_sd_L
    return gain_B1 * moved_BL + plan.jitter_noise * noise_BL


def cutout(x_BL: Tensor, plan: DataPlan, step_nm: float, generator: torch.Generator) -> Tensor:
    """One window of `cutout_min_nm` to `cutout_max_nm` becomes the straight line between its two ends."""
    batch, length = x_BL.shape
    span = (plan.cutout_max_nm - plan.cutout_min_nm) / 2
    width_B1 = (plan.cutout_min_nm + span * (1 + _uniform(batch, generator, x_BL.device))) / step_nm
    width_B1 = width_B1.round().clamp(2, length - 1)
    first_B1 = ((length - 1 - width_B1) * (1 + _uniform(batch, generator, x_BL.device)) / 2).floor()
    place_BL = (torch.arange(length, device=x_BL.device) - first_B1) / width_B1
    left_B1 = x_BL.gather(1, first_B1.long())
    right_B1 = x_BL.gather(1, (first_B1 + width_B1).long())
    line_BL = left_B1 + place_BL * (right_B1 - left_B1)
    return torch.where((place_BL > 0) & (place_BL < 1), line_BL, x_BL)


def _uniform(batch: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """(B, 1), uniform in [-1, 1)."""
    return 2 * torch.rand(batch, 1, generator=generator, device=device) - 1


def _shifted(x_BL: Tensor, by: int) -> Tensor:
    """The neighbour `by` points away; the ends repeat."""
    return torch.cat([x_BL[:, 1:], x_BL[:, -1:]], 1) if by > 0 else torch.cat([x_BL[:, :1], x_BL[:, :-1]], 1)
