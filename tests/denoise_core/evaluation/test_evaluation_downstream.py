"""Gate 4's proxy on panels whose answer is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from denoise_core.evaluation.downstream import (
    PanelLabels,
    downstream_metrics,
    peak_f1,
    separability,
    spearman,
    within_group_variance,
)
from denoise_core.evaluation.judging import flat_metrics, published_downstream
from denoise_core.evaluation.thresholds import GateThresholds

WAVELENGTH = 300.0 + 0.5 * np.arange(601)
THRESHOLDS = GateThresholds()


def measured(
    raw: np.ndarray, denoised: np.ndarray, labels: PanelLabels, wavelength_nm: np.ndarray, thresholds: GateThresholds
) -> dict[str, Any]:
    """Measured, then under the published names."""
    return published_downstream(downstream_metrics(raw, denoised, labels, wavelength_nm), thresholds)


def panel(doses: tuple[float, ...] = (40.0, 15.0, 0.0), noise: float = 0.01) -> tuple[np.ndarray, PanelLabels]:
    """Three treatments, a group each, 20 rows a group; area falls with the dose."""
    rng = np.random.default_rng(5)
    level = np.repeat([0.2, 0.25, 0.3], 20)
    group = np.repeat(
        ["treatment_1/sample_A/6Oclock", "treatment_2/sample_A/6Oclock", "treatment_3/sample_A/6Oclock"], 20
    )
    treatment = np.array([name.split("/")[0] for name in group])
    raw = level[:, None] + rng.normal(0, noise, (60, 601))
    return raw, PanelLabels(group, treatment, np.repeat(doses, 20).astype(float))


def test_variance_is_the_mean_over_groups_of_the_mean_over_wavelengths() -> None:
    raw, labels = panel()
    expected = np.mean([raw[20 * g : 20 * g + 20].var(axis=0, ddof=1).mean() for g in range(3)])
    assert within_group_variance(raw, labels.group_M) == pytest.approx(expected, rel=1e-12)
    assert np.isnan(within_group_variance(raw[:1], labels.group_M[:1]))


def test_halving_the_noise_drops_the_variance_by_three_quarters_and_doubles_separability() -> None:
    raw, labels = panel()
    means = np.repeat([raw[20 * g : 20 * g + 20].mean(axis=0) for g in range(3)], 20, axis=0)
    found = measured(raw, means + 0.5 * (raw - means), labels, WAVELENGTH, THRESHOLDS)
    assert flat_metrics(found)["variance_drop_pct"] == pytest.approx(75.0)
    ratio = found["separability"]["denoised_ratio"] / found["separability"]["baseline_ratio"]
    assert ratio == pytest.approx(2.0)


def test_one_treatment_has_no_separability() -> None:
    raw, labels = panel()
    assert np.isnan(separability(raw[:20], labels.treatment_M[:20]))


def test_collapsing_every_row_to_its_treatment_is_very_separable_but_finite() -> None:
    raw, labels = panel()
    means = np.repeat([raw[20 * g : 20 * g + 20].mean(axis=0) for g in range(3)], 20, axis=0)
    found = flat_metrics(measured(raw, means, labels, WAVELENGTH, THRESHOLDS))
    assert found["separability_gain"] > 1e9
    assert found["variance_drop_pct"] == pytest.approx(100.0)
    nowhere = flat_metrics(measured(raw, np.full_like(raw, 0.3), labels, WAVELENGTH, THRESHOLDS))
    assert nowhere["separability_gain"] < 0  # treatments and all collapsed to one spectrum


def test_spearman_is_scipys_with_ties_and_zero_without_variation() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 5, 40).astype(float), rng.normal(size=40)
    assert spearman(x, y) == pytest.approx(spearmanr(x, y).statistic)
    assert spearman(np.full(40, 3.0), y) == 0.0


def test_one_dose_a_treatment_makes_the_dose_test_vacuous_and_the_groups_are_compared_instead() -> None:
    raw, labels = panel()
    upside_down = 0.5 - raw
    dose = measured(raw, upside_down, labels, WAVELENGTH, THRESHOLDS)["dose_monotonicity"]
    assert dose["vacuous"]
    assert dose["primary_pass"]  # as in the published proxy, whatever is done to the spectra
    assert np.isnan(dose["peak_f1_mean"])
    assert dose["across_groups"]["baseline_rho"] == pytest.approx(-1.0)
    assert dose["across_groups"]["denoised_rho"] == pytest.approx(1.0)
    assert dose["across_groups"]["pass"] is True
    back = measured(upside_down, raw, labels, WAVELENGTH, THRESHOLDS)["dose_monotonicity"]
    assert back["across_groups"]["pass"] is False


def test_two_doses_in_a_treatment_make_it_a_real_test_with_the_fallback() -> None:
    raw, labels = panel(noise=1e-4)
    dose_M = np.tile([10.0, 20.0], 30)
    raw = raw + 1e-3 * dose_M[:, None]  # area rises with dose inside every treatment
    kept = measured(raw, raw, PanelLabels(labels.group_M, labels.treatment_M, dose_M), WAVELENGTH, THRESHOLDS)
    lost = measured(raw, 0.5 - raw, PanelLabels(labels.group_M, labels.treatment_M, dose_M), WAVELENGTH, THRESHOLDS)
    assert not kept["dose_monotonicity"]["vacuous"]
    assert kept["dose_monotonicity"]["primary_pass"]
    assert lost["dose_monotonicity"]["median_delta_rho"] == pytest.approx(-1.73, abs=0.02)
    assert lost["dose_monotonicity"]["improved_ratio"] == 0.0
    assert not lost["dose_monotonicity"]["primary_pass"]
    assert np.isfinite(lost["dose_monotonicity"]["peak_f1_mean"])


def test_unknown_doses_fall_back_to_peak_f1() -> None:
    raw, labels = panel()
    unknown = PanelLabels(labels.group_M, labels.treatment_M, np.full(60, np.nan))
    dose = measured(raw, raw, unknown, WAVELENGTH, THRESHOLDS)["dose_monotonicity"]
    assert dose["dose_column_used"] is None
    assert not dose["primary_pass"]
    assert dose["peak_f1_mean"] == 1.0


def test_peak_f1_counts_matches_within_two_nanometres() -> None:
    def lines(*centres_nm: float) -> np.ndarray:
        spectrum = np.full((1, 601), 0.4)
        for centre in centres_nm:
            spectrum[0, round((centre - 300.0) / 0.5)] = 0.35
        return spectrum

    known = lines(350.0, 400.0, 450.0)
    assert peak_f1(known, known, WAVELENGTH) == 1.0
    assert peak_f1(known, lines(352.0, 398.0, 450.0), WAVELENGTH) == 1.0
    assert peak_f1(known, lines(352.5, 400.0, 450.0), WAVELENGTH) == pytest.approx(2 / 3)
    assert peak_f1(known, lines(), WAVELENGTH) == 0.0
    assert peak_f1(lines(), lines(), WAVELENGTH) == 1.0
    assert peak_f1(known, lines(350.0), WAVELENGTH) == pytest.approx(0.5)
    shallow = np.full((1, 601), 0.4)
    shallow[0, 100] = 0.391
    assert peak_f1(known, shallow, WAVELENGTH) == 0.0
