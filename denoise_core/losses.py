"""The training loss: pure functions, vectorised over batch and dips, no host synchronisation.

Glossary: p prediction, t target, both reflectance (B, L); B batch, L wavelengths, K dips of a capture, W points of a
dip's window. ′ is the finite difference per nm, ″ the second one per nm². Source: the warm-start plan's recipe; the
code published with it loops over captures and dips and takes seconds a step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from denoise_core.plans import LossPlan
from study_core.errors import BadInput

_TINY = 1e-12
_DARK = 1e-3  # reflectance: a baseline below it is no scale for an equivalent width
_LEAST_AREA = 1e-6  # nm: the least denominator of a relative error, where a plan sets no smallest dip


def total_loss(
    pred_BL: Tensor,
    target_BL: Tensor,
    plan: LossPlan,
    lambda_weights_L: Tensor,
    step_nm: float,
    roi_L: Tensor | slice,
    *,
    group_B: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Weighted sum of the plan's terms (scalar), and each unweighted term, detached.

    `roi_L`: the region of interest as a mask or a slice of the grid. `group_B` is wanted by the consistency term alone.
    BadInput when the plan gives every term weight 0.
    """
    roi_L = _mask(roi_L, pred_BL)
    weights_L = lambda_weights_L if plan.lambda_weighted else torch.ones_like(lambda_weights_L)
    parts: dict[str, tuple[float, Tensor]] = {}
    if plan.charbonnier_weight:
        value = charbonnier(pred_BL, target_BL, weights_L, plan.charbonnier_eps)
        parts["charbonnier"] = (plan.charbonnier_weight, value)
    if plan.derivative_weight:
        parts["derivative"] = (plan.derivative_weight, derivative(pred_BL, target_BL, step_nm, weights_L))
    if plan.deriv_weight_roi:
        parts["derivative_roi"] = (plan.deriv_weight_roi, derivative_inside(pred_BL, target_BL, step_nm, roi_L))
    if plan.curvature_weight_roi:
        parts["curvature_roi"] = (plan.curvature_weight_roi, curvature_underfill(pred_BL, target_BL, step_nm, roi_L))
    if plan.dip_loss and plan.dip_weight:
        parts["dip"] = (plan.dip_weight, dip_loss(pred_BL, target_BL, plan, step_nm, roi_L))
    if plan.log_mse_weight:
        parts["log_mse"] = (plan.log_mse_weight, log_mse(pred_BL, target_BL))
    if plan.consistency_weight and group_B is not None:
        value = replicate_consistency(pred_BL, group_B, weights_L, plan.charbonnier_eps)
        parts["consistency"] = (plan.consistency_weight, value)
    if not parts:
        raise BadInput("every term of the loss has weight 0", remedy="give one of the plan's loss weights a value")
    loss = torch.stack([weight * value for weight, value in parts.values()]).sum()
    return loss, {name: value.detach() for name, (_, value) in parts.items()}


def _mask(roi_L: Tensor | slice, like_BL: Tensor) -> Tensor:
    if isinstance(roi_L, Tensor):
        return roi_L
    mask_L = torch.zeros(like_BL.shape[1], dtype=torch.bool, device=like_BL.device)
    mask_L[roi_L] = True
    return mask_L


def charbonnier(pred_BL: Tensor, target_BL: Tensor, weights_L: Tensor, eps: float = 1e-3) -> Tensor:
    """mean w(λ) · sqrt((p − t)² + ε²)."""
    return (weights_L * ((pred_BL - target_BL).square() + eps * eps).sqrt()).mean()


def derivative(pred_BL: Tensor, target_BL: Tensor, step_nm: float, weights_L: Tensor) -> Tensor:
    """mean w(λ) · |p′ − t′|, the weight taken at the middle of each difference."""
    weights = (weights_L[1:] + weights_L[:-1]) / 2
    return (weights * ((pred_BL - target_BL).diff(dim=1) / step_nm).abs()).mean()


def derivative_inside(pred_BL: Tensor, target_BL: Tensor, step_nm: float, roi_L: Tensor) -> Tensor:
    """mean |p′ − t′| over differences with both ends inside the region of interest."""
    inside = (roi_L[1:] & roi_L[:-1]).to(pred_BL.dtype)
    return _mean_where(((pred_BL - target_BL).diff(dim=1) / step_nm).abs(), inside)


