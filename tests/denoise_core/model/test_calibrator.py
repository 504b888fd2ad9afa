"""Act B's calibrator: the identity at the start, positive and smooth afterwards, each capture on its own."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from denoise_core.model.calibrator import Calibrator, cubic_basis
from denoise_core.model.mamba_uv import MambaUV
from denoise_core.plans import ModelPlan

GRID = np.linspace(300.0, 600.0, 601)


def batch(size: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    y = 0.01 + 0.5 * torch.rand(size, 601, generator=g)
    return y, y + 0.01 * torch.randn(size, 601, generator=g), torch.randn(size, 8, generator=g)


def disturbed() -> Calibrator:
    torch.manual_seed(1)
    calibrator = Calibrator(GRID, 8)
    torch.nn.init.normal_(calibrator.head[2].weight, std=0.3)
    return calibrator


def test_basis_is_eight_cubic_splines_that_sum_to_one() -> None:
    basis = cubic_basis(GRID)
    assert basis.shape == (601, 8)
    np.testing.assert_allclose(basis.sum(axis=1), 1, atol=1e-12)
    assert basis.min() >= 0
    cubic = np.polynomial.Polynomial([0.3, -1, 2, 0.5])((GRID - 300) / 300)
    coefficients = np.linalg.lstsq(basis, cubic, rcond=None)[0]
    np.testing.assert_allclose(basis @ coefficients, cubic, atol=1e-12)  # every cubic is in their span


def test_identity_at_init() -> None:
    y, x, features = batch()
    assert (Calibrator(GRID, 8)(y, x, features) - y).abs().max() < 1e-6


def test_gain_is_positive_and_both_curves_are_smooth() -> None:
    y, x, features = batch()
    calibrator = disturbed()
    a, b = calibrator.curves(torch.logit(y), y, x, features)
    assert (a > 0).all()
    assert (a - 1).abs().max() > 0.05
    for curve in (a, b):  # noise of the capture itself moves by 0.3 from point to point
        assert curve.diff(dim=-1).abs().max() < 0.05 * (curve.amax() - curve.amin())


def test_capture_features_matter_and_only_the_captures_own() -> None:
    y, x, features = batch()
    calibrator = disturbed()
    together = calibrator(y, x, features)
    torch.testing.assert_close(calibrator(y[3:4], x[3:4], features[3:4])[0], together[3], rtol=1e-5, atol=1e-6)
    assert (calibrator(y, x + 0.01, features) - together).abs().max() > 1e-5
    assert (calibrator(y, x, features + 1) - together).abs().max() > 1e-5


def test_edges_stay_finite() -> None:
    y = torch.tensor([0.0, 1.0, -0.1, 1.2]).repeat(1, 151)[:, :601].requires_grad_()
    out = disturbed()(y, torch.zeros(1, 601), torch.zeros(1, 8))
    out.sum().backward()
    assert out.isfinite().all()
    assert y.grad is not None
    assert y.grad.isfinite().all()


def test_network_with_calibrator_starts_at_its_base_and_trains_the_head_alone() -> None:
    torch.manual_seed(0)
    plan = ModelPlan(d_model=8, n_layers=1, d_state=2, base="f", calibrator=True)
    net = MambaUV(plan, GRID)
    base, x, features = batch()
    y = net(x, features, base)
    assert (y - base).abs().max() < 1e-6
    for parameter in net.backbone_parameters():
        parameter.requires_grad_(False)
    net(x, features, base).square().mean().backward()
    trained = {name for name, p in net.named_parameters() if p.grad is not None}
    assert trained == {name for name, _ in net.named_parameters() if name.startswith("calibrator.")}
