"""PSNR, SAM and dips: definitions on spectra whose answer is known, and properties that hold for any spectra."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.signal import find_peaks

from denoise_core.evaluation.dips import dip_errors, find_dips, spurious_dips
from denoise_core.evaluation.metrics import psnr_db, sam_deg
from study_core.errors import BadInput

WAVELENGTH = 300.0 + 0.5 * np.arange(601)
CENTRES_NM = (335.0, 371.0, 400.5, 423.0, 447.5, 466.0)
spectra = hnp.arrays(np.float64, (3, 601), elements=st.floats(0.01, 0.9))


def with_dips(centres_nm: tuple[float, ...], depth: float = 0.02) -> np.ndarray:
    """One spectrum (1, L): a rising line with Gaussian dips, σ 0.7 nm."""
    dips = sum(np.exp(-0.5 * ((WAVELENGTH - centre) / 0.7) ** 2) for centre in centres_nm)
    return (0.3 + 0.0005 * (WAVELENGTH - 300.0) - depth * dips)[None, :]


# ---- PSNR and SAM ----------------------------------------------------------------------------


def test_psnr_of_a_constant_error_is_known() -> None:
    reference = with_dips(CENTRES_NM)
    assert psnr_db(reference + 0.01, reference) == pytest.approx([40.0])


def test_sam_of_a_known_angle() -> None:
    reference, prediction = np.zeros((1, 601)), np.zeros((1, 601))
    reference[0, 0] = prediction[0, 0] = prediction[0, 1] = 1.0
    assert sam_deg(prediction, reference) == pytest.approx([45.0])


@given(spectra, st.floats(0.1, 10.0))
@settings(max_examples=25, deadline=None)
def test_sam_ignores_scale_and_is_symmetric(x: np.ndarray, factor: float) -> None:
    other = x[::-1].copy()
    np.testing.assert_allclose(sam_deg(factor * x, other), sam_deg(x, other), atol=1e-9)
    np.testing.assert_allclose(sam_deg(x, other), sam_deg(other, x), atol=1e-9)


@given(spectra)
@settings(max_examples=25, deadline=None)
def test_sam_equals_the_arccosine_of_the_definition(x: np.ndarray) -> None:
    other = x[::-1].copy()
    cosine = (x * other).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(other, axis=1)
    np.testing.assert_allclose(sam_deg(x, other), np.degrees(np.arccos(np.minimum(cosine, 1.0))), atol=2e-6)


def test_a_perfect_prediction_has_an_infinite_psnr_and_nan_stays_nan() -> None:
    reference = with_dips(CENTRES_NM)
    assert np.isposinf(psnr_db(reference, reference)).all()
    assert sam_deg(reference, reference) == pytest.approx([0.0])
    broken = reference.copy()
    broken[0, 300] = np.nan
    assert np.isnan(psnr_db(broken, reference)).all()
    assert np.isnan(sam_deg(broken, reference)).all()
    assert np.isnan(sam_deg(np.zeros_like(reference), reference)).all()


@pytest.mark.parametrize("shape", [(2, 601), (1, 600), (601,)])
def test_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(BadInput, match="shape"):
        psnr_db(np.zeros(shape), with_dips(CENTRES_NM))


# ---- dips ------------------------------------------------------------------------------------


def test_the_six_most_prominent_dips_inside_the_roi_are_found() -> None:
    weak = with_dips((350.0, 480.0), depth=0.004) - with_dips(())
    outside = with_dips((310.0, 520.0), depth=0.1) - with_dips(())
    spectrum = with_dips(CENTRES_NM) + weak + outside
    assert WAVELENGTH[find_dips(spectrum, WAVELENGTH)[0]].tolist() == pytest.approx(list(CENTRES_NM), abs=0.51)


@given(st.integers(0, 2**32 - 1), st.integers(2, 9), st.sampled_from([0.0, 0.01]))
@settings(max_examples=40, deadline=None)
def test_all_rows_at_once_find_what_scipy_finds_row_by_row(seed: int, levels: int, missing: float) -> None:
    """Plateaus, ties, edges and gaps included."""
    rng = np.random.default_rng(seed)
    x = 1e-3 * rng.integers(0, levels, (4, 601))
    x[rng.random(x.shape) < missing] = np.nan
    inside = np.flatnonzero((WAVELENGTH >= 320) & (WAVELENGTH <= 500))
    for row, centres in enumerate(find_dips(x, WAVELENGTH, most=400)):
        expected = inside[find_peaks(-x[row, inside], prominence=0.002)[0]]
        assert centres[centres >= 0].tolist() == expected.tolist()


def test_fewer_dips_are_padded_and_a_shallow_one_is_none() -> None:
    found = find_dips(with_dips((400.0,)), WAVELENGTH)[0]
    assert (found >= 0).sum() == 1
    assert (find_dips(with_dips((400.0,), depth=0.0015), WAVELENGTH) == -1).all()


@given(st.floats(0.2, 3.0))
@settings(max_examples=30, deadline=None)
def test_a_dip_scaled_by_k_has_an_area_error_of_k_minus_one(k: float) -> None:
    reference, prediction = with_dips(CENTRES_NM), with_dips(CENTRES_NM, depth=0.02 * k)
    errors = dip_errors(prediction, reference, WAVELENGTH)
    assert errors.area_error_pct_M == pytest.approx([100 * abs(k - 1)], abs=1e-6)
    assert errors.centroid_error_nm_M == pytest.approx([0.0], abs=1e-9)
    assert errors.dips_M.tolist() == [6]


@given(st.floats(-0.1, 0.1), st.floats(-1e-3, 1e-3), st.floats(-1e-5, 1e-5))
@settings(max_examples=30, deadline=None)
def test_a_smooth_quadratic_error_changes_no_dip(a: float, b: float, c: float) -> None:
    reference = with_dips(CENTRES_NM)
    t = WAVELENGTH - 410.0
    errors = dip_errors(reference + a + b * t + c * t**2, reference, WAVELENGTH)
    assert errors.area_error_pct_M == pytest.approx([0.0], abs=1e-6)
    assert errors.depth_error_M == pytest.approx([0.0], abs=1e-9)


def test_a_shifted_dip_has_its_shift_as_centroid_error() -> None:
    errors = dip_errors(with_dips(tuple(c + 0.5 for c in CENTRES_NM)), with_dips(CENTRES_NM), WAVELENGTH)
    assert 0.2 < errors.centroid_error_nm_M[0] < 0.6


def test_erased_dips_lose_all_their_area() -> None:
    errors = dip_errors(with_dips(()), with_dips(CENTRES_NM), WAVELENGTH)
    assert errors.area_error_pct_M == pytest.approx([100.0])
    assert np.isnan(errors.centroid_error_nm_M).all()  # nothing is left whose centroid could be near


def test_a_reference_without_dips_gives_nan_not_a_pass() -> None:
    errors = dip_errors(with_dips(CENTRES_NM), with_dips(()), WAVELENGTH)
    assert np.isnan(errors.area_error_pct_M).all()
    assert errors.dips_M.tolist() == [0]


def test_a_nan_in_a_window_makes_the_captures_errors_nan() -> None:
    broken = with_dips(CENTRES_NM)
    broken[0, 202] = np.nan
    assert np.isnan(dip_errors(broken, with_dips(CENTRES_NM), WAVELENGTH).area_error_pct_M).all()


def test_rows_do_not_see_each_other() -> None:
    rng = np.random.default_rng(3)
    reference = np.repeat(with_dips(CENTRES_NM), 7, axis=0) + rng.normal(0, 0.002, (7, 601))
    prediction = reference + rng.normal(0, 0.002, (7, 601))
    whole = dip_errors(prediction, reference, WAVELENGTH)
    for row in range(7):
        alone = dip_errors(prediction[row : row + 1], reference[row : row + 1], WAVELENGTH)
        assert alone.area_error_pct_M[0] == whole.area_error_pct_M[row]
        assert alone.target_area_M[0] == whole.target_area_M[row]


@pytest.mark.parametrize(
    ("offset_nm", "spurious"), [(0.0, 0), (1.5, 0), (2.0, 0), (2.5, 1), (10.0, 1)], ids=lambda value: str(value)
)
def test_a_dip_is_spurious_beyond_two_nanometres(offset_nm: float, spurious: int) -> None:
    found = spurious_dips(with_dips((400.0 + offset_nm,)), with_dips((400.0,)), WAVELENGTH)
    assert found.tolist() == [spurious]


def test_a_weak_dip_of_the_reference_excuses_and_one_outside_the_roi_does_not_count() -> None:
    strong, weak, none = with_dips((400.0,)), with_dips((400.0,), depth=0.0026), with_dips((), depth=0.0)
    assert spurious_dips(strong, weak, WAVELENGTH).tolist() == [0]
    assert spurious_dips(strong, none, WAVELENGTH).tolist() == [1]
    assert spurious_dips(weak, none, WAVELENGTH).tolist() == [0]
    assert spurious_dips(with_dips((310.0, 550.0)), none, WAVELENGTH).tolist() == [0]


@pytest.mark.parametrize("grid", [np.linspace(600, 900, 601), np.sort(np.geomspace(300, 600, 601)), WAVELENGTH[::-1]])
def test_a_grid_without_the_roi_or_a_uniform_step_is_refused(grid: np.ndarray) -> None:
    with pytest.raises(BadInput, match="wavelength grid"):
        dip_errors(with_dips(CENTRES_NM), with_dips(CENTRES_NM), grid)


def test_dips_are_judged_in_the_studys_own_roi() -> None:
    spectra, none = with_dips((310.0, 400.0)), with_dips(())
    for roi_nm, centres in (((320.0, 500.0), [400.0]), ((302.0, 350.0), [310.0])):
        found = find_dips(spectra, WAVELENGTH, roi_nm=roi_nm)[0]
        assert WAVELENGTH[found[found >= 0]].tolist() == pytest.approx(centres, abs=0.51)
        assert spurious_dips(spectra, none, WAVELENGTH, roi_nm).tolist() == [1]
