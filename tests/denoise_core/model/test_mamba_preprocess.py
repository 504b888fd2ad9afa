"""Preprocessing is deterministic, invertible and each capture's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from denoise_core.model import preprocess
from denoise_core.model.preprocess import Preprocess


@pytest.mark.parametrize("how", [Preprocess(), Preprocess(centre=True), Preprocess(scale=0.03), Preprocess(True, 0.03)])
def test_inverse_gives_the_reflectance_back(how: Preprocess) -> None:
    x = torch.rand(6, 601, generator=torch.Generator().manual_seed(0))
    z, kept = preprocess.forward(x, how)
    torch.testing.assert_close(preprocess.inverse(z, kept), x, rtol=0, atol=1e-6)
    assert torch.equal(z[2:3], preprocess.forward(x[2:3], how)[0])


def test_centred_captures_have_median_zero_and_scaled_ones_rms_one() -> None:
    spectra = np.random.default_rng(0).random((50, 601)).astype(np.float32) * np.linspace(0.1, 0.5, 50)[:, None]
    how = preprocess.for_plan(spectra, centre_baseline=True, scale=True)
    z, kept = preprocess.forward(torch.from_numpy(spectra.astype(np.float32)), how)
    assert z.median(-1).values.abs().max() == 0
    assert float(z.square().mean().sqrt()) == pytest.approx(1, abs=1e-5)
    np.testing.assert_array_equal(kept.median_B1[:, 0].numpy(), np.median(spectra.astype(np.float32), axis=1))


def test_off_means_unchanged() -> None:
    spectra = np.random.default_rng(0).random((5, 11))
    assert preprocess.for_plan(spectra, centre_baseline=False, scale=False) == Preprocess()
    x = torch.rand(2, 11)
    assert torch.equal(preprocess.forward(x, Preprocess())[0], x)
    assert Preprocess(**Preprocess(True, 0.5).state()) == Preprocess(True, 0.5)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_scale_that_cannot_be_inverted_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match="scale must be positive"):
        Preprocess(scale=scale)
