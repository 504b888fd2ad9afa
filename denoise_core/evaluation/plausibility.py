"""Plausibility: a method that sees one capture at a time cannot leave less than one capture's noise allows, and what it
leaves is that capture's.

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
    """The figures of the gate `plausibility`, of each group.

    error_over_floor: mean squared error over the least that one capture at a time could leave. The floor is the least
        variance over captures of a fitted control's error; without controls, the variance of the raw captures' offset.
        A group of one capture has none: NaN, refused.
    own_capture (with controls): how alike, as a correlation over the range, an output departs from its group's mean
        output and a control of the same capture from its own; the median capture beside the control most alike. An
        error that was borrowed from another capture has none.
    """
    found = []
    for group, rows in each(judged.labels.group_M):
        found.append(Measure("error_over_floor", _error_over_floor(judged, rows), {"group": group}))
        if judged.controls:
            alike = max(_alike(judged.output_ML[rows], values_ML[rows]) for values_ML in judged.controls.values())
            found.append(Measure("own_capture", alike, {"group": group}))
    return found


def _alike(output_ML: Floats, control_ML: Floats) -> float:
    """1 where the output departs from its mean nowhere: that is for the floor to refuse."""
    own_ML, other_ML = output_ML - output_ML.mean(axis=0), control_ML - control_ML.mean(axis=0)
    length_M = np.linalg.norm(own_ML, axis=1) * np.linalg.norm(other_ML, axis=1)
    alike_M = np.divide((own_ML * other_ML).sum(axis=1), length_M, out=np.ones(len(length_M)), where=length_M > 0)
    return float(np.median(alike_M))


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
