"""Directions in the model's own space, unit length: what is stored, projected on and tested by sensitivity."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from concept_core.cav.probe import NO_DIRECTION, Probe
from concept_core.cav.rows import Floats, Rows


class Affine(NamedTuple):
    """A probe in the model's own space: logit of a window = a · mean state + c."""

    a_d: Floats
    c: float


def unit(vector_d: Floats) -> Floats:
    """The vector at length one; zeros where it points nowhere."""
    length = float(np.linalg.norm(vector_d))
    return np.zeros_like(vector_d) if length < NO_DIRECTION else vector_d / length


def concept_direction(probe: Probe) -> Floats:
    """u = σ⁻¹ V w, unit: the normal of the probe's plane in the model's own space."""
    return unit(probe.affine[0])


def pattern_direction(x_nd: Floats, rows: Rows) -> Floats:
    """m = mean of positives − mean of negatives, unit: along which the states of the two differ."""
    x_nd = np.asarray(x_nd, dtype=float)
    return unit(x_nd[rows.positive].mean(axis=0) - x_nd[~rows.positive].mean(axis=0))
