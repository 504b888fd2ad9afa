"""ROI windows: the strongest dips of one capture, a panel each, raw and denoised above their own baselines.

The idea is the published `plot_roi_windows`: windows of ±7 nm around at most 6 dips that stand at least 3 nm
apart, a quadratic baseline outside a guard. Two things differ. The published guard of 10 nm is wider than the
window, so that the dip bends its own baseline; here it is at most half the window, as in the training's dip
loss. And the figures of a dip are gate 3's, over ±2 nm: wider ones mix in the neighbours, 3 nm away.
Shapes: L wavelengths of the grid, W samples of a window.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from scipy.signal import find_peaks

from denoise_core.evaluation.dips import (
    GUARD_NM,
    HALF_WINDOW_NM,
    MAX_DIPS,
    NO_ABSORPTION,
    PROMINENCE,
    ROI_NM,
    Roi,
    roi_mask,
)
from denoise_core.report.labels import CANDIDATE
from denoise_core.report.spectra import Capture, Floats
from denoise_core.report.style import mark_of
from study_core.report.blocks import Picture
from study_core.report.style import BLACK, PALE, drawing, figure, legend, png

WINDOW_NM = 7.0
APART_NM = 3.0
INSIDE_NM = min(GUARD_NM, WINDOW_NM / 2)

_CAPTION = (
    f"Windows of ±{WINDOW_NM:g} nm around the reference's {{dips}} strongest dips, at least {APART_NM:g} nm apart. "
    f"Dotted: quadratic baseline of raw and denoised, fitted outside a guard of ±{INSIDE_NM:g} nm. Grey band: the "
    f"±{HALF_WINDOW_NM:g} nm over which gate 3 measures, each spectrum below a quadratic baseline of its own (shaded: "
    "the denoised absorption); the figures above a panel are that dip's area and centroid against the reference's."
)


@dataclass(frozen=True)
class Window:
    """One dip of a capture: its samples (W,), the wide baselines (W,), and gate 3's figures of each spectrum."""

    centre_nm: float
    sample_W: NDArray[np.int64]
    baseline: dict[str, Floats]
    gate: dict[str, GateDip]

    @property
    def area_error_pct(self) -> float:
        """Of the denoised area against the reference's; NaN where the reference has none."""
        own, reference = self.gate["denoised"].area, self.gate["reference"].area
        return 100.0 * (own / reference - 1.0) if reference >= NO_ABSORPTION else float("nan")

    @property
    def centroid_error_nm(self) -> float:
        """Shift of the absorption-weighted wavelength against the reference."""
        return self.gate["denoised"].centroid_nm - self.gate["reference"].centroid_nm


@dataclass(frozen=True)
class GateDip:
    """What gate 3 measures of one spectrum at one dip: samples within ±2 nm, baseline there, area, centroid, depth."""

    sample_W: NDArray[np.int64]
    baseline_W: Floats
    area: float
    centroid_nm: float
    depth: float


def strongest_dips(spectrum_L: Floats, wavelength_nm: Floats, roi_nm: Roi = ROI_NM) -> NDArray[np.int64]:
    """Indices of at most 6 minima in the ROI, prominence ≥ 0.002, most prominent first kept, ≥ 3 nm apart; rising."""
    inside = np.flatnonzero(roi_mask(wavelength_nm, roi_nm))
    peaks, found = find_peaks(-spectrum_L[inside], prominence=PROMINENCE)
    kept: list[int] = []
    for index in inside[peaks[np.argsort(-found["prominences"], kind="stable")]]:
        if all(abs(wavelength_nm[index] - wavelength_nm[other]) >= APART_NM for other in kept):
            kept.append(int(index))
    return np.sort(np.array(kept[:MAX_DIPS], dtype=np.int64))


def windows(capture: Capture) -> list[Window]:
    """The windows of the reference's strongest dips."""
    grid_nm, spectra = capture.wavelength_nm, capture.spectra
    found = []
    for centre in strongest_dips(capture.reference_L, grid_nm, capture.roi_nm):
        sample_W = _within(grid_nm, centre, WINDOW_NM)
        outside_W = np.abs(grid_nm[sample_W] - grid_nm[centre]) >= INSIDE_NM
        baseline = {name: _quadratic(grid_nm, x_L, sample_W, sample_W[outside_W]) for name, x_L in spectra.items()}
        gate = {name: gate_dip(grid_nm, x_L, int(centre)) for name, x_L in spectra.items()}
        found.append(Window(float(grid_nm[centre]), sample_W, baseline, gate))
    return found


def gate_dip(grid_nm: Floats, spectrum_L: Floats, centre: int) -> GateDip:
    """Gate 3's measure of one dip: quadratic baseline over ±2 nm, absorption below it."""
    sample_W = _within(grid_nm, centre, HALF_WINDOW_NM)
    baseline_W = _quadratic(grid_nm, spectrum_L, sample_W, sample_W)
    absorption_W = np.maximum(baseline_W - spectrum_L[sample_W], 0.0)
    total = float(absorption_W.sum())
    centroid = float(absorption_W @ grid_nm[sample_W]) / total if total > NO_ABSORPTION else float("nan")
    area = float(np.trapezoid(absorption_W, grid_nm[sample_W]))
    return GateDip(sample_W, baseline_W, area, centroid, float(absorption_W.max()))


def _within(grid_nm: Floats, centre: int, half_nm: float) -> NDArray[np.int64]:
    return np.flatnonzero(np.abs(grid_nm - grid_nm[centre]) <= half_nm + 1e-9)


def _quadratic(grid_nm: Floats, spectrum_L: Floats, at_W: NDArray[np.int64], fitted: NDArray[np.int64]) -> Floats:
    """Least-squares quadratic through the samples `fitted`, evaluated at `at_W`."""
    curve = np.polynomial.Polynomial.fit(grid_nm[fitted], spectrum_L[fitted], 2)
    return np.asarray(curve(grid_nm[at_W]))


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
        legend(drawn, handles, labels)
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
    dip = window.gate["denoised"]
    own_W = capture.denoised_L[dip.sample_W]
    axis.fill_between(capture.wavelength_nm[dip.sample_W], own_W, dip.baseline_W,
                      where=(own_W < dip.baseline_W).tolist(), color=denoised.colour, alpha=0.3, lw=0)  # fmt: skip
