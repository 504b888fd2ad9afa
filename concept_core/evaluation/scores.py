"""Scores of a probe as figures: AUROC and average precision a stratum, the worst stratum as the headline.

Only unseen scores go in: out of fold, or held out. There is no way to hand over the scores of fitted rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from concept_core.cav.rows import Floats
from concept_core.plans import NEGATIVES

if TYPE_CHECKING:
    from concept_core.cav.probe import Unseen


def auroc(positives: Floats, negatives: Floats) -> float:
    """Probability that a positive scores above a negative, ties half; NaN where one side is empty."""
    if not len(positives) or not len(negatives):
        return float("nan")
    return float(wins(positives, negatives).mean())


def wins(positives: Floats, negatives: Floats) -> Floats:
    """positives × negatives: 1 where the positive is above, ½ where they tie."""
    difference = np.asarray(positives)[:, None] - np.asarray(negatives)[None, :]
    table: Floats = (difference > 0) + 0.5 * (difference == 0)
    return table


def average_precision(positives: Floats, negatives: Floats, *, balanced: bool = False) -> float:
    """Mean precision over the positives, ties in one step; NaN where one side is empty.

    `balanced`: at a prevalence of one half whatever the two counts are, so that a threshold means the same for every
    draw of a held-out part; else at their own.
    """
    from sklearn.metrics import average_precision_score

    if not len(positives) or not len(negatives):
        return float("nan")
    truth = np.r_[np.ones(len(positives)), np.zeros(len(negatives))]
    weights = even_weights(truth) if balanced else None
    return float(average_precision_score(truth, np.r_[positives, negatives], sample_weight=weights))


def even_weights(truth: NDArray[Any]) -> Floats:
    """A weight a row by which both classes count the same."""
    share = np.asarray(truth, dtype=np.float64).mean()
    weights: Floats = np.where(truth, 0.5 / share, 0.5 / (1 - share))
    return weights


@dataclass(frozen=True)
class StratumScores:
    """Figures of one feature set on one part. A stratum's AP is at a prevalence of one half, `ap_all` at the part's."""

    auroc: dict[str, float]
    ap: dict[str, float]
    counts: dict[str, int]
    auroc_all: float
    ap_all: float
    prevalence: float

    @property
    def worst(self) -> float:
        """AUROC of the worst stratum: the headline. NaN where one of the four is missing: no verdict without it."""
        values = [self.auroc.get(stratum, float("nan")) for stratum in NEGATIVES]
        return float("nan") if any(np.isnan(values)) else min(values)

    @property
    def worst_stratum(self) -> str:
        """Its name, or the first missing one's."""
        missing = [stratum for stratum in NEGATIVES if np.isnan(self.auroc.get(stratum, float("nan")))]
        return missing[0] if missing else min(NEGATIVES, key=lambda stratum: self.auroc[stratum])


def by_stratum(scores: Floats, strata: NDArray[np.str_]) -> StratumScores:
    """Positives against each stratum of negatives, and against all of them."""
    positives = scores[strata == "pos"]
    against = {name: scores[strata == name] for name in NEGATIVES if (strata == name).any()}
    every = np.concatenate(list(against.values())) if against else np.zeros(0)
    return StratumScores(
        auroc={name: auroc(positives, values) for name, values in against.items()},
        ap={name: average_precision(positives, values, balanced=True) for name, values in against.items()},
        counts={"pos": len(positives), **{name: len(values) for name, values in against.items()}},
        auroc_all=auroc(positives, every),
        ap_all=average_precision(positives, every),
        prevalence=len(positives) / max(1, len(positives) + len(every)),
    )


def evaluate(unseen: Unseen) -> StratumScores:
    """Figures of scores that no probe was fitted on."""
    return by_stratum(unseen.scores, unseen.rows.strata)
