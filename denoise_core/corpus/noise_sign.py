"""Whether noise rises or falls with the values: a detector's noise grows with the light that falls on it.

Measured inside groups of captures, wavelength by wavelength, so that lamp and detector are the same for all. On the
published corpus the logarithm of the variance rises by 2.27 ± 0.13 for a step of one in reflectance, and falls so in
1 - R. Absorbance cannot be told this way: its noise rises with its values too (3.31 ± 0.03 there).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FEWEST_GROUPS, FEWEST_CAPTURES = 6, 3
SURE = 4.0  # standard errors


def noise_slope(groups: Sequence[NDArray[np.float64]]) -> tuple[float, float] | None:
    """Slope of log noise variance against the mean, and its standard error over groups left out one at a time.

    `groups`: captures (B, L) of each, on one grid. Second differences along the axis leave the noise alone. None where
    there are too few groups of enough captures.
    """
    used = [group_BL for group_BL in groups if len(group_BL) >= FEWEST_CAPTURES]
    if len(used) < FEWEST_GROUPS or used[0].shape[1] < 8:
        return None
    mean_GL = np.array([group_BL.mean(axis=0)[1:-1] for group_BL in used])
    noise_GL = np.array([np.diff(group_BL - group_BL.mean(axis=0), n=2, axis=1).var(axis=0) for group_BL in used])
    log_GL = np.log(noise_GL + np.finfo(float).tiny)
    left_out = np.array([_slope(np.delete(mean_GL, g, 0), np.delete(log_GL, g, 0)) for g in range(len(used))])
    error = np.sqrt((len(used) - 1) * left_out.var())
    return _slope(mean_GL, log_GL), float(error)


def _slope(mean_GL: NDArray[np.float64], log_GL: NDArray[np.float64]) -> float:
    centred_GL = mean_GL - mean_GL.mean(axis=0)
    spread = float(np.square(centred_GL).sum())
    return float((centred_GL * log_GL).sum()) / spread if spread > 0 else 0.0


def falls(slope: tuple[float, float] | None) -> bool:
    """Whether noise surely falls where the values rise."""
    return slope is not None and slope[0] < -SURE * slope[1] < 0
