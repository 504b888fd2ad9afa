"""Fourier ring correlation over blocks that are wholly lit.

Over a whole image with a mask the holes themselves correlate: both images share them, and noise scores 1. So only
disjoint blocks without a hole are transformed, and their ring sums added.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from study_core.errors import BadInput

Image = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class RingCorrelation:
    """Correlation per ring (from the first, the mean is removed), at fractions of the Nyquist frequency."""

    frequency: Image
    correlation: Image
    blocks: int

    def crossing(self, threshold: float = 0.5) -> float:
        """Where it first falls below the threshold, as a fraction of Nyquist: 1.0 if never, 0.0 if from the start."""
        below = np.flatnonzero(self.correlation < threshold)
        if not len(below):
            return 1.0
        first = int(below[0])
        if first == 0:
            return 0.0
        high, low = self.correlation[first - 1], self.correlation[first]
        share = (high - threshold) / (high - low)
        return float(self.frequency[first - 1] + share * (self.frequency[first] - self.frequency[first - 1]))


def lit_blocks(mask: Mask, side: int) -> list[tuple[slice, slice]]:
    """Disjoint squares without a hole: from the top left in reading order, each that no earlier one overlaps."""
    if min(mask.shape) < side:
        return []
    holes = np.pad(np.cumsum(np.cumsum(~mask, axis=0), axis=1), ((1, 0), (1, 0)))
    whole = (holes[side:, side:] - holes[:-side, side:] - holes[side:, :-side] + holes[:-side, :-side]) == 0
    blocks = []
    for y in range(whole.shape[0]):
        while (row := whole[y]).any():
            x = int(row.argmax())
            blocks.append((slice(y, y + side), slice(x, x + side)))
            whole[y : y + side, max(0, x - side + 1) : x + side] = False
    return blocks


def ring_correlation(image: Image, reference: Image, mask: Mask | None = None, *, block: int = 32) -> RingCorrelation:
    """Correlation of two real images (H, W), ring by ring.

    Raises:
        BadInput: no block of the mask is wholly lit.
    """
    lit = np.ones(reference.shape, dtype=bool) if mask is None else mask
    places = lit_blocks(lit, block)
    if not places:
        raise BadInput(f"no block of {block} px is wholly lit", remedy="use a smaller frc_block, or a larger scan")
    window = np.outer(np.hanning(block), np.hanning(block))
    k = np.fft.fftfreq(block) * block
    rings = np.rint(np.hypot(k[:, None], k[None, :])).astype(int)
    sums = np.zeros((3, block))
    for place in places:
        one, other = (np.fft.fft2((values[place] - values[place].mean()) * window) for values in (image, reference))
        for row, product in enumerate(((one * other.conj()).real, np.abs(one) ** 2, np.abs(other) ** 2)):
            sums[row] += np.bincount(rings.ravel(), product.ravel(), minlength=block)[:block]
    numbers = np.arange(1, block // 2 + 1)
    cross, first, second = sums[:, numbers]
    norm = np.sqrt(first * second)
    correlation = np.where(norm > 0, cross / np.where(norm > 0, norm, 1), 0.0)
    return RingCorrelation(numbers / (block / 2), correlation, len(places))
