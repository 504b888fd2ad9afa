"""Metrics against measured right values and against what they must not be fooled by."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import fourier_shift, gaussian_filter

from ptycho_core.contract import read_dataset
from ptycho_core.layout import Layout
from ptycho_core.metrics.align import align, measured_shift, phase_and_amplitude
from ptycho_core.metrics.deviance import ReducedDeviance, deviance, reduced_deviance
from ptycho_core.metrics.frc import lit_blocks, ring_correlation
from ptycho_core.metrics.masked import bounding_box, lit_mask, probe_disc
from ptycho_core.metrics.msssim import ms_ssim
from ptycho_core.npz import read_arrays
from ptycho_core.objects import synthetic_object
from study_core.errors import BadInput


@pytest.fixture(scope="module")
def phase() -> np.ndarray:
    return np.angle(synthetic_object((256, 320), 3)).astype(float)


def noise(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def test_ms_ssim_fixtures(phase: np.ndarray):
    assert ms_ssim(phase, phase) == pytest.approx(1)
    assert ms_ssim(np.zeros_like(phase), phase) == pytest.approx(0.0156, abs=0.0002)
    assert ms_ssim(-phase, phase) == 0
    assert ms_ssim(gaussian_filter(phase, 2), phase) == pytest.approx(0.9204, abs=0.001)
    assert ms_ssim(phase + 0.1 * noise(phase.shape), phase) == pytest.approx(0.985, abs=0.002)
    assert ms_ssim(np.roll(phase, 1, axis=0), phase) == pytest.approx(0.927, abs=0.004)


def test_single_level_is_ssim_by_the_book(phase: np.ndarray):
    """Every window by its definition."""
    reference = phase[:28, :28]
    image = reference + 0.2 * noise(reference.shape)
    taps = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window = np.outer(taps, taps) / taps.sum() ** 2
    c1, c2 = (0.01 * np.ptp(reference)) ** 2, (0.03 * np.ptp(reference)) ** 2
    scores = []
    for y in range(18):
        for x in range(18):
            one, two = image[y : y + 11, x : x + 11], reference[y : y + 11, x : x + 11]
            a, b = (window * one).sum(), (window * two).sum()
            va, vb = (window * one**2).sum() - a * a, (window * two**2).sum() - b * b
            covariance = (window * one * two).sum() - a * b
            scores.append((2 * a * b + c1) * (2 * covariance + c2) / ((a * a + b * b + c1) * (va + vb + c2)))
    assert ms_ssim(image, reference, sigma=0, levels=1) == pytest.approx(np.mean(scores), rel=1e-9)


def test_garbage_outside_the_mask_is_not_seen(phase: np.ndarray):
    mask = np.zeros(phase.shape, bool)
    mask[40:200, 30:260] = True
    mask[90:120, 100:140] = False
    rotten = np.where(mask, phase, 1e3 * noise(phase.shape))
    assert ms_ssim(rotten, phase, mask) == pytest.approx(1)
    assert ring_correlation(rotten, phase, mask).crossing() == 1.0


def test_too_small_a_mask_names_the_level(phase: np.ndarray):
    mask = np.zeros(phase.shape, bool)
    mask[40:70, 40:70] = True
    with pytest.raises(BadInput, match=r"MS-SSIM level 3: .* windows are lit, 64 are needed"):
        ms_ssim(phase, phase, mask)
    with pytest.raises(BadInput, match="no block of 32 px is wholly lit"):
        ring_correlation(phase, phase, mask)


def test_ring_correlation_fixtures(phase: np.ndarray):
    assert ring_correlation(phase, phase).crossing() == 1.0
    assert ring_correlation(gaussian_filter(phase, 2), phase).crossing() == pytest.approx(0.538, abs=0.01)
    assert ring_correlation(noise(phase.shape), phase).crossing() == 0.0


def test_holes_do_not_correlate(phase: np.ndarray):
    """Independent noise under one mask with holes: a whole-image curve would call it 1.00."""
    mask = np.ones(phase.shape, bool)
    mask[::40, :] = False
    mask[:, ::48] = False
    found = ring_correlation(np.where(mask, noise(phase.shape, 1), 0), np.where(mask, noise(phase.shape, 2), 0), mask)
    assert found.crossing() == 0.0
    assert found.blocks == len(lit_blocks(mask, 32)) > 10


def test_lit_pixels_and_blocks_of_the_mini_study(mini_hub: Layout):
    expected = {"baseline": (94369, 72), "dense": (90888, 68), "sparse": (66034, 27)}
    for view, (pixels, blocks) in expected.items():
        mask = lit_mask(read_dataset(mini_hub.dataset(1e4, view, "test")))
        assert (int(mask.sum()), len(lit_blocks(mask, 32))) == (pixels, blocks)
        rows, columns = bounding_box(mask)
        assert mask[rows, columns].sum() == mask.sum()
    probe = read_dataset(mini_hub.dataset(1e4, "dense", "test")).probe
    assert (np.abs(probe[probe_disc(probe)]) ** 2).sum() >= 0.9
    assert bounding_box(np.zeros((4, 4), bool)) == (slice(0, 0), slice(0, 0))


def test_a_flat_object_scores_as_measured(mini_hub: Layout):
    data = read_dataset(mini_hub.dataset(1e4, "dense", "test"))
    truth, mask = read_arrays(mini_hub.truth(1e4))[0]["objectTruth"], lit_mask(data)
    aligned = align(data.flat, truth, mask)
    found, wanted, amplitude, transmission = phase_and_amplitude(aligned.image, truth, mask)
    assert ms_ssim(found, wanted, mask) == pytest.approx(0.015, abs=0.001)
    assert ms_ssim(amplitude, transmission, mask) == pytest.approx(0.064, abs=0.001)
    assert np.abs(found - wanted)[mask].mean() == pytest.approx(0.368, abs=0.001)
    assert np.abs(amplitude - transmission)[mask].mean() == pytest.approx(0.086, abs=0.001)
    error = np.linalg.norm((aligned.image - truth)[mask]) / np.linalg.norm(truth[mask])
    assert error == pytest.approx(0.408, abs=0.001)
    assert ring_correlation(found, wanted, mask).crossing() == 0.0


def test_shift_and_scale_are_found(phase: np.ndarray):
    moved = np.fft.ifft2(fourier_shift(np.fft.fft2(phase), (1.3, -2.6))).real
    assert measured_shift(moved, phase) == pytest.approx((-1.3, 2.6), abs=0.021)
    image = synthetic_object((128, 128), 3)
    mask = np.ones(image.shape, bool)
    aligned = align(image * (0.5 * np.exp(2j)), image, mask)
    assert aligned.scale == pytest.approx(2, rel=1e-6)
    np.testing.assert_allclose(aligned.image, image, atol=1e-5)
    assert aligned.shift_yx == pytest.approx((0, 0), abs=0.011)
    assert align(np.zeros_like(image), image, mask).scale == 1


def test_reduced_deviance():
    rng = np.random.default_rng(5)
    rates = rng.uniform(0.05, 8, (20, 64, 64))
    counts = rng.poisson(rates)
    assert reduced_deviance(counts, rates) == pytest.approx(1, abs=0.01)
    assert reduced_deviance(counts, rates * 1.5) > 1.2
    assert reduced_deviance(counts, np.maximum(counts, 1e-6)) < 0.1
    assert deviance(counts, np.maximum(counts, 1e-12)) == pytest.approx(0, abs=1e-9)
    parts = ReducedDeviance()
    for start in range(0, 20, 7):
        parts.add(counts[start : start + 7], rates[start : start + 7])
    assert parts.ratio == pytest.approx(reduced_deviance(counts, rates), rel=1e-12)
    assert parts.deviance == pytest.approx(deviance(counts, rates), rel=1e-12)
    assert np.isnan(ReducedDeviance().ratio)


@pytest.mark.parametrize(("shape", "levels", "expected"), [((256, 320), 3, 0.9425392), ((320, 400), 5, 0.9627410)])
def test_ms_ssim_agrees_with_another_implementation(shape: tuple[int, int], levels: int, expected: float):
    """Full mask and no blur: what pytorch-msssim 1.0.0 says with the same weights, to its single precision."""
    image = np.angle(synthetic_object(shape, 3)).astype(float)
    found = ms_ssim(gaussian_filter(image, 1.5), image, sigma=0, levels=levels)
    assert found == pytest.approx(expected, abs=2e-7)
