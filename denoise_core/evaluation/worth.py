"""Worth: is a trained model better than the linear filter that it corrects, on groups that no choice has seen?

The two angles of a sample are one specimen and err alike, so the unit of the interval is the sample, not the group
and not the capture.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import ttest_1samp

from denoise_core.evaluation.labels import Labels, each
from denoise_core.evaluation.measurement import Worth
from denoise_core.evaluation.metrics import Floats
from study_core.errors import BadInput

CONFIDENCE = 0.95
LEAST_SAMPLES = 3


def worth(model_psnr_M: ArrayLike, base_psnr_M: ArrayLike, group_M: Labels, base: str, folds: int = 1) -> Worth:
    """Paired over samples: mean gain, and Student's interval of the mean.

    `model_psnr_M`, `base_psnr_M`: dB of the same captures. BadInput with fewer than three samples, which bound nothing.
    """
    gain_M = np.asarray(model_psnr_M, np.float64) - np.asarray(base_psnr_M, np.float64)
    by_group = {group: float(gain_M[rows].mean()) for group, rows in each(group_M)}
    gain_S = _by_sample(by_group)
    if len(gain_S) < LEAST_SAMPLES:
        raise BadInput(
            f"{len(gain_S)} samples cannot resolve a gain",
            remedy="compare on the test groups of a fold, or of several folds together",
        )
    mean = float(gain_S.mean())
    low = high = mean
    if np.ptp(gain_S) > 0:  # a model that is its base everywhere gains 0, exactly: no interval to compute
        interval = ttest_1samp(gain_S, 0.0).confidence_interval(CONFIDENCE)
        low, high = float(interval.low), float(interval.high)
    return Worth(
        base=base,
        gain_db=mean,
        low_db=low,
        high_db=high,
        samples=len(gain_S),
        folds=folds,
        groups=len(by_group),
        groups_better=sum(gain > 0 for gain in by_group.values()),
        by_group=by_group,
    )


def _by_sample(by_group: dict[str, float]) -> Floats:
    """Mean of each sample's angles; a group is named treatment/sample/angle."""
    samples: dict[str, list[float]] = {}
    for group, gain in by_group.items():
        samples.setdefault(group.rsplit("/", 1)[0], []).append(gain)
    return np.array([np.mean(gains) for gains in samples.values()])
