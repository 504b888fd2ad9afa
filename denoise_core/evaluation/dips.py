"""ROI integrity: what became of the dips that the reference has, and dips that it has not.

Shapes: M captures, L wavelengths, K dips of a capture (at most 6), W samples of a dip's window.
Definitions: evaluation dips of the published audit, whose figures these functions reproduce.
They differ on purpose from the dips of the training loss (`denoise_core.losses`), which are
wider and found on a smoothed target.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.signal import find_peaks, peak_prominences

from denoise_core.corpus.study import PUBLISHED
from denoise_core.evaluation.metrics import Floats, same_shape
from study_core.errors import BadInput

Roi = tuple[float, float]
ROI_NM: Roi = PUBLISHED.roi_nm
PROMINENCE = 0.002
REFERENCE_PROMINENCE = 0.001
MATCH_NM = 2.0
DEEPER = 0.003
"""A dip this much more prominent than any of the reference's within 2 nm is not that dip: half as deep again as the
shallowest that gate 3 counts, and six standard errors of a group's mean."""
MAX_DIPS = 6
HALF_WINDOW_NM = 2.0
GUARD_NM = 10.0
NO_ABSORPTION = 1e-12
"""Areas below this are rounding error: such a dip has no area to compare (as in the published audit)."""

_EDGE = 1e-9  # nm: keeps a window's last sample on grids such as 300.0, 300.5, … in float32


@dataclass(frozen=True)
class DipErrors:
    """Median over the dips of each capture; NaN where the reference has no dip to compare."""

    area_error_pct_M: Floats
    centroid_error_nm_M: Floats
    depth_error_M: Floats
    target_area_M: Floats
    dips_M: NDArray[np.int64]


def roi_mask(wavelength_nm: Floats, roi_nm: Roi = ROI_NM) -> NDArray[np.bool_]:
    """Which samples lie in the ROI, both ends included."""
    return np.asarray((wavelength_nm >= roi_nm[0]) & (wavelength_nm <= roi_nm[1]))


def find_dips(
    spectra_ML: ArrayLike, wavelength_nm: Floats, *, most: int = MAX_DIPS, roi_nm: Roi = ROI_NM
) -> NDArray[np.int64]:
    """Indices (M, K) of the `most` most prominent minima in the ROI, prominence ≥ 0.002, rising; −1 fills up.

    Prominence is measured inside the ROI only, as in the published audit.
    """
    spectra_ML = np.asarray(spectra_ML, np.float64)
    row, sample, prominence = _minima(spectra_ML, wavelength_nm, PROMINENCE, roi_nm)
    by_prominence = np.lexsort((-prominence, row))
    place = np.arange(len(row)) - np.searchsorted(row, row)  # rows rise in either order: so do their first places
    kept = by_prominence[place < most]
    centres_MK = np.full((len(spectra_ML), most), np.iinfo(np.int64).max, dtype=np.int64)
    centres_MK[row[kept], place[place < most]] = sample[kept]
    centres_MK.sort(axis=1)
    centres_MK[centres_MK == np.iinfo(np.int64).max] = -1
    return centres_MK


