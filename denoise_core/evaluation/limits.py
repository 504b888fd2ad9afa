"""Shares of captures inside the limits of a capture, counted from a measured record: no array, no spectrum."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from denoise_core.evaluation.measurement import Scored
from denoise_core.evaluation.thresholds import GateThresholds


def tail(scored: Scored, thresholds: GateThresholds) -> dict[str, float]:
    """Gate 2's metrics: shares of captures inside the limits; NaN is outside."""
    psnr_M = [value >= thresholds.tail_psnr_min for value in scored.psnr_M]
    sam_M = [value <= thresholds.tail_sam_max for value in scored.sam_M]
    return {
        "psnr_pass_ratio": _share(psnr_M),
        "sam_pass_ratio": _share(sam_M),
        "joint_pass_ratio": _share(a and b for a, b in zip(psnr_M, sam_M, strict=True)),
    }


def roi(scored: Scored, thresholds: GateThresholds) -> dict[str, float]:
    """Gate 3's shares. A capture without a dip to compare has no area error and is not within it."""
    return {
        "area_within_10_pct_ratio": _share(
            area <= thresholds.roi_area_error_max_pct for area in scored.area_error_pct_M
        ),
        "spurious_free_ratio": _share(dips <= thresholds.spurious_max for dips in scored.spurious_M),
    }


def method_row(scored: Scored, group_M: Sequence[str], thresholds: GateThresholds) -> dict[str, Any]:
    """One line of a table of methods: all figures, and by group PSNR, SAM and the share within the ROI limit."""
    within_M = [area <= thresholds.roi_area_error_max_pct for area in scored.area_error_pct_M]
    return {
        **scored.figures,
        **roi(scored, thresholds),
        "by_group": {
            name: {
                "psnr_mean": row["psnr_mean"],
                "sam_mean": row["sam_mean"],
                "area_within_10_pct_ratio": _share(
                    within for within, group in zip(within_M, group_M, strict=True) if group == name
                ),
            }
            for name, row in scored.by_group.items()
        },
    }


def _share(inside: Iterable[bool]) -> float:
    counted = list(inside)
    return sum(counted) / len(counted) if counted else float("nan")
