"""Linear denoisers at their public door, on a small made corpus; the exact per-capture filter as reference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from denoise_core.corpus.captures import Context
from denoise_core.corpus.reference import loo_mean
from denoise_core.corpus.store import Corpus, corpus_of
from denoise_core.evaluation.uncertainty import coverage
from denoise_core.model.linear import (
    F,
    G,
    LinearDenoiser,
    LinearRecipe,
    fit,
    fit_f,
    fit_g,
    fit_lmmse,
    leave_one_group_out,
    save_linear,
)
from denoise_core.model.linear_filters import (
    jump_posterior,
    log_level,
    logit_slope,
    prior_at,
    to_domain,
    typical_spectrum,
)
from denoise_core.model.neural import load_denoiser
from study_core.errors import BadInput

POINTS, REPLICATES = 81, 40


def made_corpus(replicates: int = REPLICATES) -> Corpus:
    """24 groups of 4 treatments: smooth spectra of one shape at many levels, a fingerprint by treatment, noise."""
    rng = np.random.default_rng(0)
    wavelength_nm = 300 + 0.5 * np.arange(POINTS)
    x = np.linspace(-1, 1, POINTS)
    fingerprint_TL = 0.004 * rng.standard_normal((4, POINTS))
    captures, spectra = [], []
    for group in range(24):
        treatment, sample = 1 + group % 4, "ABCDEF"[group // 4]
        level = np.exp(rng.normal(-1.5, 0.35))
        truth = level * np.exp(0.5 * x + rng.normal(0, 0.1) * x**2) + fingerprint_TL[treatment - 1]
        noise = 0.005 * rng.standard_normal((replicates, POINTS)) + 0.002 * rng.standard_normal((replicates, 1))
        spectra.append(truth + noise)
        name = f"treatment_{treatment}/sample_{sample}/6Oclock"
        captures += [
            (f"{name}/rep_{replicate:03d}.npy", f"treatment_{treatment}", f"sample_{sample}", "6Oclock", name)
            for replicate in range(replicates)
        ]
    frame = pd.DataFrame(captures, columns=["relative_path", "treatment", "sample", "angle", "group_id"])
    order = frame.sort_values("relative_path").index.to_numpy()
    return corpus_of(frame.loc[order], np.concatenate(spectra)[order].astype(np.float32), wavelength_nm)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return made_corpus()


@pytest.fixture(scope="module")
def groups(corpus: Corpus) -> list[str]:
    return sorted(corpus.captures["group_id"].unique())


@pytest.fixture(scope="module")
def held_out(corpus: Corpus, groups: list[str]) -> NDArray[np.int64]:
    return np.flatnonzero(corpus.captures["group_id"].isin(groups[::6]))


@pytest.fixture(scope="module")
def fitted(corpus: Corpus, groups: list[str]) -> LinearDenoiser:
    return fit_f(corpus, [group for group in groups if group not in groups[::6]])


def mse(y: NDArray[np.floating], reference: NDArray[np.floating]) -> float:
    return float(np.mean((y.astype(np.float64) - reference) ** 2))


def exact(denoiser: LinearDenoiser, x_L: NDArray[np.float64], treatment: str) -> NDArray[np.float64]:
    """Filter F for one capture, solved at its own level: no nodes, no interpolation, dense float64 algebra."""
    statistics, level = denoiser.statistics, float(log_level(x_L))
    noise_LL = statistics.noise_covariance_LL.copy()
    noise_LL[~np.eye(len(x_L), dtype=bool)] *= 0.5 * min(1, (20 * (REPLICATES - 1)) / (2 * POINTS))
    slope_L = logit_slope(typical_spectrum(statistics, level))
    outputs = []
    for recipe, scale_L in ((F.fine, np.ones(len(x_L))), (F.smooth, slope_L)):
        assert recipe is not None
        prior = prior_at(statistics, recipe, level)
        total_LL = prior.covariance_LL + np.diag(scale_L) @ noise_LL @ np.diag(scale_L)
        z_L = to_domain(x_L, recipe.domain) - prior.mean(treatment)
        outputs.append(prior.mean(treatment) + prior.covariance_LL @ np.linalg.solve(total_LL, z_L))
    fine_L, smooth_L = outputs[0], 1 / (1 + np.exp(-outputs[1]))
    return np.asarray(fine_L + gaussian_filter1d(smooth_L - fine_L, F.smooth_nm / 0.5))


def test_interpolated_filter_equals_the_exact_one(
    corpus: Corpus, fitted: LinearDenoiser, held_out: NDArray[np.int64]
) -> None:
    rows = held_out[::8]
    context = corpus.context(rows)
    fast_BL = fitted.denoise(corpus.spectra_NL[rows], context)
    exact_BL = np.stack(
        [
            exact(fitted, corpus.spectra_NL[row].astype(float), str(t))
            for row, t in zip(rows, context.treatment, strict=True)
        ]
    )
    reference_BL = loo_mean(corpus, rows)
    assert np.abs(fast_BL - exact_BL).max() < 3e-4
    assert 10 * np.log10(mse(fast_BL, reference_BL) / mse(exact_BL, reference_BL)) < 0.01  # dB lost


def test_prior_follows_level_and_treatment(fitted: LinearDenoiser) -> None:
    statistics = fitted.statistics
    dark, bright = (prior_at(statistics, F.fine, level) for level in (-2.2, -1.0))
    assert np.median(dark.centre_L) < np.median(bright.centre_L)
    own = statistics.mean_GL[[t == "treatment_2" for t in statistics.treatment_G]].mean(axis=0)
    rest = statistics.mean_GL.mean(axis=0)
    uniform = prior_at(statistics, F.smooth, 0.0)  # type: ignore[arg-type]
    assert np.corrcoef(uniform.shift_TL["treatment_2"], to_domain(own, "logit") - to_domain(rest, "logit"))[0, 1] > 0.9
    assert np.array_equal(uniform.mean("treatment_9"), uniform.centre_L)


def test_filters_beat_the_raw_capture_on_groups_never_seen(
    corpus: Corpus, groups: list[str], fitted: LinearDenoiser, held_out: NDArray[np.int64]
) -> None:
    lmmse = fit_lmmse(corpus, fitted.groups, calibrate=False)
    x_BL, context, reference_BL = corpus.spectra_NL[held_out], corpus.context(held_out), loo_mean(corpus, held_out)
    raw, by_lmmse, by_f = (
        mse(y, reference_BL) for y in (x_BL, lmmse.denoise(x_BL, context), fitted.denoise(x_BL, context))
    )
    assert by_lmmse < raw / 2
    assert by_f < raw / 2


def test_each_capture_is_denoised_on_its_own(
    corpus: Corpus, fitted: LinearDenoiser, held_out: NDArray[np.int64]
) -> None:
    x_BL, context = corpus.spectra_NL[held_out], corpus.context(held_out)
    together = fitted.denoise(x_BL, context)
    assert together.dtype == np.float32
    for index in range(0, len(held_out), 37):
        one = slice(index, index + 1)
        np.testing.assert_allclose(fitted.denoise(x_BL[one], context.take(one)), together[one], atol=2e-6)


def test_unknown_treatment_falls_back_to_all_groups(corpus: Corpus, fitted: LinearDenoiser) -> None:
    x_BL = corpus.spectra_NL[:40]
    features_BF = np.zeros((40, 8), np.float32)
    known = fitted.denoise(x_BL, Context(np.full(40, "treatment_1"), features_BF))
    unknown = fitted.denoise(x_BL, Context(np.full(40, "treatment_9"), features_BF))
    assert np.isfinite(unknown).all()
    assert mse(unknown, known) > 0
    assert mse(unknown, loo_mean(corpus, np.arange(40))) < mse(x_BL, loo_mean(corpus, np.arange(40)))


@pytest.mark.parametrize("factor", [0.0, 0.2, 5.0])
def test_levels_far_outside_the_training_groups_stay_finite(
    corpus: Corpus, fitted: LinearDenoiser, factor: float
) -> None:
    x_BL = np.clip(factor * corpus.spectra_NL[:5], 0, 1)
    context = corpus.context(np.arange(5))
    assert np.isfinite(fitted.denoise(x_BL, context)).all()
    assert (fitted.standard_error(x_BL, context) > 0).all()


def test_a_drop_in_level_moves_the_filter_a_little(
    corpus: Corpus, fitted: LinearDenoiser, held_out: NDArray[np.int64]
) -> None:
    """A capture that dropped by 0.01 keeps its shape: no jump to another prior."""
    x_BL, context = corpus.spectra_NL[held_out], corpus.context(held_out)
    moved = fitted.denoise(x_BL - np.float32(0.01), context) - fitted.denoise(x_BL, context)
    assert np.abs(moved + 0.01).max() < 0.01


def test_standard_error_covers_held_out_groups(
    corpus: Corpus, fitted: LinearDenoiser, held_out: NDArray[np.int64]
) -> None:
    x_BL, context = corpus.spectra_NL[held_out], corpus.context(held_out)
    report = coverage(
        fitted.denoise(x_BL, context),
        fitted.standard_error(x_BL, context),
        loo_mean(corpus, held_out),
        corpus.groups(held_out),
    )
    assert report["known"] == 1
    assert report["coverage_68"] == pytest.approx(0.68, abs=0.12)
    assert report["coverage_95"] == pytest.approx(0.95, abs=0.06)


@pytest.mark.parametrize("recipe", [F, G])
def test_leaving_a_group_out_equals_fitting_without_it(corpus: Corpus, groups: list[str], recipe: LinearRecipe) -> None:
    whole = fit(corpus, groups[:8], recipe, calibrate=False)
    group, rows, rest = next(leave_one_group_out(corpus, whole))
    refitted = fit(corpus, groups[1:8], recipe, calibrate=False)
    assert group == groups[0]
    np.testing.assert_allclose(
        rest.denoise(corpus.spectra_NL[rows], corpus.context(rows)),
        refitted.denoise(corpus.spectra_NL[rows], corpus.context(rows)),
        atol=1e-6,
    )


def test_equal_fits_are_equal_files(tmp_path: Path, corpus: Corpus, groups: list[str]) -> None:
    first = save_linear(tmp_path / "a.pt", fit_g(corpus, groups[:8]))
    second = save_linear(tmp_path / "b.pt", fit_g(corpus, groups[7::-1]))
    assert first == second
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()


@pytest.mark.parametrize("fit_one", [fit_lmmse, fit_f, fit_g])
def test_a_saved_filter_denoises_as_before(
    tmp_path: Path, corpus: Corpus, groups: list[str], fit_one: Callable[..., LinearDenoiser]
) -> None:
    fitted = fit_one(corpus, groups[:8])
    save_linear(tmp_path / "filter.pt", fitted)
    content = torch.load(tmp_path / "filter.pt", weights_only=True)
    assert content["base_state"]["corpus_sha256"] == corpus.sha256
    assert content["base_state"]["groups"] == groups[:8]
    loaded = load_denoiser(tmp_path / "filter.pt")
    assert loaded.name == fitted.name
    x_BL, context = corpus.spectra_NL[::7], corpus.context(np.arange(len(corpus))[::7])
    assert np.array_equal(loaded.denoise(x_BL, context), fitted.denoise(x_BL, context))
    assert np.array_equal(loaded.standard_error(x_BL, context), fitted.standard_error(x_BL, context))


def jumpy_corpus() -> tuple[Corpus, NDArray[np.bool_]]:
    """The made corpus with every tenth capture shifted by 0.03 in a shape that no group has."""
    corpus = made_corpus()
    jumped_N = np.arange(len(corpus)) % 10 == 3
    shape_L = 1 + 0.8 * np.cos(np.linspace(0, 9, POINTS))
    spectra_NL = corpus.spectra_NL - np.outer(0.03 * jumped_N, shape_L).astype(np.float32)
    return corpus_of(corpus.captures, spectra_NL, corpus.wavelength_nm), jumped_N


def test_a_jump_in_level_is_told_from_the_spectrum(groups: list[str]) -> None:
    """G knows of jumps: on captures that jumped it errs less than F, on the others no more."""
    corpus, jumped_N = jumpy_corpus()
    held_out = np.isin(corpus.captures["group_id"], groups[::6])
    calm_by_group = [np.flatnonzero((corpus.captures["group_id"] == group) & ~jumped_N) for group in groups[::6]]
    truth = dict(zip(groups[::6], (corpus.spectra_NL[rows].mean(axis=0) for rows in calm_by_group), strict=True))
    training = [group for group in groups if group not in groups[::6]]
    f, g = fit_f(corpus, training), fit_g(corpus, training)
    errors = {}
    for kind, rows in (("jumped", np.flatnonzero(held_out & jumped_N)), ("calm", np.flatnonzero(held_out & ~jumped_N))):
        reference_BL = np.stack([truth[group] for group in corpus.groups(rows)])
        context = corpus.context(rows)
        errors[kind] = [mse(one.denoise(corpus.spectra_NL[rows], context), reference_BL) for one in (f, g)]
    assert errors["jumped"][1] < 0.7 * errors["jumped"][0]
    assert errors["calm"][1] < 1.2 * errors["calm"][0]


def test_posterior_of_a_jump_is_the_mixture_integrated() -> None:
    """Against brute force: p(jump | probe) on a fine grid, probe = evidence × jump + noise of variance `evidence`."""
    mixture, evidence = ((0.8, 0.05), (0.2, 1.0)), 9.0
    probe_B = np.array([0.0, 4.0, -9.0, 40.0])
    mean_B, variance_B = jump_posterior(probe_B, evidence, mixture)
    jump_J = np.linspace(-12, 12, 200_001)
    prior_J = sum(share * np.exp(-0.5 * jump_J**2 / factor) / np.sqrt(factor) for share, factor in mixture)
    for probe, mean, variance in zip(probe_B, mean_B, variance_B, strict=True):
        density_J = prior_J * np.exp(-0.5 * (probe - evidence * jump_J) ** 2 / evidence)
        density_J /= density_J.sum()
        assert mean == pytest.approx(density_J @ jump_J, abs=1e-6)
        assert variance == pytest.approx(density_J @ jump_J**2 - (density_J @ jump_J) ** 2, abs=1e-6)


@pytest.mark.parametrize("part", ["version", "recipe", "group_means", "noise_covariance"])
def test_a_state_without_a_part_is_refused(fitted: LinearDenoiser, part: str) -> None:
    state = fitted.state()
    del state[part]
    with pytest.raises(BadInput, match="fit the filter again"):
        LinearDenoiser.from_state(state)


@pytest.mark.parametrize("fit_one", [fit_lmmse, fit_f])
def test_few_captures_still_give_a_filter(
    corpus: Corpus, fitted: LinearDenoiser, held_out: NDArray[np.int64], fit_one: Callable[..., LinearDenoiser]
) -> None:
    """Fewer captures than wavelengths: a singular noise covariance must neither fail nor rule."""
    few = np.flatnonzero(np.arange(len(corpus)) % REPLICATES < 3)
    small = corpus_of(corpus.captures.iloc[few], corpus.spectra_NL[few], corpus.wavelength_nm)
    y_BL = fit_one(small, fitted.groups).denoise(corpus.spectra_NL[held_out], corpus.context(held_out))
    reference_BL = loo_mean(corpus, held_out)
    assert mse(y_BL, reference_BL) < 0.5 * mse(corpus.spectra_NL[held_out], reference_BL)


def test_bad_input_is_refused(corpus: Corpus, groups: list[str], fitted: LinearDenoiser) -> None:
    with pytest.raises(BadInput, match="treatment_8"):
        fit_f(corpus, [*groups, "treatment_8/sample_Z/6Oclock"])
    with pytest.raises(BadInput, match="3 or more"):
        fit_lmmse(corpus, groups[:2])
    context = corpus.context(np.arange(2))
    with pytest.raises(BadInput, match="wavelength grid"):
        fitted.denoise(corpus.spectra_NL[:2, :50], context)
    with pytest.raises(BadInput, match="row 1"):
        fitted.denoise(np.where(np.arange(2)[:, None] == 1, np.nan, corpus.spectra_NL[:2]), context)
    with pytest.raises(BadInput, match="treatments"):
        fitted.denoise(corpus.spectra_NL[:3], context)