def dip_errors(
    prediction_ML: ArrayLike, reference_ML: ArrayLike, wavelength_nm: Floats, roi_nm: Roi = ROI_NM
) -> DipErrors:
    """Area error in %, centroid error in nm, depth error in reflectance, at the reference's dips.

    Each spectrum's absorption is measured from its own quadratic baseline over ±2 nm.
    """
    prediction_ML, reference_ML = same_shape(prediction_ML, reference_ML)
    centres_MK = find_dips(reference_ML, wavelength_nm, roi_nm=roi_nm)
    offsets_W, remove_WW = _baseline_removal(wavelength_nm)
    window_MKW = np.clip(centres_MK[:, :, None] + offsets_W, 0, len(wavelength_nm) - 1)
    step_nm = _uniform_step(wavelength_nm)

    rows_M11 = np.arange(len(reference_ML))[:, None, None]
    target_MKW = np.maximum(reference_ML[rows_M11, window_MKW] @ remove_WW.T, 0.0)
    found_MKW = np.maximum(prediction_ML[rows_M11, window_MKW] @ remove_WW.T, 0.0)
    target_MK, found_MK = (np.trapezoid(a, dx=step_nm, axis=2) for a in (target_MKW, found_MKW))

    dip_MK = (centres_MK >= 0) & (target_MK >= NO_ABSORPTION)
    with np.errstate(invalid="ignore"):  # inf − inf where both spectra are flat: no dip there
        centroid_MK = _centroid(found_MKW, offsets_W * step_nm) - _centroid(target_MKW, offsets_W * step_nm)
    area_MK = 100.0 * np.abs(found_MK - target_MK) / np.where(dip_MK, target_MK, 1.0)
    return DipErrors(
        area_error_pct_M=_median(area_MK, dip_MK),
        centroid_error_nm_M=_median(np.abs(centroid_MK), dip_MK),
        depth_error_M=_median(np.abs(found_MKW - target_MKW).mean(axis=2), dip_MK),
        target_area_M=_median(target_MK, dip_MK),
        dips_M=dip_MK.sum(axis=1),
    )


def spurious_dips(
    prediction_ML: ArrayLike, reference_ML: ArrayLike, wavelength_nm: Floats, roi_nm: Roi = ROI_NM
) -> NDArray[np.int64]:
    """Dips of each prediction (prominence ≥ 0.002, in the ROI) farther than 2 nm from any dip ≥ 0.001 of the reference.

    Where a prediction is not finite it has no dip; gate 0 refuses it before anyone can profit.
    """
    row, _, matched = _matched(prediction_ML, reference_ML, wavelength_nm, roi_nm)
    return np.bincount(row[matched == 0.0], minlength=len(np.asarray(prediction_ML)))


def deeper_dips(
    prediction_ML: ArrayLike, reference_ML: ArrayLike, wavelength_nm: Floats, roi_nm: Roi = ROI_NM
) -> NDArray[np.int64]:
    """Dips of each prediction that the reference has within 2 nm, but less prominent by more than 0.003."""
    row, prominence, matched = _matched(prediction_ML, reference_ML, wavelength_nm, roi_nm)
    deeper = (matched > 0.0) & (prominence > matched + DEEPER)
    return np.bincount(row[deeper], minlength=len(np.asarray(prediction_ML)))


