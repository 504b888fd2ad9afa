"""Every loss term against a plain loop, and what training asks of the whole: gradients, speed of convergence to 0."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from denoise_core import losses
from denoise_core.plans import LossPlan
from study_core.errors import BadInput

Floats = NDArray[np.float64]
WAVELENGTH = 300.0 + 0.5 * np.arange(601)
ROI = (WAVELENGTH >= 320) & (WAVELENGTH <= 500)
STEP = 0.5
ALL = LossPlan(log_mse_weight=1.0, consistency_weight=1.0)


def spectra(batch: int, seed: int = 0) -> Floats:
    """A slope, thirty dips, a little noise: (B, 601)."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(310, 590, 30)
    widths = rng.uniform(0.6, 3.0, 30)
    dips = (0.01 * np.exp(-0.5 * ((WAVELENGTH - centres[:, None]) / widths[:, None]) ** 2)).sum(0)
    slope = 0.2 + 0.001 * (WAVELENGTH - 300)
    return slope - rng.uniform(0.5, 1.5, (batch, 1)) * dips + rng.normal(0, 0.001, (batch, 601))


def pair(batch: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    target = spectra(batch, seed)
    pred = target + np.random.default_rng(seed + 1).normal(0, 0.002, target.shape)
    return torch.from_numpy(pred), torch.from_numpy(target)


WEIGHTS = torch.from_numpy(np.random.default_rng(9).uniform(60, 900, 601))
MASK = torch.from_numpy(ROI)


# ---- plain terms -----------------------------------------------------------------------------------------


def test_charbonnier_equals_its_loop() -> None:
    pred, target = pair()
    total = 0.0
    for p, t in zip(pred.tolist(), target.tolist(), strict=True):
        for j in range(601):
            total += float(WEIGHTS[j]) * math.sqrt((p[j] - t[j]) ** 2 + 1e-6)
    assert losses.charbonnier(pred, target, WEIGHTS).item() == pytest.approx(total / (5 * 601), rel=1e-9)


def test_derivatives_and_curvature_equal_their_loops() -> None:
    pred, target = pair()
    weighted: list[float] = []
    inside: list[float] = []
    lost: list[float] = []
    for p, t in zip(pred.tolist(), target.tolist(), strict=True):
        for j in range(600):
            gap = abs((p[j + 1] - p[j]) / STEP - (t[j + 1] - t[j]) / STEP)
            weighted.append(float(WEIGHTS[j] + WEIGHTS[j + 1]) / 2 * gap)
            if ROI[j] and ROI[j + 1]:
                inside.append(gap)
        for j in range(1, 600):
            if ROI[j - 1] and ROI[j] and ROI[j + 1]:
                bend_p = abs(p[j + 1] - 2 * p[j] + p[j - 1]) / STEP**2
                bend_t = abs(t[j + 1] - 2 * t[j] + t[j - 1]) / STEP**2
                lost.append(max(bend_t - bend_p, 0.0))
    assert losses.derivative(pred, target, STEP, WEIGHTS).item() == pytest.approx(np.mean(weighted), rel=1e-9)
    assert losses.derivative_inside(pred, target, STEP, MASK).item() == pytest.approx(np.mean(inside), rel=1e-9)
    assert losses.curvature_underfill(pred, target, STEP, MASK).item() == pytest.approx(np.mean(lost), rel=1e-9)


def test_only_a_loss_of_curvature_costs() -> None:
    target = torch.from_numpy(spectra(1))
    smooth = target.mean(dim=1, keepdim=True).expand_as(target)
    sharper = target * 2
    assert losses.curvature_underfill(sharper, target, STEP, MASK).item() == 0.0
    assert losses.curvature_underfill(smooth, target, STEP, MASK).item() > 0.0


def test_log_mse_equals_its_loop_and_counts_in_decibels() -> None:
    pred, target = pair()
    rows = [
        math.log(float(np.mean((np.array(p) - np.array(t)) ** 2)) + 1e-12)
        for p, t in zip(pred.tolist(), target.tolist(), strict=True)
    ]
    value = losses.log_mse(pred, target).item()
    assert value == pytest.approx(np.mean(rows), rel=1e-9)
    halved = losses.log_mse(target + (pred - target) / math.sqrt(10), target).item()
    assert value - halved == pytest.approx(math.log(10), rel=1e-4), "a tenth of the MSE is 10 dB"


def test_consistency_equals_its_loop() -> None:
    pred, _ = pair(6)
    groups = [3, 1, 3, 7, 1, 3]
    values: list[float] = []
    for b, group in enumerate(groups):
        same = [k for k, other in enumerate(groups) if other == group]
        if len(same) > 1:
            mean = pred[same].mean(dim=0)
            values += [
                float(WEIGHTS[j]) * (math.sqrt(float(pred[b, j] - mean[j]) ** 2 + 1e-6) - 1e-3) for j in range(601)
            ]
    value = losses.replicate_consistency(pred, torch.tensor(groups), WEIGHTS)
    assert value.item() == pytest.approx(np.mean(values), rel=1e-9)


def test_consistency_is_zero_for_equal_replicates_and_for_strangers() -> None:
    row = torch.from_numpy(spectra(1))
    twins = row.expand(4, -1)
    assert losses.replicate_consistency(twins, torch.zeros(4, dtype=torch.long)).item() == pytest.approx(0, abs=1e-12)
    pred, _ = pair(4)
    assert losses.replicate_consistency(pred, torch.arange(4)).item() == 0.0


# ---- dips ------------------------------------------------------------------------------------------------


def loop_dips(target: Floats, plan: LossPlan) -> list[int]:
    """Centres of a capture's dips, point by point, as the specification says it."""
    sigma = plan.dip_detect_sigma_nm / STEP
    radius = round(3 * sigma)
    taps = [(x * x / sigma**4 - 1 / sigma**2) * math.exp(-0.5 * (x / sigma) ** 2) for x in range(-radius, radius + 1)]
    mean_tap = sum(taps) / len(taps)
    response = np.empty(601)
    for j in range(601):
        response[j] = sum((tap - mean_tap) * target[min(max(j + k - radius, 0), 600)] for k, tap in enumerate(taps))
    inside = [j for j in range(601) if ROI[j]]
    level = np.mean([response[j] for j in inside])
    found = []
    for j in inside:
        around = [response[k] for k in range(j - 5, j + 6) if 0 <= k < 601 and ROI[k]]
        if response[j] >= max(around) and response[j] > level:
            found.append(j)
    return sorted(found, key=lambda j: -response[j])[: plan.dip_m]


def loop_measure(x: Floats, plan: LossPlan) -> tuple[Floats, float, float, float]:
    """Absorption, area, equivalent width, centroid from the middle of one window."""
    points = len(x)
    guard = min(round(plan.baseline_guard_nm / STEP), points // 2)
    left, right = float(np.mean(x[:guard])), float(np.mean(x[-guard:]))
    baseline = [left + (right - left) * k / (points - 1) for k in range(points)]
    absorption = np.array([max(baseline[k] - x[k], 0.0) for k in range(points)])
    relative = [max(1 - x[k] / baseline[k], 0.0) for k in range(points)]
    area = sum((absorption[k] + absorption[k + 1]) / 2 * STEP for k in range(points - 1))
    width = sum((relative[k] + relative[k + 1]) / 2 * STEP for k in range(points - 1))
    centroid = sum(absorption[k] * (k - points // 2) * STEP for k in range(points)) / max(
        float(absorption.sum()), plan.dip_min_area / STEP
    )
    return absorption, area, width, centroid


def loop_dip_loss(pred: Floats, target: Floats, plan: LossPlan) -> tuple[float, int]:
    """The dip loss with a Python loop over captures and dips; how many dips it judged."""
    half = round(plan.dip_window_half_nm / STEP)
    terms: list[float] = []
    for p, t in zip(pred, target, strict=True):
        for centre in loop_dips(t, plan):
            if centre - half < 0 or centre + half > 600:
                continue
            window = slice(centre - half, centre + half + 1)
            a_t, area_t, width_t, centroid_t = loop_measure(t[window], plan)
            a_p, area_p, width_p, centroid_p = loop_measure(p[window], plan)
            if area_t < plan.dip_min_area:
                continue
            error = abs(area_p - area_t) / area_t * (plan.dip_underfill_factor if area_p < area_t else 1.0)
            terms.append(
                plan.dip_w_area * error
                + plan.dip_w_equivalent_width * abs(width_p - width_t) / width_t
                + plan.dip_w_centroid * abs(centroid_p - centroid_t)
                + plan.dip_w_depth * float(np.mean(np.abs(a_p - a_t)))
            )
    return (float(np.mean(terms)) if terms else 0.0), len(terms)


@pytest.mark.parametrize("seed", range(4))
def test_dip_loss_equals_its_loop(seed: int) -> None:
    pred, target = pair(6, seed)
    expected, judged = loop_dip_loss(pred.numpy(), target.numpy(), LossPlan())
    assert judged == 36
    assert losses.dip_loss(pred, target, LossPlan(), STEP, MASK).item() == pytest.approx(expected, rel=1e-9)
    single = losses.dip_loss(pred.float(), target.float(), LossPlan(), STEP, MASK).item()
    assert single == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    "change",
    [
        {"dip_m": 3},
        {"dip_window_half_nm": 4.0},
        {"baseline_guard_nm": 2.0},
        {"dip_min_area": 0.045},
        {"dip_underfill_factor": 5.0},
        {"dip_detect_sigma_nm": 2.0},
        {"dip_w_area": 0.0, "dip_w_centroid": 0.0, "dip_w_depth": 0.0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_option_of_the_dip_loss_is_the_loops(change: dict[str, float]) -> None:
    plan = LossPlan().model_copy(update=change)
    pred, target = pair(4, 7)
    expected, judged = loop_dip_loss(pred.numpy(), target.numpy(), plan)
    default, all_judged = loop_dip_loss(pred.numpy(), target.numpy(), LossPlan())
    assert judged > 0
    assert expected != pytest.approx(default, rel=1e-3), "the option makes no difference here"
    assert judged < all_judged or "dip_min_area" not in change
    assert losses.dip_loss(pred, target, plan, STEP, MASK).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_detection_equals_its_loop_for_all_dips_that_there_are(seed: int) -> None:
    target = spectra(2, seed)
    hump = 0.05 * np.exp(-0.5 * ((WAVELENGTH - 430) / 20) ** 2)  # its ripples are maxima below the mean response
    target[1] = 0.3 + 10 * hump + 0.0005 * np.sin(WAVELENGTH / 1.3) - 0.02 * np.exp(-((WAVELENGTH - 350) ** 2))
    centre, real = losses.detect_dips(torch.from_numpy(target), MASK, STEP, most=60, sigma_nm=1.0)
    for row, t in enumerate(target):
        found, expected = centre[row][real[row]].tolist(), loop_dips(t, LossPlan(dip_m=60))
        assert found == expected
        assert 6 < len(found) < 60


def test_of_two_dips_within_five_points_the_stronger_is_one() -> None:
    def found(points_apart: int) -> list[int]:
        target = 0.3 - 0.02 * np.eye(601)[200] - 0.015 * np.eye(601)[200 + points_apart]
        centre, real = losses.detect_dips(torch.from_numpy(target)[None], MASK, STEP, most=2, sigma_nm=0.5)
        strongest = centre[real].tolist()
        return [place - 200 for place in strongest if 195 <= place <= 210]

    assert found(5) == [0]
    assert found(6) == [0, 6]


def test_dips_of_the_real_corpus_equal_the_loop(real_corpus_root: object) -> None:
    from pathlib import Path

    from denoise_core.corpus.reference import loo_mean
    from denoise_core.corpus.store import open_corpus

    corpus = open_corpus(Path(str(real_corpus_root)))
    rows = np.arange(0, 8100, 811)
    pred, target = corpus.spectra_NL[rows].astype(np.float64), loo_mean(corpus, rows).astype(np.float64)
    expected, judged = loop_dip_loss(pred, target, LossPlan())
    assert judged == 6 * len(rows)
    value = losses.dip_loss(torch.from_numpy(pred), torch.from_numpy(target), LossPlan(), STEP, MASK)
    assert value.item() == pytest.approx(expected, rel=1e-9)


def one_dip(depth: float, centre: float = 400.0, width: float = 1.5) -> torch.Tensor:
    return torch.from_numpy(0.3 - depth * np.exp(-0.5 * ((WAVELENGTH - centre) / width) ** 2))[None]


def test_a_shallower_dip_costs_twice_a_deeper_one() -> None:
    plan = LossPlan(dip_w_equivalent_width=0, dip_w_centroid=0, dip_w_depth=0, dip_w_area=1, dip_m=1)
    target = one_dip(0.02)
    too_deep = losses.dip_loss(one_dip(0.022), target, plan, STEP, MASK).item()
    too_shallow = losses.dip_loss(one_dip(0.018), target, plan, STEP, MASK).item()
    assert too_deep == pytest.approx(0.1, rel=1e-6)
    assert too_shallow == pytest.approx(0.2, rel=1e-6)


def test_a_moved_dip_costs_its_centroid() -> None:
    plan = LossPlan(dip_w_equivalent_width=0, dip_w_centroid=1, dip_w_depth=0, dip_w_area=0, dip_m=1)
    near, far = (
        losses.dip_loss(one_dip(0.02, 400.0 + shift), one_dip(0.02), plan, STEP, MASK).item() for shift in (0.2, 0.4)
    )
    assert 0 < near < far < 0.5
    assert far == pytest.approx(2 * near, rel=0.1)


def test_dips_are_sought_inside_the_region_alone_and_small_ones_skipped() -> None:
    outside = one_dip(0.05, 560.0)
    centre, real = losses.detect_dips(outside, MASK, STEP, most=6, sigma_nm=1.0)
    assert not any(ROI[j] is False for j in centre[real].tolist())
    assert losses.dip_loss(outside * 0 + 0.3, outside, LossPlan(), STEP, MASK).item() == 0.0
    assert losses.dip_loss(one_dip(0.0), one_dip(1e-4), LossPlan(), STEP, MASK).item() == 0.0


def test_a_prediction_without_dips_keeps_finite_gradients() -> None:
    target = torch.from_numpy(spectra(3)).float()
    for level in (0.0, 1e-6, 0.3):
        pred = torch.full_like(target, level, requires_grad=True)
        losses.dip_loss(pred, target, LossPlan(), STEP, MASK).backward()
        assert pred.grad is not None
        assert torch.isfinite(pred.grad).all()


def test_gradient_of_the_dip_loss_is_its_finite_difference() -> None:
    pred, target = pair(2, 3)
    pred.requires_grad_()
    losses.dip_loss(pred, target, LossPlan(), STEP, MASK).backward()
    assert pred.grad is not None
    direction = torch.from_numpy(np.random.default_rng(4).normal(size=pred.shape))
    tiny = 1e-7
    with torch.no_grad():
        ahead, behind = (
            losses.dip_loss(pred + sign * tiny * direction, target, LossPlan(), STEP, MASK) for sign in (1, -1)
        )
    assert (pred.grad * direction).sum().item() == pytest.approx(((ahead - behind) / (2 * tiny)).item(), rel=1e-4)


# ---- the whole -------------------------------------------------------------------------------------------


def test_total_is_the_weighted_sum_of_its_parts() -> None:
    pred, target = pair(6)
    groups = torch.tensor([0, 0, 1, 1, 2, 2])
    loss, parts = losses.total_loss(pred, target, ALL, WEIGHTS, STEP, MASK, group_B=groups)
    weights = {"charbonnier": 1.0, "derivative": 0.3, "derivative_roi": 0.6, "curvature_roi": 0.3, "dip": 1.0}
    weights |= {"log_mse": 1.0, "consistency": 1.0}
    assert parts.keys() == weights.keys()
    assert loss.item() == pytest.approx(sum(weights[name] * part.item() for name, part in parts.items()), rel=1e-12)
    assert not any(part.requires_grad for part in parts.values())


def test_the_seeds_recipe_has_its_five_terms_and_no_others() -> None:
    pred, target = pair()
    _, parts = losses.total_loss(pred, target, LossPlan(), WEIGHTS, STEP, MASK)
    assert set(parts) == {"charbonnier", "derivative", "derivative_roi", "curvature_roi", "dip"}


def test_region_as_slice_equals_region_as_mask() -> None:
    pred, target = pair()
    first, last = np.flatnonzero(ROI)[[0, -1]]
    by_mask, _ = losses.total_loss(pred, target, LossPlan(), WEIGHTS, STEP, MASK)
    by_slice, _ = losses.total_loss(pred, target, LossPlan(), WEIGHTS, STEP, slice(int(first), int(last) + 1))
    assert by_mask.item() == by_slice.item()


def test_unweighted_charbonnier_ignores_the_lambda_weights() -> None:
    pred, target = pair()
    plan = LossPlan(lambda_weighted=False)
    once, parts = losses.total_loss(pred, target, plan, WEIGHTS, STEP, MASK)
    again, _ = losses.total_loss(pred, target, plan, 5 * WEIGHTS, STEP, MASK)
    assert once.item() == again.item()
    assert parts["charbonnier"].item() == pytest.approx(((pred - target) ** 2 + 1e-6).sqrt().mean().item())


def test_a_loss_without_terms_is_refused() -> None:
    nothing = LossPlan(
        charbonnier_weight=0, derivative_weight=0, deriv_weight_roi=0, curvature_weight_roi=0, dip_loss=False
    )
    pred, target = pair()
    with pytest.raises(BadInput, match="weight 0"):
        losses.total_loss(pred, target, nothing, WEIGHTS, STEP, MASK)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**16), batch=st.integers(1, 5), level=st.floats(0.0, 1.0))
def test_loss_is_finite_with_finite_gradients_for_any_prediction(seed: int, batch: int, level: float) -> None:
    target = torch.from_numpy(spectra(batch, seed)).float()
    pred = torch.from_numpy(np.random.default_rng(seed).uniform(0, level, target.shape)).float().requires_grad_()
    loss, _ = losses.total_loss(
        pred, target, ALL, WEIGHTS.float(), STEP, MASK, group_B=torch.zeros(batch, dtype=torch.long)
    )
    loss.backward()
    assert torch.isfinite(loss)
    assert pred.grad is not None
    assert torch.isfinite(pred.grad).all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**16))
def test_every_term_is_least_at_the_target(seed: int) -> None:
    pred, target = pair(3, seed)
    groups = torch.arange(3)
    _, there = losses.total_loss(target, target, ALL, WEIGHTS, STEP, MASK, group_B=groups)
    _, away = losses.total_loss(pred, target, ALL, WEIGHTS, STEP, MASK, group_B=groups)
    for name in ("charbonnier", "derivative", "derivative_roi", "curvature_roi", "dip", "log_mse"):
        assert there[name] < away[name], name
    assert there["dip"].item() == there["derivative"].item() == there["curvature_roi"].item() == 0.0


def test_gradient_descent_on_the_loss_finds_the_target() -> None:
    target = torch.from_numpy(spectra(2)).float()
    start = target + 0.01 * torch.randn(target.shape, generator=torch.Generator().manual_seed(3))
    guess = start.clone().requires_grad_()
    optimiser = torch.optim.Adam([guess], lr=1e-3)
    values = []
    for _ in range(100):
        loss, parts = losses.total_loss(guess, target, LossPlan(), WEIGHTS.float(), STEP, MASK)
        values.append(parts["dip"].item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert values[-1] < 0.2 * values[0]
    assert (guess - target).abs().mean() < 0.2 * (start - target).abs().mean()
