"""Augmentation of training examples: mixing, jitter, cutout; batched tensor operations. Never for validation or panel.

B batch, L wavelengths, G groups, K groups of a treatment at most; reflectance in and out.
"""

from __future__ import annotations

import torch
from torch import Tensor

from denoise_core.plans import DataPlan


def augment(x_BL: Tensor, plan: DataPlan, noise_sd_L: Tensor, step_nm: float, generator: torch.Generator) -> Tensor:
    """Jitter, then cutout, as the plan says; clipped to [0, 1]. For inputs alone: targets stay what they are."""
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
    span_nm = plan.cutout_max_nm - plan.cutout_min_nm
    width_B1 = (plan.cutout_min_nm + span_nm * torch.rand(batch, 1, generator=generator, device=x_BL.device)) / step_nm
    width_B1 = width_B1.round().clamp(2, length - 1)
    first_B1 = ((length - width_B1) * torch.rand(batch, 1, generator=generator, device=x_BL.device)).floor()
    first_B1 = first_B1.minimum(length - 1 - width_B1)
    place_BL = (torch.arange(length, device=x_BL.device) - first_B1) / width_B1
    left_B1 = x_BL.gather(1, first_B1.long())
    right_B1 = x_BL.gather(1, (first_B1 + width_B1).long())
    line_BL = left_B1 + place_BL * (right_B1 - left_B1)
    return torch.where((place_BL > 0) & (place_BL < 1), line_BL, x_BL)


def mix(group_B: Tensor, mean_GL: Tensor, kin_GK: Tensor, kin_count_G: Tensor, generator: torch.Generator) -> Tensor:
    """Simulated groups: what to add (B, L) to a capture, to its target and to its base.

    A capture is its group's mean and a residual. Its mean moves up to half way to that of a random group of `kin_GK`
    (the same treatment's; the first `kin_count_G` of a row count); the residual stays. So the result is a convex
    mixture of two group means with residuals drawn from one of them. The same treatment, because the instrument's fine
    structure and the dose features depend on it; half way, because features and noise level are then those of the
    nearer group, and the other half of the way is walked from the other end. Input, target and base move together: the
    base keeps the error that it makes on a group that it has not seen.
    """
    batch, device = len(group_B), group_B.device
    count_B = kin_count_G[group_B]
    pick_B = (torch.rand(batch, generator=generator, device=device) * count_B).long().minimum(count_B - 1)
    share_B1 = 0.5 * torch.rand(batch, 1, generator=generator, device=device)
    return share_B1 * (mean_GL[kin_GK[group_B, pick_B]] - mean_GL[group_B])


def _uniform(batch: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """(B, 1), uniform in [-1, 1)."""
    return 2 * torch.rand(batch, 1, generator=generator, device=device) - 1


def _shifted(x_BL: Tensor, by: int) -> Tensor:
    """The neighbour `by` points away; the ends repeat."""
    return torch.cat([x_BL[:, 1:], x_BL[:, -1:]], 1) if by > 0 else torch.cat([x_BL[:, :1], x_BL[:, :-1]], 1)
