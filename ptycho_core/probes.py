"""The probe: the study's own curved wave, what is measured of any probe, and what its curvature means.

A probe is complex (N, N) on the object's grid, the sum of abs² is 1, its far field is `fftshift(fft2(ifftshift(P)))`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ptycho_core.design import LensProbe

Complex = NDArray[np.complexfloating]


def lens(n: int, design: LensProbe | None = None) -> NDArray[np.complex64]:
    """The study's probe (N, N). Wavefront coefficients are stated at N = 64 and grow with N, so d90 stays .65 N."""
    d = design or LensProbe()
    scale = n / 64
    radius = d.radius * n / 2
    bins = np.arange(n) - n // 2
    v = ((bins - scale * d.offset_vu[0]) / radius)[:, None]
    u = ((bins - scale * d.offset_vu[1]) / radius)[None, :]
    rho2 = v * v + u * u
    amplitude = 1 / (1 + np.exp((np.sqrt(rho2) - 1) * radius / d.edge_px))
    phase = scale * (
        d.defocus * rho2
        + d.astigmatism[0] * (v * v - u * u)
        + 2 * d.astigmatism[1] * u * v
        + (d.coma[0] * v + d.coma[1] * u) * (3 * rho2 - 2)
    )
    v0, u0 = d.dimple_vu
    phase = phase + d.dimple * np.exp(-((v - v0) ** 2 + (u - u0) ** 2) / (2 * d.dimple_sigma**2))
    field = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(amplitude * np.exp(1j * phase)), norm="ortho"))
    return normalised(field)


def normalised(probe: Complex) -> NDArray[np.complex64]:
    """The same probe with a sum of abs² of 1, as complex64."""
    wide = probe.astype(np.complex128)
    return np.asarray(wide / np.sqrt(np.sum(np.abs(wide) ** 2)), dtype=np.complex64)


@dataclass(frozen=True)
class ProbeFacts:
    """What is measured of a probe, px: centre of mass (y, x from the array's corner) and diameters."""

    centre_y: float
    centre_x: float
    rms_diameter: float
    d90: float
    d99: float
    curvature_rad: float
    """Phase that the r² term adds from the pupil's centre to its edge; its sign says upright or inverted."""
    pupil_radius: float
    """Radius of a uniform pupil with the same second moment, frequency bins."""
    magnification: float
    """Spot diameter (d90) in px over pupil diameter in bins: 1 makes the pattern a 1:1 shadow of the object."""

    def sentence(self) -> str:
        """The facts in a line, with what the curvature's sign means for a local network."""
        upright = "as the study's own probe" if self.curvature_rad < 0 else "INVERTED against the study's own probe"
        return (
            f"rms {self.rms_diameter:.1f}, d90 {self.d90:.1f}, d99 {self.d99:.1f} px; pupil radius "
            f"{self.pupil_radius:.1f} bins, r² term {self.curvature_rad:+.1f} rad ({upright}), "
            f"magnification {self.magnification:.2f}"
        )


def probe_facts(probe: Complex, lit_energy: float = 0.9) -> ProbeFacts:
    """Measure a probe; `d90` holds the share `lit_energy` of it."""
    n = len(probe)
    intensity = np.abs(probe.astype(np.complex128)) ** 2
    intensity /= intensity.sum()
    y, x = np.mgrid[:n, :n].astype(float)
    centre_y, centre_x = float((intensity * y).sum()), float((intensity * x).sum())
    r2 = (y - centre_y) ** 2 + (x - centre_x) ** 2
    order = np.argsort(r2, axis=None)
    energy = np.cumsum(intensity.ravel()[order])
    inside, most = np.sqrt(r2.ravel()[order][np.searchsorted(energy, [lit_energy, 0.99])])
    curvature, radius = _pupil(probe)
    d90 = float(2 * inside)
    return ProbeFacts(
        centre_y=centre_y, centre_x=centre_x, rms_diameter=float(2 * np.sqrt((intensity * r2).sum())),
        d90=d90, d99=float(2 * most), curvature_rad=curvature, pupil_radius=radius, magnification=d90 / (2 * radius),
    )  # fmt: skip


def _pupil(probe: Complex) -> tuple[float, float]:
    """(r² term at the edge in rad, radius in bins): a weighted plane through the phase steps from bin to bin.

    Steps are taken as products of neighbours, so that no phase is unwrapped; the mean step is turned away first.
    """
    far = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(probe.astype(np.complex128))))
    weight = np.abs(far) ** 2
    weight /= weight.sum()
    v, u = np.mgrid[: len(far), : len(far)].astype(float)
    second = (weight * ((v - (weight * v).sum()) ** 2 + (u - (weight * u).sum()) ** 2)).sum()
    radius = float(np.sqrt(2 * second))
    slopes = []
    for axis, coordinate in ((0, v), (1, u)):
        step = np.diff(coordinate, axis=axis) / 2 + np.take(coordinate, range(len(far) - 1), axis=axis)
        low, high = (np.take(far, rows, axis=axis) for rows in (range(len(far) - 1), range(1, len(far))))
        product = high * low.conj()
        angle = np.angle(product * np.conj(product.sum()))
        w = np.abs(product) / np.abs(product).sum()
        centred = step - (w * step).sum()
        slopes.append((w * centred * angle).sum() / (w * centred**2).sum())
    return float(np.mean(slopes) / 2 * radius**2), radius
