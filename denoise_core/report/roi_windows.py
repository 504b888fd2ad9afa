"""ROI windows: the strongest dips of one capture, a panel each, raw and denoised above their own baselines.

The idea is the published `plot_roi_windows`: windows of ±7 nm around at most 6 dips that stand at least 3 nm
apart, a quadratic baseline outside a guard, absorption as a shaded area. Dips are those of the reference. The
published guard of 10 nm is wider than the window, so that the dip itself bends its baseline and a shift of
0.5 nm reads as 0.01; here it is at most half the window, as in the training's dip loss.
Shapes: L wavelengths of the grid, W samples of a window.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from scipy.signal import find_peaks

from denoise_core.evaluation.dips import GUARD_NM, HALF_WINDOW_NM, MAX_DIPS, NO_ABSORPTION, PROMINENCE, roi_mask
from denoise_core.report.blocks import Picture
from denoise_core.report.labels import CANDIDATE
from denoise_core.report.spectra import Capture, Floats
from denoise_core.report.style import BLACK, PALE, drawing, figure, mark_of, png

WINDOW_NM = 7.0
APART_NM = 3.0
INSIDE_NM = min(GUARD_NM, WINDOW_NM / 2)

_CAPTION = (
    f"Windows of ±{WINDOW_NM:g} nm around the reference's {{dips}} strongest dips, at least {APART_NM:g} nm apart. "
    f"Dotted: quadratic baseline of each spectrum, fitted outside a guard of ±{INSIDE_NM:g} nm. Shaded: absorption of "
    "the denoised capture inside the guard; its area and centroid against the reference's stand above each panel. Gate "
    f"3 measures more closely: over the grey band of ±{HALF_WINDOW_NM:g} nm, with a baseline of its own."
)


@dataclass(frozen=True)
class Window:
    """One dip of a capture: samples (W,), absorption of each spectrum over its own baseline, and its errors."""

    centre_nm: float
    sample_W: NDArray[np.int64]
    baseline: dict[str, Floats]
    area: dict[str, float]
    centroid_nm: dict[str, float]

    @property
    def area_error_pct(self) -> float:
        """Of the denoised area against the reference's; NaN where the reference has none."""
        if self.area["reference"] < NO_ABSORPTION:
            return float("nan")
        return 100.0 * (self.area["denoised"] / self.area["reference"] - 1.0)

    @property
    def centroid_error_nm(self) -> float:
        """Shift of the absorption-weighted wavelength against the reference."""
        return self.centroid_nm["denoised"] - self.centroid_nm["reference"]


def strongest_dips(spectrum_L: Floats, wavelength_nm: Floats) -> NDArray[np.int64]:
    """Indices of at most 6 minima in the ROI, prominence ≥ 0.002, most prominent first kept, ≥ 3 nm apart; rising."""
    inside = np.flatnonzero(roi_mask(wavelength_nm))
    peaks, found = find_peaks(-spectrum_L[inside], prominence=PROMINENCE)
    kept: list[int] = []
    for index in inside[peaks[np.argsort(-found["prominences"], kind="stable")]]:
        if all(abs(wavelength_nm[index] - wavelength_nm[other]) >= APART_NM for other in kept):
            kept.append(int(index))
    return np.sort(np.array(kept[:MAX_DIPS], dtype=np.int64))


def windows(capture: Capture) -> list[Window]:
    """The windows of the reference's strongest dips."""
    return [_window(capture, int(index)) for index in strongest_dips(capture.reference_L, capture.wavelength_nm)]


def _window(capture: Capture, centre: int) -> Window:
    grid_nm = capture.wavelength_nm
    sample_W = np.flatnonzero(np.abs(grid_nm - grid_nm[centre]) <= WINDOW_NM + 1e-9)
    offset_W = grid_nm[sample_W] - grid_nm[centre]
    outside_W = np.abs(offset_W) >= INSIDE_NM
    baseline, area, centroid = {}, {}, {}
    for name, spectrum_L in (
        ("raw", capture.raw_L),
        ("denoised", capture.denoised_L),
        ("reference", capture.reference_L),
    ):
        value_W = spectrum_L[sample_W]
        curve = np.polynomial.Polynomial.fit(offset_W[outside_W], value_W[outside_W], 2)
        baseline[name] = curve(offset_W)
        absorption_W = np.where(outside_W, 0.0, np.maximum(baseline[name] - value_W, 0.0))
        area[name] = float(np.trapezoid(absorption_W, grid_nm[sample_W]))
        total = absorption_W.sum()
        centroid[name] = float(absorption_W @ grid_nm[sample_W] / total) if total > NO_ABSORPTION else float("nan")
    return Window(float(grid_nm[centre]), sample_W, baseline, area, centroid)


def roi_windows(capture: Capture) -> Picture | None:
    """The windows of one capture as a figure of 2 × 3 panels; None when its reference has no dip."""
    found = windows(capture)
    if not found:
        return None
    rows = -(-len(found) // 3)
    with drawing():
        drawn, axes = figure(rows, 3, height=0.7 + 2.3 * rows)
        for number, (axis, window) in enumerate(zip(axes, found, strict=False), start=1):
            _panel(axis, capture, window)
            axis.set_title(
                f"Dip {number}, {window.centre_nm:.1f} nm\n"
                f"area {window.area_error_pct:+.1f} %, centroid {window.centroid_error_nm:+.2f} nm".replace("-", "−")
            )
        for axis in axes[len(found) :]:
            axis.set_axis_off()
        for axis in axes[::3]:
            axis.set_ylabel("reflectance")
        for axis in axes[max(0, len(found) - 3) : len(found)]:
            axis.set_xlabel("wavelength (nm)")
        handles, labels = axes[0].get_legend_handles_labels()
        drawn.legend(handles, labels, loc="outside upper center", ncols=len(labels))
        told = "; ".join(
            f"{window.centre_nm:.1f} nm: area {window.area_error_pct:+.1f} %, "
            f"centroid {window.centroid_error_nm:+.2f} nm"
            for window in found
        )
        return Picture(
            f"ROI windows, {capture.title}",
            png(drawn),
            f"The {len(found)} strongest dips of one capture, raw and denoised with their baselines. {told}.",
            _CAPTION.format(dips=len(found)),
        )


def _panel(axis: Axes, capture: Capture, window: Window) -> None:
    grid_nm = capture.wavelength_nm[window.sample_W]
    axis.axvspan(window.centre_nm - HALF_WINDOW_NM, window.centre_nm + HALF_WINDOW_NM, color=PALE, zorder=0)
    raw, denoised = mark_of("raw"), mark_of(CANDIDATE)
    axis.plot(grid_nm, capture.raw_L[window.sample_W], color=raw.colour, lw=1.0, label="raw")
    value_W = capture.denoised_L[window.sample_W]
    axis.plot(grid_nm, value_W, color=denoised.colour, lw=1.6, label="denoised")
    axis.plot(grid_nm, capture.reference_L[window.sample_W], color=BLACK, lw=1.0, ls="--", label="reference")
    for name, mark in (("raw", raw), ("denoised", denoised)):
        axis.plot(grid_nm, window.baseline[name], color=mark.colour, lw=1.0, ls=":", label=f"baseline, {name}")
    inside_W = np.abs(grid_nm - window.centre_nm) <= INSIDE_NM
    below_W = inside_W & (value_W < window.baseline["denoised"])
    axis.fill_between(grid_nm, value_W, window.baseline["denoised"], where=below_W.tolist(), color=denoised.colour,
                      alpha=0.25, lw=0)  # fmt: skip
