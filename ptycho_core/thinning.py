"""Photons split in two: what the network sees, and what it is judged by.

A Poisson count thinned with probability p gives two independent Poisson counts of p lam and (1-p) lam, so nothing can
be gained by copying the noise of the first.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def thin(counts: NDArray[Any], p: float, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(seen, held out), which add up to the counts. p = 1: everything is seen, and judged by itself."""
    if p >= 1:
        whole = counts.astype(np.int64)
        return whole, whole
    seen = rng.binomial(counts, p)
    return seen, counts - seen
