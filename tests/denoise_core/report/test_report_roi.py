"""ROI windows: which dips are shown, and what the figures above each panel measure."""

from __future__ import annotations

import numpy as np
import pytest

from denoise_core.evaluation.dips import dip_errors
from denoise_core.report.roi_windows import roi_windows, strongest_dips, windows
from denoise_core.report.spectra import Capture

GRID = 300.0 + 0.5 * np.arange(601)


def spectrum(centres: list[float], depth: float = 0.02, shift: float = 0.0) -> np.ndarray:
    dips = sum(np.exp(-0.5 * ((GRID - centre - shift) / 0.8) ** 2) for centre in centres)
    return 0.3 + 0.0005 * (GRID - 300.0) - depth * np.asarray(dips)


def capture(denoised: np.ndarray, reference: np.ndarray) -> Capture:
    return Capture("Median: T1 A 6h", GRID, reference + 0.001, denoised, reference)


def test_at_most_six_dips_three_nm_apart_inside_the_roi() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        found = GRID[strongest_dips(0.3 + 0.01 * rng.standard_normal(601), GRID)]
        assert 0 < len(found) <= 6
        assert ((found >= 320) & (found <= 500)).all()
        assert (np.diff(found) >= 3.0).all()


def test_the_deeper_of_two_close_dips_is_kept() -> None:
    x_L = spectrum([400.0]) + spectrum([402.0], depth=0.01) - spectrum([])
    assert GRID[strongest_dips(x_L, GRID)].tolist() == [400.0]


def test_dips_outside_the_roi_are_not_shown() -> None:
    assert GRID[strongest_dips(spectrum([310.0, 350.0, 550.0]), GRID)].tolist() == [350.0]


def test_perfect_capture_has_no_error() -> None:
    reference = spectrum([340.0, 380.0, 420.0])
    for window in windows(capture(reference, reference)):
        assert window.area_error_pct == pytest.approx(0.0, abs=1e-9)
        assert window.centroid_error_nm == pytest.approx(0.0, abs=1e-9)
        assert np.ptp(GRID[window.sample_W]) == pytest.approx(14.0)


def test_flattened_dip_is_measured() -> None:
    reference = spectrum([380.0])
    (flat,) = windows(capture(spectrum([380.0], depth=0.01), reference))
    assert flat.area_error_pct == pytest.approx(-50.0, abs=0.5)


def test_figures_are_those_of_gate_3() -> None:
    """Where no two dips are close, the gate's medians are the medians over the panels."""
    rng = np.random.default_rng(11)
    centres = [335.0, 352.5, 371.0, 400.5, 447.5, 466.0]
    reference = spectrum(centres)
    denoised = spectrum(centres, depth=0.018, shift=0.1) + 3e-4 * rng.standard_normal(601)
    found = windows(capture(denoised, reference))
    gate = dip_errors(denoised[None], reference[None], GRID)
    assert len(found) == 6
    assert np.median([abs(w.area_error_pct) for w in found]) == pytest.approx(gate.area_error_pct_M[0], rel=1e-9)
    assert np.median([abs(w.centroid_error_nm) for w in found]) == pytest.approx(gate.centroid_error_nm_M[0], rel=1e-6)


def test_a_dip_does_not_bend_its_wide_baseline() -> None:
    (window,) = windows(capture(spectrum([380.0]), spectrum([380.0])))
    continuum = 0.3 + 0.0005 * (GRID[window.sample_W] - 300.0)
    np.testing.assert_allclose(window.baseline["denoised"], continuum, atol=2e-5)


def test_capture_without_dips_has_no_figure() -> None:
    flat = np.full(601, 0.3)
    assert roi_windows(capture(flat, flat)) is None


def test_one_dip_at_the_edge_is_drawn() -> None:
    picture = roi_windows(capture(spectrum([321.0]), spectrum([321.0])))
    assert picture is not None
    assert "321.0 nm" in picture.alt
    assert picture.png.startswith(b"\x89PNG")
