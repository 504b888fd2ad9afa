"""Multi-scale structural similarity over lit pixels only.

With a full mask and no blur it is the usual one (11-tap Gaussian of 1.5 px, K .01 and .03, windows inside the frame).
Under a mask every local moment is normalised by the lit weight of its window, and a window counts where its centre is
lit, half its weight is lit and it lies inside the frame. Scores of different numbers of levels do not compare.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d, gaussian_filter

from study_core.errors import BadInput

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
TAPS, SIGMA, K1, K2 = 11, 1.5, 0.01, 0.03
LEAST_WINDOWS = 64
Image = NDArray[np.float64]
Mask = NDArray[np.bool_]


def ms_ssim(image: Image, reference: Image, mask: Mask | None = None, *, sigma: float = 1.0, levels: int = 3) -> float:
    """Similarity of an image (H, W) to a reference, 1 for equal ones, over the mask.

    Both are blurred by `sigma` px first. The range is that of the reference over the mask.

    Raises:
        BadInput: fewer than 64 windows at a level, which is named.
    """
    lit = np.ones(reference.shape, dtype=bool) if mask is None else mask
    span = float(np.ptp(reference[lit])) if lit.any() else 0.0
    one, other = (_blurred(np.where(lit, values, 0.0), lit, sigma) for values in (image, reference))
    weights = np.array(WEIGHTS[:levels]) / sum(WEIGHTS[:levels])
    score = 1.0
    for level in range(levels):
        full, contrast = _level(one, other, lit, span, level)
        term = full if level == levels - 1 else contrast
        score *= max(term, 0.0) ** weights[level]
        if level < levels - 1:
            one, _ = _halved(one, lit)
            other, lit = _halved(other, lit)
    return float(score)


def _level(one: Image, other: Image, lit: Mask, span: float, level: int) -> tuple[float, float]:
    """(mean SSIM, mean contrast and structure) over the windows that count."""
    weight = _window(lit.astype(float))
    border = TAPS // 2
    counts = lit & (weight >= 0.5)
    inside = np.zeros_like(counts)
    inside[border : counts.shape[0] - border, border : counts.shape[1] - border] = True
    counts &= inside
    if counts.sum() < LEAST_WINDOWS:
        raise BadInput(
            f"MS-SSIM level {level + 1}: {int(counts.sum())} windows are lit, {LEAST_WINDOWS} are needed",
            remedy="use fewer levels, or a larger scan",
        )

    def mean(values: Image) -> Image:
        return np.asarray(_window(np.where(lit, values, 0.0))[counts] / weight[counts])

    mu_one, mu_other = mean(one), mean(other)
    var_one, var_other = mean(one * one) - mu_one**2, mean(other * other) - mu_other**2
    covariance = mean(one * other) - mu_one * mu_other
    c1, c2 = (K1 * span) ** 2, (K2 * span) ** 2
    contrast = (2 * covariance + c2) / (var_one + var_other + c2)
    full = (2 * mu_one * mu_other + c1) / (mu_one**2 + mu_other**2 + c1) * contrast
    return float(full.mean()), float(contrast.mean())


def _window(values: Image) -> Image:
    taps = np.exp(-((np.arange(TAPS) - TAPS // 2) ** 2) / (2 * SIGMA**2))
    taps /= taps.sum()
    rows = correlate1d(values, taps, axis=0, mode="constant")
    return np.asarray(correlate1d(rows, taps, axis=1, mode="constant"))


def _blurred(values: Image, lit: Mask, sigma: float) -> Image:
    if sigma <= 0:
        return values
    weight = gaussian_filter(lit.astype(float), sigma, mode="constant")
    blurred = gaussian_filter(values, sigma, mode="constant")
    return np.where(lit, blurred / np.maximum(weight, 1e-12), 0.0)


def _halved(values: Image, lit: Mask) -> tuple[Image, Mask]:
    """Means of 2 x 2 blocks over their lit pixels; a block is lit where half of it is."""
    height, width = (side // 2 * 2 for side in values.shape)

    def sums(array: Image) -> Image:
        return np.asarray(array[:height, :width].reshape(height // 2, 2, width // 2, 2).sum(axis=(1, 3)))

    weight = sums(lit.astype(float))
    return np.where(weight > 0, sums(np.where(lit, values, 0.0)) / np.maximum(weight, 1), 0.0), weight >= 2
