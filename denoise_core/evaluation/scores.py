"""All figures of one set of predictions against one reference. Shapes: M captures, L wavelengths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from denoise_core.evaluation.dips import ROI_NM, DipErrors, Roi, dip_errors, spurious_dips
from denoise_core.evaluation.labels import Labels
from denoise_core.evaluation.metrics import Floats, composite_score, psnr_db, published_sam_deg, sam_deg
from denoise_core.evaluation.thresholds import GateThresholds, Reference

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


def tail(scores: Scores, thresholds: GateThresholds) -> dict[str, float]:
    """Gate 2's metrics: shares of captures inside the limits; NaN is outside."""
    psnr_M, sam_M = scores.psnr_M >= thresholds.tail_psnr_min, scores.sam_M <= thresholds.tail_sam_max
    return {
        "psnr_pass_ratio": float(psnr_M.mean()),
        "sam_pass_ratio": float(sam_M.mean()),
        "joint_pass_ratio": float((psnr_M & sam_M).mean()),
    }


def roi(scores: Scores, thresholds: GateThresholds) -> dict[str, float]:
    """Gate 3's metrics. A capture without a dip to compare has no area error and is not within it."""
    return {
        "area_within_10_pct_ratio": float((scores.dips.area_error_pct_M <= thresholds.roi_area_error_max_pct).mean()),
        "centroid_mae_nm_median": _quantile(scores.dips.centroid_error_nm_M, 0.5),
        "depth_mae_median": _quantile(scores.dips.depth_error_M, 0.5),
        "spurious_peaks": float(scores.spurious_M.sum()),
        "spurious_per_capture": float(scores.spurious_M.mean()),
        "spurious_free_ratio": float((scores.spurious_M <= thresholds.spurious_max).mean()),
    }


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


def control_row(scores: Scores, group_M: Labels, thresholds: GateThresholds) -> dict[str, Any]:
    """One line of the table of controls: panel figures, and by group PSNR, SAM and the share within the ROI limit."""
    within_M = scores.dips.area_error_pct_M <= thresholds.roi_area_error_max_pct
    return {
        **aggregate(scores),
        **roi(scores, thresholds),
        "by_group": {
            name: {
                "psnr_mean": row["psnr_mean"],
                "sam_mean": row["sam_mean"],
                "area_within_10_pct_ratio": float(within_M[group_M == name].mean()),
            }
            for name, row in per_group(scores, group_M).items()
        },
    }


def _quantile(values: Floats, share: float) -> float:
    """Quantile of the values that are no NaN (the shares in `roi` count those as failed); NaN when there are none."""
    known = values[~np.isnan(values)]
    return float(np.quantile(known, share)) if len(known) else float("nan")