def _matched(
    prediction_ML: ArrayLike, reference_ML: ArrayLike, wavelength_nm: Floats, roi_nm: Roi
) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Of each dip ≥ 0.002 of the predictions: its row, its prominence, and that of the reference's most prominent dip
    (≥ 0.001) within 2 nm, 0 where there is none."""
    prediction_ML, reference_ML = same_shape(prediction_ML, reference_ML)
    row, sample, prominence = _minima(prediction_ML, wavelength_nm, PROMINENCE, roi_nm)
    known_row, known_sample, known_prominence = _minima(reference_ML, wavelength_nm, REFERENCE_PROMINENCE, roi_nm)
    far_nm = 10.0 * float(np.ptp(wavelength_nm))  # rows laid out on one axis, out of each other's reach
    own_nm, known_nm = wavelength_nm[sample] + row * far_nm, wavelength_nm[known_sample] + known_row * far_nm
    first = np.searchsorted(known_nm, own_nm - MATCH_NM - _EDGE)
    last = np.searchsorted(known_nm, own_nm + MATCH_NM + _EDGE)
    ends = np.stack([first, last], axis=1).ravel()  # reduceat takes the maximum from each first to its last
    best = np.maximum.reduceat(np.append(known_prominence, [0.0, 0.0]), ends)[::2] if len(ends) else np.zeros(0)
    return row, prominence, np.where(last > first, best, 0.0)


def _minima(
    spectra_ML: Floats, wavelength_nm: Floats, prominence: float, roi_nm: Roi
) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """Row, sample and prominence of every minimum in the ROI at least this prominent, ordered by row and sample.

    All rows go through SciPy's C code as one signal with infinite walls between them: a wall
    ends the search for a peak's base exactly as the end of an array does.
    """
    inside = np.flatnonzero(roi_mask(wavelength_nm, roi_nm))
    if len(inside) < 3:
        raise BadInput(f"the wavelength grid has no samples in {roi_nm[0]:g}-{roi_nm[1]:g} nm")
    walled_MR = np.full((len(spectra_ML), len(inside) + 1), np.inf)
    walled_MR[:, 1:] = -spectra_ML[:, inside]
    signal = np.append(walled_MR.ravel(), np.inf)
    peaks, _ = find_peaks(signal)
    peaks = peaks[np.isfinite(signal[peaks])]
    height = peak_prominences(signal, peaks)[0]
    peaks, height = peaks[height >= prominence], height[height >= prominence]
    row, column = np.divmod(peaks, walled_MR.shape[1])
    return row, inside[0] + column - 1, height


def _uniform_step(wavelength_nm: Floats) -> float:
    steps = np.diff(wavelength_nm)
    if len(steps) == 0 or steps[0] <= 0 or not np.allclose(steps, steps[0], rtol=0, atol=1e-3):
        raise BadInput("the wavelength grid is not uniform and rising", remedy="resample the spectra to one step")
    return float(steps.mean())


def _baseline_removal(wavelength_nm: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Offsets (W,) of a window's samples and the matrix (W, W) that takes a spectrum to baseline − spectrum.

    The baseline is a least-squares quadratic over the window outside the guard; the guard of
    10 nm is wider than the window, so (as in the published audit) it is fitted over all of it.
    On a uniform grid one matrix serves every dip.
    """
    step_nm = _uniform_step(wavelength_nm)
    half = max(1, round(HALF_WINDOW_NM / step_nm))
    offsets_W = np.arange(-half, half + 1)
    outside_W = np.abs(offsets_W * step_nm) >= GUARD_NM
    fitted_W = outside_W if outside_W.sum() >= 3 else np.ones_like(outside_W)
    powers_W3 = np.vander(offsets_W / half, 3)
    baseline_WW = np.zeros((len(offsets_W), len(offsets_W)))
    baseline_WW[:, fitted_W] = powers_W3 @ np.linalg.pinv(powers_W3[fitted_W])
    return offsets_W, baseline_WW - np.eye(len(offsets_W))


def _centroid(absorption_MKW: Floats, offset_nm_W: NDArray[np.floating[Any]]) -> Floats:
    """Absorption-weighted wavelength relative to the window's centre; +inf without absorption (a lost dip)."""
    weight_MK = absorption_MKW.sum(axis=2)
    lost_MK = weight_MK <= NO_ABSORPTION
    return np.asarray(np.where(lost_MK, np.inf, (absorption_MKW @ offset_nm_W) / np.where(lost_MK, 1.0, weight_MK)))


def _median(value_MK: Floats, where_MK: NDArray[np.bool_]) -> Floats:
    """Median over the dips of each row; NaN where there is none, where one is NaN, or where it is infinite."""
    ordered_MK = np.sort(np.where(where_MK, value_MK, np.inf), axis=1)
    count_M, rows = where_MK.sum(axis=1), np.arange(len(value_MK))
    middle_M = (ordered_MK[rows, np.maximum(count_M - 1, 0) // 2] + ordered_MK[rows, count_M // 2]) / 2
    unusable_M = (count_M == 0) | np.isinf(middle_M) | (np.isnan(value_MK) & where_MK).any(axis=1)
    return np.where(unusable_M, np.nan, middle_M)
