"""Bringing a reconstruction onto the reference's scale, and asking whether it lies where it should.

One complex factor is free in ptychography and is fitted. A shift is measured for every arm and applied to none while
the probe is known and fixed: it would hide a fault.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ptycho_core.metrics.masked import bounding_box

Complex = NDArray[np.complexfloating]
Mask = NDArray[np.bool_]
UPSAMPLE = 50


@dataclass(frozen=True)
class Aligned:
    """A reconstruction times the best complex factor, that factor's size, and the shift (y, x) that was measured."""

    image: NDArray[np.complex128]
    scale: float
    shift_yx: tuple[float, float]


def align(image: Complex, reference: Complex, mask: Mask) -> Aligned:
    """Least-squares complex factor over the mask; the shift is that which would bring the image onto the reference."""
    found, wanted = image[mask].astype(np.complex128), reference[mask].astype(np.complex128)
    energy = float((np.abs(found) ** 2).sum())
    factor = complex(np.vdot(found, wanted)) / energy if energy > 0 else complex(1)
    scaled = image.astype(np.complex128) * factor
    box = bounding_box(mask)
    lit = mask[box]
    one, other = (np.where(lit, values[box] - values[mask].mean(), 0) for values in (scaled, reference))
    return Aligned(scaled, abs(factor), measured_shift(one, other))


def measured_shift(image: Complex | NDArray[np.floating], reference: Complex | NDArray[np.floating],
                   upsample: int = UPSAMPLE) -> tuple[float, float]:  # fmt: skip
    """The shift (y, x), to 1/`upsample` px, that brings `image` onto `reference`: peak of their cross-correlation.

    First to whole pixels, then on a fine grid around it by a matrix product instead of a padded transform.
    """
    product = np.fft.fft2(reference) * np.fft.fft2(image).conj()
    if not np.abs(product).any():
        return 0.0, 0.0
    whole = np.unravel_index(np.argmax(np.abs(np.fft.ifft2(product))), product.shape)
    coarse = np.array([place - side if place > side // 2 else place
                       for place, side in zip(whole, product.shape, strict=True)])  # fmt: skip
    steps = np.arange(-int(1.5 * upsample) // 2, int(1.5 * upsample) // 2 + 1) / upsample
    kernels = [
        np.exp(2j * np.pi * np.outer(centre + steps, np.fft.fftfreq(side)))
        for centre, side in zip(coarse, product.shape, strict=True)
    ]
    fine = np.abs(kernels[0] @ product @ kernels[1].T)
    row, column = np.unravel_index(np.argmax(fine), fine.shape)
    return float(coarse[0] + steps[row]), float(coarse[1] + steps[column])


def phase_and_amplitude(image: Complex, reference: Complex, mask: Mask) -> tuple[NDArray[np.float64], ...]:
    """(phase of the image, phase of the reference, amplitudes of both), phases turned by the reference's mean."""
    turn = np.exp(-1j * np.angle(reference[mask].mean()))
    return (
        np.angle(image * turn).astype(np.float64), np.angle(reference * turn).astype(np.float64),
        np.abs(image).astype(np.float64), np.abs(reference).astype(np.float64),
    )  # fmt: skip
