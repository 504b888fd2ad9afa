"""The null of a probe: the same folds and features, other labels.

Scaler and PCA do not see labels, so with fixed folds they are computed once and only the probe is refitted: the same
result as refitting everything, at a fraction of the time. Refit r is seeded by (seed, r): an interrupted null goes on
where it stood.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from concept_core.cav.direction import unit
from concept_core.cav.probe import NO_DIRECTION, PLAIN, chosen, fit_projection, fit_weights
from concept_core.cav.rows import Bools, Floats, Rows
from concept_core.evaluation.scores import auroc
from concept_core.plans import CavPlan


@dataclass(frozen=True)
class Null:
    """AUROC of refits with permuted labels, beside the observed one."""

    observed: float
    refits: Floats

    @property
    def p(self) -> float:
        """(1 + #{refits ≥ observed}) / (R + 1): never zero, never below 1 / (R + 1)."""
        return float((1 + np.sum(self.refits >= self.observed)) / (len(self.refits) + 1))

    @property
    def mean(self) -> float:
        return float(self.refits.mean())

    @property
    def sd(self) -> float:
        """With one degree of freedom less; NaN below two refits."""
        return float(self.refits.std(ddof=1)) if len(self.refits) > 1 else float("nan")

    @property
    def z(self) -> float:
        return (self.observed - self.mean) / self.sd if self.sd > 0 else float("nan")


class NullRefits:
    """Projected folds of one feature matrix, refitted with other labels as often as wanted."""

    def __init__(self, x_nd: Floats, rows: Rows, plan: CavPlan, *, strata: Sequence[str] = PLAIN) -> None:
        x_nd, rows = chosen(x_nd, rows, strata)
        within = rows.folds >= 0
        self._x_nd, self._rows, self._plan = x_nd[within], rows[within], plan
        self._folds: list[tuple[Bools, Floats, Floats]] = []
        for fold in self._rows.fold_numbers:
            inside = self._rows.folds != fold
            projection = fit_projection(self._x_nd[inside], plan.pca)
            self._folds.append((inside, projection(self._x_nd[inside]), projection(self._x_nd[~inside])))

    def labels(self, refit: int) -> Bools:
        """Permuted labels of the training part."""
        drawn: Bools = np.random.default_rng([self._plan.seed, refit]).permutation(self._rows.positive)
        return drawn

    def refit(self, positive_n: Bools) -> float:
        """Out-of-fold AUROC over all strata with these labels."""
        scores = np.zeros(len(self._rows))
        for inside, z_in, z_out in self._folds:
            if len(set(positive_n[inside].tolist())) < 2:
                continue  # of a handful of rows a permutation may leave one class: nothing to point at, scores 0
            weights, bias = fit_weights(z_in, positive_n[inside], self._plan)
            scores[~inside] = z_out @ weights + bias if np.linalg.norm(weights) >= NO_DIRECTION else 0.0
        return auroc(scores[positive_n], scores[~positive_n])

    def observed(self) -> float:
        """The same figure with the true labels."""
        return self.refit(self._rows.positive)

    def values(self, start: int, stop: int) -> Iterator[float]:
        """AUROC of refits start … stop − 1."""
        for number in range(start, stop):
            yield self.refit(self.labels(number))


def random_direction(x_nd: Floats, rows: Rows, plan: CavPlan, number: int) -> Floats:
    """Random CAV `number`, unit, in the model's own space: what the same fit gives where there is nothing to learn.

    `label_shuffle` permutes labels (as refit `number` of the null), `feature_permute` each feature over the rows,
    `gaussian_noise` draws features with the real means and standard deviations.
    """
    x_nd, rows = chosen(x_nd, rows, PLAIN)
    x_nd, rows = x_nd[rows.folds >= 0], rows[rows.folds >= 0]
    rng = np.random.default_rng([plan.seed, number])
    positive = rows.positive
    if plan.random_mode == "label_shuffle":
        positive = rng.permutation(positive)
    elif plan.random_mode == "feature_permute":
        x_nd = rng.permuted(x_nd, axis=0)
    else:
        x_nd = rng.normal(x_nd.mean(axis=0), x_nd.std(axis=0), x_nd.shape)
    projection = fit_projection(x_nd, plan.pca)
    weights, _ = fit_weights(projection(x_nd), positive, plan)
    return unit((weights @ projection.components_kd) / projection.scale_d)
