"""Plausibility: a method that sees one capture at a time cannot leave less than one capture's noise allows.

A capture's constant offset (a seventh of its noise's power) cannot be told from the level of its spot. What an honest
filter leaves, once its bias of the group is taken out, is therefore a floor: an output well below it knows the group
from elsewhere: it was averaged over captures, or the group was in training.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from denoise_core.evaluation.fidelity import Judged
from denoise_core.evaluation.labels import each
from denoise_core.evaluation.metrics import Floats
from study_core.gates import Measure


def plausibility_measures(judged: Judged) -> list[Measure]:
    """`error_over_floor` of each group: mean squared error over the least that one capture at a time could leave.

    The floor is the least variance over captures of a fitted control's error; without controls, the variance of the
    raw captures' offset. A group of one capture has none: NaN, refused.
    """
    return [
        Measure("error_over_floor", _error_over_floor(judged, rows), {"group": group})
        for group, rows in each(judged.labels.group_M)
    ]


def _error_over_floor(judged: Judged, rows: NDArray[np.int64]) -> float:
    reference_ML = judged.reference_ML[rows]
    if len(rows) < 2:
        return float("nan")

    def spread(values_ML: Floats) -> float:
        return float((values_ML[rows] - reference_ML).var(axis=0, ddof=1).mean())

    offset_M = (judged.raw_ML[rows] - reference_ML).mean(axis=1)
    floor = min((spread(values_ML) for values_ML in judged.controls.values()), default=float(offset_M.var(ddof=1)))
    error = float(((judged.output_ML[rows] - reference_ML) ** 2).mean())
    return error / floor if floor > 0 else float("nan")
