"""Do predicted rates explain the counts? The Poisson deviance, held against what a perfect prediction would show.

The ratio D/E needs no truth: 1 is explained, below 1 noise was fitted, above 1 something is unexplained. Two uses:
*stitched* rates come from the joined object, *patch* rates from the patch that was made of the very pattern. Only the
patch ratio shows copied noise; joining averages it away.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

_TINY = 1e-12


def deviance(counts: NDArray[Any], rates: NDArray[Any]) -> float:
    """D = 2 mean[k ln(k/lam) - k + lam] over all pixels."""
    return float(_sum(counts, rates) / counts.size)


class ReducedDeviance:
    """D/E over patterns that come in batches; E is the deviance of one Poisson draw of the same rates (seed 0)."""

    def __init__(self, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)
        self._found = self._expected = 0.0
        self._pixels = 0

    def add(self, counts: NDArray[Any], rates: NDArray[Any]) -> None:
        """Patterns (n, N, N) and their predicted rates."""
        wide = np.maximum(rates.astype(np.float64), 0)
        self._found += _sum(counts, wide)
        self._expected += _sum(self._rng.poisson(wide), wide)
        self._pixels += counts.size

    @property
    def deviance(self) -> float:
        """D of what was added."""
        return self._found / self._pixels if self._pixels else float("nan")

    @property
    def ratio(self) -> float:
        """D/E; NaN where nothing was added."""
        return self._found / self._expected if self._expected > 0 else float("nan")


def reduced_deviance(counts: NDArray[Any], rates: NDArray[Any], seed: int = 0) -> float:
    """D/E of patterns (n, N, N) at once."""
    total = ReducedDeviance(seed)
    total.add(counts, rates)
    return total.ratio


def _sum(counts: NDArray[Any], rates: NDArray[Any]) -> float:
    k, lam = counts.astype(np.float64), np.maximum(rates, _TINY)
    return float(2 * (xlogy(k, k / lam) - k + lam).sum())
