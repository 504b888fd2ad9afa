"""The object: dead leaves, a random pile of discs that occlude each other, as transmission and phase.

Discs of power-law sizes give edges at every scale and the same statistics in both halves of the frame.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

RADIUS_MIN, RADIUS_MAX, MARGIN, PX_PER_DISC, BLUR = 2.5, 24.0, 24.0, 60, 0.7
ABSORPTION, PHASE, SECOND_SEED = 0.35, -1.4, 1000


def dead_leaves(shape: tuple[int, int], seed: int) -> NDArray[np.float64]:
    """Thickness in 0..1 of H x W pixels: discs of radius density r^-3, later ones on top, edges blurred by 0.7 px."""
    height, width = shape
    rng = np.random.default_rng(seed)
    count = int(height * width / PX_PER_DISC)
    low, high = RADIUS_MIN**-2, RADIUS_MAX**-2
    radii = (low + rng.random(count) * (high - low)) ** -0.5
    ys = rng.uniform(-MARGIN, height + MARGIN, count)
    xs = rng.uniform(-MARGIN, width + MARGIN, count)
    values = rng.random(count)
    thickness = np.zeros(shape)
    for r, y, x, value in zip(radii, ys, xs, values, strict=True):
        top, bottom = max(0, int(y - r)), min(height, int(y + r) + 2)
        left, right = max(0, int(x - r)), min(width, int(x + r) + 2)
        if top >= bottom or left >= right:
            continue
        yy, xx = np.ogrid[top:bottom, left:right]
        thickness[top:bottom, left:right][(yy - y) ** 2 + (xx - x) ** 2 <= r * r] = value
    return np.asarray(gaussian_filter(thickness, BLUR))


def synthetic_object(shape: tuple[int, int], seed: int) -> NDArray[np.complex64]:
    """Complex transmission (H, W): thickness sets the phase, thickness and a second pile of discs the absorption."""
    t = dead_leaves(shape, seed)
    other = dead_leaves(shape, seed + SECOND_SEED)
    transmission = np.exp(-ABSORPTION * (0.7 * t + 0.3 * other)) * np.exp(1j * PHASE * (t - t.mean()))
    return np.asarray(transmission, dtype=np.complex64)
