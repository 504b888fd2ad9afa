"""All figures of one set of predictions against one reference. Shapes: M captures, L wavelengths.

None of them depends on a threshold: shares of captures inside limits are counted where they are judged (`limits`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from denoise_core.evaluation.dips import ROI_NM, DipErrors, Roi, dip_errors, spurious_dips
from denoise_core.evaluation.labels import Labels
from denoise_core.evaluation.measurement import Reference, Scored, column
from denoise_core.evaluation.metrics import Floats, composite_score, psnr_db, published_sam_deg, sam_deg

NO_TARGET_AREA = 1e-6
"""The published audit's rule for a spurious dip: a capture whose median target area is below this."""


@dataclass(frozen=True)
class Scores:
    """One value a capture; `spurious_M` counts dips under `loo`, flags captures (published rule) under `self`."""

    psnr_M: Floats
    sam_M: Floats
    dips: DipErrors
    spurious_M: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.psnr_M)


def score(
    prediction_ML: ArrayLike,
    reference_ML: ArrayLike,
    wavelength_nm: Floats,
    reference: Reference = "loo",
    roi_nm: Roi = ROI_NM,
) -> Scores:
    """Every per-capture figure of the predictions. Raises BadInput when the shapes differ."""
    dips = dip_errors(prediction_ML, reference_ML, wavelength_nm, roi_nm)
    spurious_M = (
        spurious_dips(prediction_ML, reference_ML, wavelength_nm, roi_nm)
        if reference == "loo"
        else (dips.target_area_M < NO_TARGET_AREA).astype(np.int64)
    )
    sam_M = (sam_deg if reference == "loo" else published_sam_deg)(prediction_ML, reference_ML)
    return Scores(psnr_db(prediction_ML, reference_ML), sam_M, dips, spurious_M)


def aggregate(scores: Scores) -> dict[str, float]:
    """Gate 1's metrics and the composite score; population standard deviation."""
    with np.errstate(invalid="ignore"):  # infinite PSNR (prediction = reference) has no spread: NaN, refused later
        mean, spread = float(scores.psnr_M.mean()), float(scores.psnr_M.std())
    return {
        "psnr_mean": mean,
        "psnr_std": spread,
        "sam_mean": float(scores.sam_M.mean()),
        "composite_score": composite_score(mean, spread),
    }


def dip_figures(scores: Scores) -> dict[str, float]:
    """Gate 3's figures that need no limit: medians over the captures that have a dip to compare, and spurious dips."""
    return {
        "centroid_mae_nm_median": _quantile(scores.dips.centroid_error_nm_M, 0.5),
        "depth_mae_median": _quantile(scores.dips.depth_error_M, 0.5),
        "spurious_peaks": float(scores.spurious_M.sum()),
        "spurious_per_capture": float(scores.spurious_M.mean()),
    }


def recorded(scores: Scores, group_M: Labels) -> Scored:
    """As the judge takes it."""
    return Scored(
        figures={**aggregate(scores), **dip_figures(scores)},
        by_group=per_group(scores, group_M),
        psnr_M=column(scores.psnr_M),
        sam_M=column(scores.sam_M),
        area_error_pct_M=column(scores.dips.area_error_pct_M),
        centroid_error_nm_M=column(scores.dips.centroid_error_nm_M),
        depth_error_M=column(scores.dips.depth_error_M),
        spurious_M=tuple(int(count) for count in scores.spurious_M),
    )


def per_group(scores: Scores, group_M: Labels) -> dict[str, dict[str, float]]:
    """The published group table: one row a group, in the order of the panel."""
    names, first = np.unique(group_M, return_index=True)
    table = {}
    for name in names[np.argsort(first)]:
        rows = group_M == name
        area = scores.dips.area_error_pct_M[rows]
        with np.errstate(invalid="ignore"):
            table[str(name)] = {
                "count": float(rows.sum()),
                "psnr_mean": float(scores.psnr_M[rows].mean()),
                "psnr_std": float(scores.psnr_M[rows].std()),
                "sam_mean": float(scores.sam_M[rows].mean()),
                "sam_std": float(scores.sam_M[rows].std()),
                "area_error_median": _quantile(area, 0.5),
                "area_error_90pct": _quantile(area, 0.9),
            }
    return table


def _quantile(values: Floats, share: float) -> float:
    """Quantile of the values that are no NaN (the shares of `limits` count those as outside); NaN without any."""
    known = values[~np.isnan(values)]
    return float(np.quantile(known, share)) if len(known) else float("nan")
