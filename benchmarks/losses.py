"""The dip loss against the way published code computes it: a Python loop over captures and dips.

    OMP_NUM_THREADS=1 python -m benchmarks.losses [--repeats 5] [--smoke] [--json FILE]

Prints one JSON object: seconds of forward and backward at the training recipe's batch (600 captures of 601 points) on
one core, best of the repeats, the speed-up, and how far the two values and gradients lie apart. The loop uses the same
operations on one window at a time, autograd included.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness import best, parser, report
from denoise_core.losses import detect_dips, dip_loss, total_loss
from denoise_core.plans import LossPlan

STEP_NM = 0.5
WAVELENGTH_L = 300.0 + STEP_NM * torch.arange(601)
ROI_L = (WAVELENGTH_L >= 320) & (WAVELENGTH_L <= 500)
Loss = Callable[[Tensor, Tensor], Tensor]


def loop_dip_loss(pred_BL: Tensor, target_BL: Tensor, plan: LossPlan) -> Tensor:
    """The dip loss, one capture and one dip after the other."""
    half, least = round(plan.dip_window_half_nm / STEP_NM), plan.dip_min_area
    terms: list[Tensor] = []
    for pred_L, target_L in zip(pred_BL, target_BL, strict=True):
        centres, real = detect_dips(target_L[None], ROI_L, STEP_NM, most=plan.dip_m, sigma_nm=plan.dip_detect_sigma_nm)
        for centre in centres[0, real[0]].tolist():
            window = slice(centre - half, centre + half + 1)
            absorption_t, area_t, width_t, centroid_t = _loop_dip(target_L[window], plan)
            if area_t.item() < least:
                continue
            absorption_p, area_p, width_p, centroid_p = _loop_dip(pred_L[window], plan)
            factor = plan.dip_underfill_factor if area_p.item() < area_t.item() else 1.0
            terms.append(
                plan.dip_w_area * factor * (area_p - area_t).abs() / area_t
                + plan.dip_w_equivalent_width * (width_p - width_t).abs() / width_t
                + plan.dip_w_centroid * (centroid_p - centroid_t).abs()
                + plan.dip_w_depth * (absorption_p - absorption_t).abs().mean()
            )
    return torch.stack(terms).mean()


def _loop_dip(x_W: Tensor, plan: LossPlan) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    points = len(x_W)
    guard = min(round(plan.baseline_guard_nm / STEP_NM), points // 2)
    left, right = x_W[:guard].mean(), x_W[-guard:].mean()
    baseline_W = left + (right - left) * torch.linspace(0, 1, points)
    absorption_W = (baseline_W - x_W).clamp_min(0)
    place_nm_W = (torch.arange(points) - points // 2) * STEP_NM
    weight = absorption_W.sum().clamp_min(plan.dip_min_area / STEP_NM)
    return (
        absorption_W,
        torch.trapezoid(absorption_W, dx=STEP_NM),
        torch.trapezoid(absorption_W / baseline_W, dx=STEP_NM),
        (absorption_W * place_nm_W).sum() / weight,
    )


def made_up(batch: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Predictions and targets with thirty dips each and the corpus's noise level."""
    generator = torch.Generator().manual_seed(seed)
    centre = 310 + 280 * torch.rand(30, 1, generator=generator)
    dips_L = 0.01 * torch.exp(-0.5 * ((WAVELENGTH_L - centre) / 0.8).square()).sum(0)
    target_BL = 0.3 - dips_L + 0.003 * torch.randn(batch, 601, generator=generator)
    return target_BL + 0.003 * torch.randn(batch, 601, generator=generator), target_BL


def _gradient(loss: Loss, pred_BL: Tensor, target_BL: Tensor) -> tuple[float, Tensor]:
    pred_BL = pred_BL.clone().requires_grad_()
    value = loss(pred_BL, target_BL)
    (gradient_BL,) = torch.autograd.grad(value, pred_BL)
    return value.item(), gradient_BL


def measure(batch: int, repeats: int) -> dict[str, Any]:
    """Both ways on the same batch, and the whole loss of the seed's recipe beside them."""
    plan, weights_L = LossPlan(), torch.full((601,), 200.0)
    pred_BL, target_BL = made_up(batch)

    def ours(p: Tensor, t: Tensor) -> Tensor:
        return dip_loss(p, t, plan, STEP_NM, ROI_L)

    def loop(p: Tensor, t: Tensor) -> Tensor:
        return loop_dip_loss(p, t, plan)

    def whole(p: Tensor, t: Tensor) -> Tensor:
        return total_loss(p, t, plan, weights_L, STEP_NM, ROI_L)[0]

    (value, gradient_BL), (expected, expected_BL) = (_gradient(f, pred_BL, target_BL) for f in (ours, loop))
    ours_s = best(lambda: _gradient(ours, pred_BL, target_BL), repeats)
    loop_s = best(lambda: _gradient(loop, pred_BL, target_BL), max(1, repeats // 3))
    return {
        "benchmark": "losses",
        "what": "dip loss, forward and backward, one core",
        "shape": [batch, 601],
        "dip_loss_s": ours_s,
        "loop_s": loop_s,
        "speedup": loop_s / ours_s,
        "total_loss_s": best(lambda: _gradient(whole, pred_BL, target_BL), repeats),
        "value": value,
        "value_difference": abs(value - expected),
        "largest_gradient_difference": float((gradient_BL - expected_BL).abs().max()),
        "largest_gradient": float(expected_BL.abs().max()),
        "machine": {
            "cpu": platform.processor() or platform.machine(),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
        },
    }


def main() -> None:
    """Command line."""
    line = parser(__doc__, "seconds: twelve captures, one repeat")
    line.add_argument("--repeats", type=int, default=5)
    options = line.parse_args()
    torch.set_num_threads(1)
    result = measure(12 if options.smoke else 600, 1 if options.smoke else options.repeats)
    report(result, options)


if __name__ == "__main__":
    main()
