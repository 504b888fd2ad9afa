"""Gate 4, the downstream proxy: do replicates agree better, do treatments stay apart, is the dose response kept?

Shapes: M captures (rows of the panel, twin rows included as in the published audit), L wavelengths.
Raw captures are the baseline of every comparison.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from denoise_core.evaluation.dips import ROI_NM, Roi, roi_mask
from denoise_core.evaluation.labels import Labels, each
from denoise_core.evaluation.measurement import AcrossGroups, DoseResponse, Downstream
from denoise_core.evaluation.metrics import Floats, same_shape

PEAK_DROP = 0.01
PEAK_MATCH_NM = 2.0
NO_SPREAD = 1e-12
DOSE_COLUMN = "UVA_total_mWh_cm2"


@dataclass(frozen=True)
class PanelLabels:
    """What is known of each row beside its spectrum: group, treatment, UVA dose in mWh/cm² (NaN: unknown)."""

    group_M: Labels
    treatment_M: Labels
    dose_M: Floats


def within_group_variance(spectra_ML: Floats, group_M: Labels) -> float:
    """Variance over a group's rows (ddof 1), mean over λ, mean over the groups of two rows or more; NaN without one."""
    variances = [spectra_ML[rows].var(axis=0, ddof=1).mean() for _, rows in each(group_M) if len(rows) > 1]
    return float(np.mean(variances)) if variances else float("nan")


def separability(spectra_ML: Floats, treatment_M: Labels) -> float:
    """Mean distance between treatment centroids / mean distance of a row to its own; NaN below two treatments."""
    centroids: list[Floats] = []
    within: list[Floats] = []
    for _, rows in each(treatment_M):
        centroids.append(spectra_ML[rows].mean(axis=0))
        if len(rows) > 1:
            within.append(np.linalg.norm(spectra_ML[rows] - centroids[-1], axis=1))
    if len(centroids) < 2 or not within:
        return float("nan")
    stack_TL = np.stack(centroids)
    first, second = np.triu_indices(len(stack_TL), k=1)
    between = np.linalg.norm(stack_TL[first] - stack_TL[second], axis=1).mean()
    spread = float(np.concatenate(within).mean())
    return float(between / max(spread, NO_SPREAD))  # the floor keeps identical rows a number: far apart, not undefined


def spearman(x: Floats, y: Floats) -> float:
    """Rank correlation; 0 where either side does not vary (as in the published proxy: one dose has no trend)."""
    ranks_x, ranks_y = (rankdata(side) - (len(side) + 1) / 2 for side in (x, y))
    scale = float(np.sqrt((ranks_x @ ranks_x) * (ranks_y @ ranks_y)))
    return float(ranks_x @ ranks_y) / scale if scale > NO_SPREAD else 0.0


def roi_area(spectra_ML: Floats, wavelength_nm: Floats, roi_nm: Roi = ROI_NM) -> Floats:
    """∫ reflectance dλ over the ROI of each row (trapezoid)."""
    inside = roi_mask(wavelength_nm, roi_nm)
    return np.asarray(np.trapezoid(spectra_ML[:, inside], wavelength_nm[inside], axis=1))


def peak_f1(baseline_ML: Floats, denoised_ML: Floats, wavelength_nm: Floats) -> float:
    """Mean F1 of the positions of sharp minima (0.01 below a neighbour) against the baseline's, match within 2 nm."""
    pairs = zip(_sharp_minima(baseline_ML), _sharp_minima(denoised_ML), strict=True)
    return float(np.mean([_f1(wavelength_nm[known], wavelength_nm[found]) for known, found in pairs]))