def curvature_underfill(pred_BL: Tensor, target_BL: Tensor, step_nm: float, roi_L: Tensor) -> Tensor:
    """mean max(|t″| − |p″|, 0) inside the region of interest: only a loss of curvature costs."""
    inside = (roi_L[2:] & roi_L[1:-1] & roi_L[:-2]).to(pred_BL.dtype)
    bend = step_nm * step_nm
    lost = (target_BL.diff(n=2, dim=1).abs() - pred_BL.diff(n=2, dim=1).abs()) / bend
    return _mean_where(lost.clamp_min(0.0), inside)


def _mean_where(value_BL: Tensor, inside_L: Tensor) -> Tensor:
    return (value_BL * inside_L).sum() / (inside_L.sum() * len(value_BL)).clamp_min(1.0)


def log_mse(pred_BL: Tensor, target_BL: Tensor) -> Tensor:
    """mean over captures of log MSE: a step in it is a step in PSNR."""
    return ((pred_BL - target_BL).square().mean(dim=1) + _TINY).log().mean()


def replicate_consistency(
    pred_BL: Tensor, group_B: Tensor, weights_L: Tensor | None = None, eps: float = 1e-3
) -> Tensor:
    """mean w(λ) · (sqrt((p − p̄)² + ε²) − ε), p̄ the mean prediction of the capture's group in this batch.

    The Charbonnier distance again, so that a weight means the same in both. Captures whose group stands in the batch
    once say nothing; 0 where none stands twice.
    """
    same_BB = (group_B[:, None] == group_B[None, :]).to(pred_BL.dtype)
    count_B1 = same_BB.sum(dim=1, keepdim=True)
    mean_BL = same_BB @ pred_BL / count_B1
    distance_BL = ((pred_BL - mean_BL).square() + eps * eps).sqrt() - eps
    if weights_L is not None:
        distance_BL = weights_L * distance_BL
    several = (count_B1 > 1).sum()  # the others are their own mean: no distance
    return distance_BL.sum() / (several * pred_BL.shape[1]).clamp_min(1)


# ---- dips ------------------------------------------------------------------------------------------------


def laplacian_of_gaussian(sigma_nm: float, step_nm: float, like: Tensor) -> Tensor:
    """Kernel (2r + 1,), r = 3σ, zero mean: its response is positive where a spectrum dips."""
    sigma = sigma_nm / step_nm
    radius = max(round(3 * sigma), 1)
    x = torch.arange(-radius, radius + 1, device=like.device, dtype=like.dtype)
    bell = torch.exp(-0.5 * (x / sigma) ** 2)
    kernel = (x * x / sigma**4 - 1 / sigma**2) * bell
    return kernel - kernel.mean()


@torch.no_grad()
def detect_dips(
    target_BL: Tensor, roi_L: Tensor, step_nm: float, *, most: int, sigma_nm: float, neighbours: int = 5
) -> tuple[Tensor, Tensor]:
    """Centres (B, K) of the strongest dips of each target inside the region of interest, and which are real (B, K).

    A dip is a local maximum over ± `neighbours` points of the Laplacian-of-Gaussian response, above its mean inside
    the region.
    """
    kernel = laplacian_of_gaussian(sigma_nm, step_nm, target_BL)
    radius = len(kernel) // 2
    padded = F.pad(target_BL[:, None], (radius, radius), mode="replicate")[:, 0]
    # a product of windows, not conv1d: on GPUs that rounds to TF32, whose error at level 0.3 equals a small dip
    response_BL = padded.unfold(1, len(kernel), 1) @ kernel
    inside_BL = roi_L.expand_as(response_BL)
    low = torch.finfo(response_BL.dtype).min
    masked_BL = response_BL.masked_fill(~inside_BL, low)
    mean_B1 = (response_BL * inside_BL).sum(1, keepdim=True) / inside_BL.sum(1, keepdim=True)
    highest_BL = F.max_pool1d(masked_BL[:, None], 2 * neighbours + 1, stride=1, padding=neighbours)[:, 0]
    peak_BL = inside_BL & (masked_BL >= highest_BL) & (masked_BL > mean_B1)
    strength_BK, centre_BK = masked_BL.masked_fill(~peak_BL, low).topk(min(most, masked_BL.shape[1]), dim=1)
    return centre_BK, strength_BK > low


