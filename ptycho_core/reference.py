"""rPIE in numpy, one pattern at a time: the plain reference that holds the forward model to account.

With noise-free patterns and the known probe it returns the object itself; anything wrong in positions, transform or
scale shows. It is no arm of the study.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ptycho_core.contract import Dataset

ALPHA, MOMENTUM = 0.05, 0.7


def rpie(
    amplitudes: NDArray[np.floating],
    probe: NDArray[np.complexfloating],
    ys: NDArray[np.int64],
    xs: NDArray[np.int64],
    start: NDArray[np.complexfloating],
    *,
    epochs: int = 60,
    seed: int = 0,
    momentum: float = MOMENTUM,
) -> NDArray[np.complex128]:
    """The object (H, W) from amplitudes (n, N, N), DC centred, at whole-pixel centres, from `start`.

    Each epoch visits every pattern once, in an order drawn from `seed`; its change enters a heavy ball.
    """
    image, n = start.astype(np.complex128), len(probe)
    wide = probe.astype(np.complex128)
    power = np.abs(wide) ** 2
    step = wide.conj() / ((1 - ALPHA) * power + ALPHA * power.max())
    measured = np.fft.ifftshift(amplitudes, axes=(1, 2)).astype(np.float64)
    rng, velocity = np.random.default_rng(seed), np.zeros_like(image)
    for _ in range(epochs):
        before = image.copy()
        for row in rng.permutation(len(ys)):
            top, left = ys[row] - n // 2, xs[row] - n // 2
            patch = image[top : top + n, left : left + n]
            wave = wide * patch
            far = np.fft.fft2(wave, norm="ortho")
            size = np.abs(far)
            ahead = np.fft.ifft2(far * (measured[row] / np.where(size > 0, size, 1)), norm="ortho")
            patch += step * (ahead - wave)
        velocity = momentum * velocity + (image - before)
        image = before + velocity
    return image


def crop(data: Dataset, side: int) -> NDArray[np.int64]:
    """Rows of the patterns whose patches lie in the first `side` x `side` pixels of the scanned field."""
    n = data.probe.shape[0]
    top, left = data.y.min() - n // 2, data.x.min() - n // 2
    inside = (data.y + n // 2 <= top + side) & (data.x + n // 2 <= left + side)
    return np.flatnonzero(inside).astype(np.int64)
