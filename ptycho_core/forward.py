"""From object and probe to photon counts: exit wave, far field, scale of the dose, Poisson noise.

All of it at whole-pixel positions: the patch of a position (y, x) is object[y - N/2 : y + N/2, x - N/2 : x + N/2],
so simulation, training and reconstruction cut the same pixels to the last bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from study_core.errors import BadInput

Complex = NDArray[np.complexfloating]
Whole = NDArray[np.int64]
BATCH = 256
"""Patterns whose exit waves, or whose counts in double precision, are in memory at once."""


def cut(image: NDArray[Any], ys: Whole, xs: Whole, n: int) -> NDArray[Any]:
    """The patches (len(ys), N, N) of an image (H, W) around whole-pixel centres.

    Raises:
        BadInput: a patch leaves the frame, with its row.
    """
    half = n // 2
    height, width = image.shape
    outside = (ys < half) | (ys > height - half) | (xs < half) | (xs > width - half)
    if outside.any():
        row = int(np.argmax(outside))
        what = f"the patch at (y {ys[row]}, x {xs[row]}) leaves the object of {height} x {width} px"
        raise BadInput(what, row=row, remedy="use a larger object, or --tile")
    windows = np.lib.stride_tricks.sliding_window_view(image, (n, n))
    return np.ascontiguousarray(windows[ys - half, xs - half])


def intensities(image: Complex, probe: Complex, ys: Whole, xs: Whole) -> NDArray[np.float64]:
    """A² (n, N, N): far-field intensity of each position, DC centred; its sum is that of |probe · patch|²."""
    n = len(probe)
    result = np.empty((len(ys), n, n))
    wide = probe.astype(np.complex128)
    for start in range(0, len(ys), BATCH):
        part = slice(start, start + BATCH)
        # |FFT| does not see where the origin of the exit wave is, so only the pattern is shifted
        far = np.fft.fft2(wide * cut(image, ys[part], xs[part], n), norm="ortho")
        result[part] = np.fft.fftshift(far.real**2 + far.imag**2, axes=(1, 2))
    return result


def dose_scale(intensity: NDArray[np.float64], dose: float) -> float:
    """s² such that the mean pattern of the whole scan holds `dose` photons: rates are s² A²."""
    return float(dose / intensity.sum(axis=(1, 2)).mean())


def photons(intensity: NDArray[np.float64], s2: float, seed: int) -> NDArray[np.unsignedinteger]:
    """Poisson counts of s² A², in the smallest of uint16 and uint32 that holds them.

    Drawn a few patterns at a time, which is the same stream as all at once in a fraction of the memory.
    """
    rng, parts = np.random.default_rng(seed), []
    for start in range(0, len(intensity), BATCH):
        drawn = rng.poisson(s2 * intensity[start : start + BATCH])
        parts.append(drawn.astype(np.uint16 if drawn.max(initial=0) < 2**16 else np.uint32))
    counts: NDArray[np.unsignedinteger] = np.concatenate(parts)
    return counts


def amplitudes(counts: NDArray[np.unsignedinteger], s: float) -> NDArray[np.float32]:
    """sqrt(counts) / s as it is stored."""
    result = np.empty(counts.shape, np.float32)
    for start in range(0, len(counts), BATCH):
        result[start : start + BATCH] = np.sqrt(counts[start : start + BATCH].astype(np.float64)) / s
    return result
