"""Group bootstrap: homology groups are drawn, not rows, because relatives do not count twice.

A resample is a multiplicity a group, and an AUROC under multiplicities is a bilinear form of the table of wins, so
that a thousand resamples of a stratum are two matrix products. The same draws serve every feature set: differences
are paired.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from concept_core.cav.rows import Bools, Floats
from concept_core.evaluation.scores import wins
from concept_core.plans import NEGATIVES


@dataclass(frozen=True)
class Interval:
    """A figure and its percentile interval."""

    value: float
    low: float
    high: float

    def record(self) -> dict[str, float | None]:
        """JSON-ready; what is not finite is null."""
        return {
            name: float(number) if np.isfinite(number) else None
            for name, number in (("value", self.value), ("low", self.low), ("high", self.high))
        }


class GroupBootstrap:
    """Multiplicities of groups, resamples × groups, drawn once."""

    def __init__(self, groups: Sequence[str], *, resamples: int, confidence: float = 0.95, seed: int = 0) -> None:
        self._number = {group: column for column, group in enumerate(sorted(set(groups)))}
        count = len(self._number)
        drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
        self._weights_RG = drawn.astype(float)
        self._tail = (1 - confidence) / 2

    def weights(self, groups: Sequence[str]) -> Floats:
        """Multiplicity of each row: resamples × rows."""
        drawn: Floats = self._weights_RG[:, [self._number[group] for group in groups]]
        return drawn

    def interval(self, value: float, resampled: Floats) -> Interval:
        """Percentiles of the resampled figures; resamples in which it is undefined are left out."""
        finite = resampled[np.isfinite(resampled)]
        if not len(finite):
            return Interval(value, float("nan"), float("nan"))
        low, high = np.quantile(finite, [self._tail, 1 - self._tail])
        return Interval(value, float(low), float(high))

    def auroc(self, scores: Floats, positive: Bools, groups: Sequence[str]) -> Floats:
        """AUROC of each resample; NaN where a class was not drawn."""
        weights = self.weights(groups)
        up, down = weights[:, positive], weights[:, ~positive]
        mass = up.sum(axis=1) * down.sum(axis=1)
        won = ((up @ wins(scores[positive], scores[~positive])) * down).sum(axis=1)
        out: Floats = np.divide(won, mass, out=np.full(len(mass), np.nan), where=mass > 0)
        return out

    def worst_stratum(self, scores: Floats, strata: NDArray[np.str_], groups: Sequence[str]) -> Floats:
        """Worst stratum's AUROC of each resample: the worst is chosen anew in each."""
        names = np.asarray(groups)
        columns = []
        for stratum in NEGATIVES:
            mask = (strata == "pos") | (strata == stratum)
            columns.append(self.auroc(scores[mask], strata[mask] == "pos", names[mask].tolist()))
        lowest: Floats = np.min(np.stack(columns), axis=0)
        return lowest

    def mean(self, values: Floats, groups: Sequence[str]) -> Floats:
        """Mean of a figure a row (a share: of zeros and ones) in each resample."""
        weights = self.weights(groups)
        mass = weights.sum(axis=1)
        out: Floats = np.divide(weights @ values, mass, out=np.full(len(mass), np.nan), where=mass > 0)
        return out


def paired(
    bootstrap: GroupBootstrap, figure: Callable[[Floats], float], resampled: Callable[[Floats], Floats], one: Floats,
    other: Floats,
) -> Interval:  # fmt: skip
    """A figure of `one` minus the same of `other`, with the interval of the differences over equal resamples."""
    return bootstrap.interval(figure(one) - figure(other), resampled(one) - resampled(other))
