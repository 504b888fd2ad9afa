"""One reconstruction against the truth over one mask: every number of a row, and the ring curves behind two of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ptycho_core.design import MetricsDesign
from ptycho_core.metrics.align import Aligned, align, phase_and_amplitude
from ptycho_core.metrics.frc import RingCorrelation, ring_correlation
from ptycho_core.metrics.masked import bounding_box
from ptycho_core.metrics.msssim import ms_ssim

Complex = NDArray[np.complexfloating]
Mask = NDArray[np.bool_]
Real = NDArray[np.float64]
ROLL_PX = 60
"""How far a prediction is moved sideways to see what right statistics in the wrong place would score."""


@dataclass(frozen=True)
class Scores:
    """Numbers by name, and the ring correlations of phase and amplitude."""

    numbers: dict[str, float]
    phase_rings: RingCorrelation
    amplitude_rings: RingCorrelation


def aligned_to(image: Complex, truth: Complex, mask: Mask) -> Aligned:
    """`image` on the truth's scale, kept in single precision: what is archived is what is scored."""
    found = align(image, truth, mask)
    return Aligned(found.image.astype(np.complex64), found.scale, found.shift_yx)


def scores(image: Complex, truth: Complex, mask: Mask, design: MetricsDesign) -> Scores:
    """Score an aligned image (H, W). Phases in rad, amplitudes as transmission, FRC50 as a fraction of Nyquist.

    Raises:
        BadInput: the mask is too small for the metrics of the design.
    """
    phase, true_phase, amplitude, transmission = phase_and_amplitude(image, truth, mask)
    phase_rings = ring_correlation(phase, true_phase, mask, block=design.frc_block)
    amplitude_rings = ring_correlation(amplitude, transmission, mask, block=design.frc_block)
    off = np.angle(np.exp(1j * (phase - true_phase)))
    numbers = {
        "ph_ms_ssim": ms_ssim(phase, true_phase, mask, sigma=design.ms_ssim_sigma, levels=design.ms_ssim_levels),
        "am_ms_ssim": ms_ssim(amplitude, transmission, mask, sigma=design.ms_ssim_sigma, levels=design.ms_ssim_levels),
        **_errors("ph", off[mask], true_phase[mask]),
        **_errors("am", (amplitude - transmission)[mask], transmission[mask]),
        "ph_frc50": phase_rings.crossing(design.frc_threshold),
        "am_frc50": amplitude_rings.crossing(design.frc_threshold),
        "nrmse": float(np.linalg.norm((image - truth)[mask]) / np.linalg.norm(truth[mask])),
        "rolled_ph_ms_ssim": _rolled(image, truth, mask, design),
    }
    return Scores(numbers, phase_rings, amplitude_rings)


def _errors(name: str, off: Real, wanted: Real) -> dict[str, float]:
    mse = float((off**2).mean())
    span = float(np.ptp(wanted))
    psnr = 10 * np.log10(span**2 / mse) if mse > 0 and span > 0 else float("inf") if span > 0 else float("nan")
    return {f"{name}_mae": float(np.abs(off).mean()), f"{name}_mse": mse, f"{name}_psnr": float(psnr)}


def _rolled(image: Complex, truth: Complex, mask: Mask, design: MetricsDesign) -> float:
    """Phase MS-SSIM of the same image in the wrong place, moved sideways within the lit rectangle."""
    box = bounding_box(mask)
    moved, wanted, lit = np.roll(image[box], ROLL_PX, axis=1), truth[box], mask[box]
    phase, true_phase, *_ = phase_and_amplitude(align(moved, wanted, lit).image, wanted, lit)
    return ms_ssim(phase, true_phase, lit, sigma=design.ms_ssim_sigma, levels=design.ms_ssim_levels)
