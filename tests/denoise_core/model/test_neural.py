"""The network as a denoiser: batches, the reversed pass, the base filter under it, its standard error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from small_models import L, captures, network, small

from denoise_core.corpus.captures import Context
from denoise_core.corpus.store import open_corpus
from denoise_core.model import checkpoints
from denoise_core.model.checkpoints import load_model, save_checkpoint
from denoise_core.model.linear import fit_lmmse
from denoise_core.model.mamba_uv import MambaUV
from denoise_core.model.neural import NeuralDenoiser, load_denoiser
from denoise_core.plans import ModelPlan
from study_core.errors import BadInput


class Shift:
    """A base filter for tests: adds 0.01; standard error 0.002."""

    name = "shift"

    def denoise(self, x_BL: NDArray[np.float32], context: Context) -> NDArray[np.float32]:
        return np.asarray(x_BL + np.float32(0.01), dtype=np.float32)

    def standard_error(self, x_BL: NDArray[np.float32], context: Context) -> NDArray[np.float32]:
        return np.full_like(x_BL, 0.002)


def denoiser(tmp_path: Path, **options: Any) -> NeuralDenoiser:
    save_checkpoint(tmp_path / "a.pt", network(small(base="f")), se_scale_L=np.linspace(1, 2, L))
    return NeuralDenoiser(load_model(tmp_path / "a.pt"), base=Shift(), **options)


def test_denoiser_in_batches_corrects_its_base(tmp_path: Path) -> None:
    x, context = captures()
    whole = denoiser(tmp_path).denoise(x, context)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(denoiser(tmp_path, batch_size=3).denoise(x, context), whole, atol=1e-6)
    net = load_model(tmp_path / "a.pt").model
    features = load_model(tmp_path / "a.pt").film_scaling(context.features_BF)
    with torch.no_grad():
        expected = net(torch.from_numpy(x), torch.from_numpy(features), torch.from_numpy(x + np.float32(0.01)))
    np.testing.assert_allclose(whole, expected.numpy(), atol=1e-6)


def test_reversed_pass_is_averaged_in(tmp_path: Path) -> None:
    x, context = captures()
    plain, both = denoiser(tmp_path), denoiser(tmp_path, tta_reverse=True)
    features = plain.loaded.film_scaling(context.features_BF)
    with torch.no_grad():
        args = [torch.from_numpy(part) for part in (x, features, x + np.float32(0.01))]
        expected = (plain.model(*args) + plain.model(*args, reverse=True)) / 2
    np.testing.assert_allclose(both.denoise(x, context), expected.numpy(), atol=1e-6)
    assert np.abs(both.denoise(x, context) - plain.denoise(x, context)).max() > 1e-6


def test_standard_error_is_the_base_scaled(tmp_path: Path) -> None:
    x, context = captures()
    expected = np.broadcast_to(0.002 * np.linspace(1, 2, L), x.shape)
    np.testing.assert_allclose(denoiser(tmp_path).standard_error(x, context), expected, rtol=1e-6)


def test_standard_error_without_a_base_is_the_stored_one(tmp_path: Path) -> None:
    x, context = captures()
    save_checkpoint(tmp_path / "b.pt", network(small(base="capture")), se_L=np.linspace(0.001, 0.002, L))
    found = load_denoiser(tmp_path / "b.pt").standard_error(x, context)
    np.testing.assert_allclose(found, np.broadcast_to(np.linspace(0.001, 0.002, L), x.shape), rtol=1e-6)


def test_nan_features_count_as_average(tmp_path: Path) -> None:
    x, context = captures()
    features = context.features_BF.copy()
    features[:, 3] = np.nan
    typical = features.copy()
    typical[:, 3] = checkpoints.PUBLISHED_DOSE_MEAN[3]
    one = denoiser(tmp_path)
    np.testing.assert_array_equal(
        one.denoise(x, Context(context.treatment, features)), one.denoise(x, Context(context.treatment, typical))
    )


def test_a_missing_base_filter_is_named(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a.pt", network(small(base="f")))
    with pytest.raises(BadInput, match=r"a\.pt: its base filter 'f' is missing"):
        load_denoiser(tmp_path / "a.pt")
    save_checkpoint(tmp_path / "a.pt", network(small(base="f")), base_state={"kind": "kalman"})
    with pytest.raises(BadInput, match=r"a\.pt: its linear filter cannot be read"):
        load_denoiser(tmp_path / "a.pt")


def test_captures_on_another_grid_are_refused(tmp_path: Path) -> None:
    x, context = captures()
    with pytest.raises(ValueError, match=r"expected captures \(B, 33\), got \(7, 32\)"):
        denoiser(tmp_path).denoise(x[:, :-1], context)


def test_linear_filter_alone_and_under_a_network(tmp_path: Path, mini_corpus_root: Path) -> None:
    corpus = open_corpus(mini_corpus_root)
    rows = np.arange(0, len(corpus.spectra_NL), 7)
    x, context = corpus.spectra_NL[rows], corpus.context(rows)
    fitted = fit_lmmse(corpus, corpus.manifest("manifest_train").groups, calibrate=False)
    checkpoints.save_linear(tmp_path / "linear.pt", fitted.state())
    alone = load_denoiser(tmp_path / "linear.pt")
    expected = fitted.denoise(x, context)
    np.testing.assert_array_equal(alone.denoise(x, context), expected)

    plan = ModelPlan(d_model=8, n_layers=1, d_state=2, base="lmmse")
    factor = np.linspace(0.5, 1, len(corpus.wavelength_nm))
    untrained = MambaUV(plan, corpus.wavelength_nm)
    path = tmp_path / "network.pt"
    save_checkpoint(path, untrained, base_state=fitted.state(), dose_stats=corpus.dose_stats, se_scale_L=factor)
    above = load_denoiser(path)
    np.testing.assert_array_equal(above.denoise(x, context), expected.clip(0, 1))
    np.testing.assert_allclose(above.standard_error(x, context), fitted.standard_error(x, context) * factor, rtol=1e-5)
