"""Are the standard errors honest? Coverage of their bands against leave-one-out means."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm

from denoise_core.evaluation.labels import Labels
from denoise_core.evaluation.metrics import same_shape

LEVELS = (0.68, 0.95)


def coverage(
    prediction_ML: ArrayLike, standard_error_ML: ArrayLike, reference_ML: ArrayLike, group_M: Labels
) -> dict[str, Any]:
    """Share of samples whose reference lies in the 68 % and 95 % bands ŷ ± z·se, over all rows and by group.

    An honest Gaussian error covers 0.68 and 0.95. The reference's own noise (a mean of 149
    captures) makes coverage a little low where the standard error is tiny. A sample without a
    finite, positive standard error is not covered; `known` is the share that has one.
    """
    prediction_ML, reference_ML = same_shape(prediction_ML, reference_ML)
    error_ML, standard_error_ML = same_shape(np.abs(prediction_ML - reference_ML), standard_error_ML)
    known_ML = np.isfinite(standard_error_ML) & (standard_error_ML > 0)
    with np.errstate(invalid="ignore"):
        inside = {f"coverage_{round(100 * p)}": known_ML & (error_ML <= _z(p) * standard_error_ML) for p in LEVELS}
    shares = {"known": known_ML, **inside}
    return {
        **{name: float(mask.mean()) for name, mask in shares.items()},
        "mean_standard_error": float(standard_error_ML[known_ML].mean()) if known_ML.any() else float("nan"),
        "by_group": {
            str(group): {name: float(mask[group_M == group].mean()) for name, mask in shares.items()}
            for group in np.unique(group_M)
        },
    }


def _z(share: float) -> float:
    return float(norm.ppf(0.5 + share / 2))