def dip_loss(pred_BL: Tensor, target_BL: Tensor, plan: LossPlan, step_nm: float, roi_L: Tensor | slice) -> Tensor:
    """How well the target's dips survive: area, equivalent width, centroid and depth, averaged over all dips.

    Dips are found on the target. Each window (± `dip_window_half_nm`) has a straight baseline between the means of
    its two ends; absorption a is max(baseline − x, 0). A dip of target area below `dip_min_area` is skipped, as is one
    whose window leaves the grid. 0 where no dip is left.
    """
    centre_BK, real_BK = detect_dips(
        target_BL, _mask(roi_L, pred_BL), step_nm, most=plan.dip_m, sigma_nm=plan.dip_detect_sigma_nm
    )
    half = round(plan.dip_window_half_nm / step_nm)
    index_BKW = centre_BK[..., None] + torch.arange(-half, half + 1, device=pred_BL.device)
    fits_BK = (index_BKW[..., 0] >= 0) & (index_BKW[..., -1] < pred_BL.shape[1])
    index_BN = index_BKW.clamp(0, pred_BL.shape[1] - 1).flatten(1)
    guard = min(max(round(plan.baseline_guard_nm / step_nm), 1), half)
    least = max(plan.dip_min_area, _LEAST_AREA)
    p, t = (
        measure(x_BL.gather(1, index_BN).view_as(index_BKW), guard, step_nm, least) for x_BL in (pred_BL, target_BL)
    )
    kept_BK = real_BK & fits_BK & (t.area_BK >= plan.dip_min_area)

    excess_BK = p.area_BK - t.area_BK
    cost_BK = torch.where(excess_BK < 0, -plan.dip_underfill_factor * excess_BK, excess_BK)
    each_BK = (
        plan.dip_w_area * cost_BK / t.area_BK.clamp_min(least)
        + plan.dip_w_equivalent_width * (p.width_nm_BK - t.width_nm_BK).abs() / t.width_nm_BK.clamp_min(least)
        + plan.dip_w_centroid * (p.centroid_nm_BK - t.centroid_nm_BK).abs()
        + plan.dip_w_depth * (p.absorption_BKW - t.absorption_BKW).abs().mean(dim=-1)
    )
    return torch.where(kept_BK, each_BK, 0.0).sum() / kept_BK.sum().clamp_min(1)


@dataclass(frozen=True)
class Dips:
    """Absorption (B, K, W), its area, equivalent width and centroid (nm from the window's middle), each (B, K)."""

    absorption_BKW: Tensor
    area_BK: Tensor
    width_nm_BK: Tensor
    centroid_nm_BK: Tensor


def measure(x_BKW: Tensor, guard: int, step_nm: float, least_area: float) -> Dips:
    """What stands in every window: `guard` points at each end give the baseline.

    Equivalent width: ∫ max(1 − x/baseline, 0) dλ, over the absorption as the area is. Without the max it is near zero
    by construction (a baseline through the means of both halves cuts the spectrum in equal parts): on the real corpus
    it was negative for 6 % of the targets' dips, and no relative error can be taken of it.
    An area below `least_area` no longer divides the centroid: a prediction without a dip has its centroid in the
    middle, and gradients stay bounded on the way there.
    """
    points = x_BKW.shape[-1]
    place_W = torch.linspace(0, 1, points, device=x_BKW.device, dtype=x_BKW.dtype)
    left = x_BKW[..., :guard].mean(-1, keepdim=True)
    right = x_BKW[..., -guard:].mean(-1, keepdim=True)
    baseline = left + (right - left) * place_W
    absorption = (baseline - x_BKW).clamp_min(0.0)
    from_middle_nm = (place_W - 0.5) * (points - 1) * step_nm
    moment_BK, weight_BK = (absorption * from_middle_nm).sum(-1), absorption.sum(-1)
    return Dips(
        absorption,
        area_BK=torch.trapezoid(absorption, dx=step_nm),
        width_nm_BK=torch.trapezoid(absorption / baseline.clamp_min(_DARK), dx=step_nm),
        centroid_nm_BK=moment_BK / weight_BK.clamp_min(least_area / step_nm),
    )
