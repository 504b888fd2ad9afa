"""What values are by their noise: light is measured, and its noise takes another form in each quantity made of it.

A detector's variance is a + b R + c R² (its own, the light's, the lamp's), none of them negative, times the lamp's
strength at each wavelength. Reflectance shows it so, 1 - R mirrored, A = -log10 R times 10^2A (ln 10)^-2. Each form is
fitted to the noise of groups of captures; one is said where every other is worse by `SURE` standard errors over the
groups (Vuong's test for models of which none contains another), else none: a small corpus is usually silent.

Measured by `python -m benchmarks.units` (benchmarks/quality.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from denoise_core.corpus.study import Units

FEWEST_GROUPS, FEWEST_CAPTURES, FEWEST_POINTS = 6, 3, 8
BLOCKS = 48  # of neighbouring wavelengths, whose noise is averaged
SURE = 3.0  # standard errors
STEPS = 10  # of each share of a, b and c on the grid that is searched

Array = NDArray[np.float64]
_REFLECTANCE: dict[Units, Callable[[Array], Array]] = {
    "reflectance": lambda y: y,
    "absorptance": lambda y: 1.0 - y,
    "absorbance": lambda y: 10.0**-y,
}


class Likely(NamedTuple):
    """What values are by their noise, and by how many standard errors better than as anything else."""

    units: Units
    errors: float


def likely_units(groups: Sequence[NDArray[np.floating]]) -> Likely | None:
    """What the values of these groups are, captures (B, L) of each on one grid; None where their noise cannot tell.

    Values are fractions or absorbances, as they stand in the files. Second differences leave the noise alone.
    """
    used = [np.asarray(group_BL, np.float64) for group_BL in groups if len(group_BL) >= FEWEST_CAPTURES]
    if len(used) < FEWEST_GROUPS or used[0].shape[1] < FEWEST_POINTS:
        return None
    mean_GL = np.array([group_BL.mean(axis=0)[1:-1] for group_BL in used])
    noise_GL = np.array([np.square(np.diff(y_BL - y_BL.mean(axis=0), n=2, axis=1)).mean(axis=0) for y_BL in used])
    if not noise_GL.any(axis=1).all():
        return None
    level_GK, log_GK = _blocks(mean_GL), np.log(_blocks(noise_GL) + np.finfo(float).tiny)
    left = {units: _left_over(level_GK, log_GK, units) for units in _REFLECTANCE}
    best, *others = sorted(left, key=lambda units: float(left[units].sum()))
    worse = [left[other] - left[best] for other in others]
    errors = min(float(one.sum() / (np.sqrt(len(one)) * one.std(ddof=1) + np.finfo(float).tiny)) for one in worse)
    return Likely(best, errors) if errors > SURE else None


def _blocks(values_GL: Array) -> Array:
    """Means of neighbouring wavelengths, (G, K)."""
    parts = np.array_split(values_GL, min(BLOCKS, max(1, values_GL.shape[1] // 4)), axis=1)
    return np.stack([part.mean(axis=1) for part in parts], axis=1)


def _left_over(level_GK: Array, log_GK: Array, units: Units) -> Array:
    """What the best of these units' forms leaves of each group's log variance, squared and summed, (G,)."""
    light_GK = np.clip(_REFLECTANCE[units](level_GK), 1e-6, None)
    stretch_GK = 2 * np.log(10.0) * level_GK if units == "absorbance" else np.zeros_like(level_GK)
    terms = [light_GK**power / (light_GK**power).mean() for power in range(3)]
    wanted_GK = log_GK - log_GK.mean(axis=0)  # the lamp's strength is nobody's sign
    best: Array | None = None
    for a in range(STEPS + 1):
        for b in range(STEPS + 1 - a):
            shares = np.square([a, b, STEPS - a - b])
            form_GK = np.log(sum(share * term for share, term in zip(shares, terms, strict=True))) + stretch_GK
            left_G = np.square(wanted_GK - form_GK + form_GK.mean(axis=0)).sum(axis=1)
            if best is None or left_G.sum() < best.sum():
                best = left_G
    assert best is not None
    return best
