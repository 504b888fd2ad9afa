"""Dip by dip: what became of each of the dips that gate 3 counts in one capture. Its own figure is their median."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from denoise_core.evaluation.dips import find_dips
from denoise_core.report.labels import NO_VALUE
from denoise_core.report.roi_windows import GateDip, gate_dip
from denoise_core.report.spectra import Capture
from study_core.report.blocks import Status, Table


class DipError(NamedTuple):
    """One spectrum's dip against the reference's: area in per cent, centroid in nm, depth in reflectance (signed)."""

    area_pct: float
    centroid_nm: float
    depth: float


def dip_error(found: GateDip, reference: GateDip) -> DipError:
    """What a dip lost or gained; NaN where the reference absorbs nothing there."""
    area = 100.0 * (found.area / reference.area - 1.0) if reference.area > 0 else float("nan")
    return DipError(area, found.centroid_nm - reference.centroid_nm, found.depth - reference.depth)


def dips_table(capture: Capture, limit_pct: float) -> Table | None:
    """Every dip of a capture, raw and denoised; None where its reference has none."""
    centres_K = find_dips(capture.reference_L[None], capture.wavelength_nm, roi_nm=capture.roi_nm)[0]
    rows: list[tuple[str, ...]] = []
    marks: list[Status] = []
    for centre in centres_K[centres_K >= 0].tolist():
        reference, raw, denoised = (
            gate_dip(capture.wavelength_nm, spectrum_L, centre)
            for spectrum_L in (capture.reference_L, capture.raw_L, capture.denoised_L)
        )
        before, after = dip_error(raw, reference), dip_error(denoised, reference)
        rows.append(
            (
                f"{capture.wavelength_nm[centre]:.1f} nm", f"{1e3 * reference.depth:.2f}",
                _said(before.area_pct, "+.1f", " %"), _said(after.area_pct, "+.1f", " %"),
                _said(before.centroid_nm, "+.2f", " nm"), _said(after.centroid_nm, "+.2f", " nm"),
                _said(1e3 * before.depth, "+.2f"), _said(1e3 * after.depth, "+.2f"),
            )
        )  # fmt: skip
        marks.append("pass" if abs(after.area_pct) <= limit_pct else "fail")
    if not rows:
        return None
    return Table(
        f"Dip by dip, {capture.title}",
        ("dip", "depth (10⁻³)", "area, raw", "area, denoised", "centroid, raw", "centroid, denoised",
         "depth, raw (10⁻³)", "depth, denoised (10⁻³)"),
        tuple(rows),
        tuple(marks),
        note=f"Errors against the reference. Marked: an area error beyond {limit_pct:g} %. Gate 3 takes the median of "
        "a capture's dips, so that single ones may lie far beyond it.",
    )  # fmt: skip


def _said(value: float, form: str, unit: str = "") -> str:
    return f"{value:{form}}{unit}".replace("-", "−") if np.isfinite(value) else NO_VALUE