def downstream_metrics(
    raw_ML: ArrayLike,
    denoised_ML: ArrayLike,
    labels: PanelLabels,
    wavelength_nm: Floats,
    roi_nm: Roi = ROI_NM,
) -> Downstream:
    """The figures of the published `downstream_metrics.json`, and beside them what its dose test leaves out.

    Peak F1 is always measured; whether the dose response was lost, so that it counts, is judged.
    """
    raw_ML, denoised_ML = same_shape(raw_ML, denoised_ML)
    before, after = (within_group_variance(x, labels.group_M) for x in (raw_ML, denoised_ML))
    apart_before, apart_after = (separability(x, labels.treatment_M) for x in (raw_ML, denoised_ML))
    return Downstream(
        replicate_consistency={
            "baseline_variance": before,
            "denoised_variance": after,
            "reduction_pct": (before - after) / before if before > NO_SPREAD else float("nan"),
        },
        separability={
            "baseline_ratio": apart_before,
            "denoised_ratio": apart_after,
            "delta_ratio": apart_after - apart_before,
        },
        dose_monotonicity=_dose_response(raw_ML, denoised_ML, labels, wavelength_nm, roi_nm),
    )


def _dose_response(
    raw_ML: Floats, denoised_ML: Floats, labels: PanelLabels, wavelength_nm: Floats, roi_nm: Roi
) -> DoseResponse:
    area_before_M, area_after_M = (roi_area(values, wavelength_nm, roi_nm) for values in (raw_ML, denoised_ML))
    known = np.isfinite(labels.dose_M)
    series = [rows[known[rows]] for _, rows in each(labels.treatment_M)]
    series = [rows for rows in series if len(rows) > 1]
    delta = np.array(
        [
            spearman(labels.dose_M[rows], area_after_M[rows]) - spearman(labels.dose_M[rows], area_before_M[rows])
            for rows in series
        ]
    )
    return DoseResponse(
        dose_column_used=DOSE_COLUMN if known.any() else None,
        median_delta_rho=float(np.median(delta)) if len(delta) else float("nan"),
        improved_ratio=float(np.mean(delta >= 0)) if len(delta) else float("nan"),
        peak_f1_mean=peak_f1(raw_ML, denoised_ML, wavelength_nm),
        vacuous=all(len(np.unique(labels.dose_M[rows])) < 2 for rows in series),
        across_groups=_across_groups(area_before_M, area_after_M, labels),
    )


def _across_groups(area_before_M: Floats, area_after_M: Floats, labels: PanelLabels) -> AcrossGroups:
    """ρ of dose with the groups' mean ROI area: the dose test that one dose a treatment does not make vacuous."""
    groups = [rows for _, rows in each(labels.group_M) if np.isfinite(labels.dose_M[rows]).all()]
    dose_G, before_G, after_G = (
        np.array([values[rows].mean() for rows in groups]) for values in (labels.dose_M, area_before_M, area_after_M)
    )
    before, after = spearman(dose_G, before_G), spearman(dose_G, after_G)
    enough = len(np.unique(dose_G)) > 2
    return AcrossGroups(
        groups=len(groups),
        baseline_rho=before,
        denoised_rho=after,
        delta_rho=after - before,
        kept=bool(after >= before) if enough else None,
    )


def _sharp_minima(spectra_ML: Floats) -> list[NDArray[np.int64]]:
    """Strict minima at least one of whose neighbours lies 0.01 or more above, as indices per row."""
    left_ML, right_ML = (spectra_ML[:, :-2] - spectra_ML[:, 1:-1]), (spectra_ML[:, 2:] - spectra_ML[:, 1:-1])
    sharp_ML = (left_ML > 0) & (right_ML > 0) & (np.maximum(left_ML, right_ML) >= PEAK_DROP)
    return [np.flatnonzero(row) + 1 for row in sharp_ML]


def _f1(known_nm: Floats, found_nm: Floats) -> float:
    """F1 of a greedy one-to-one match in the order of wavelength; nothing to find and nothing found is 1."""
    if not len(known_nm) and not len(found_nm):
        return 1.0
    free, matched = list(found_nm), 0
    for line in known_nm:
        near = next((other for other in free if abs(other - line) <= PEAK_MATCH_NM), None)
        if near is not None:
            free.remove(near)
            matched += 1
    return 2.0 * matched / (len(known_nm) + len(found_nm))
