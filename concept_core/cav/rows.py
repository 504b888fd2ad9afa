"""The rows of a feature matrix: which window each is, and which probes may see it.

A row's group decides its fold; a group is never on both sides. Every function that fits or scores takes the matrix
together with these rows, so that nothing can be scored by a probe that was fitted on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from concept_core.corpus.windows import Window
from concept_core.plans import NEGATIVES
from study_core.errors import BadInput

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Rows:
    """Columns of n rows, in the order of a feature matrix. `folds` is −1 for the held-out part."""

    keys: NDArray[np.str_]
    strata: NDArray[np.str_]
    groups: NDArray[np.str_]
    folds: NDArray[np.int_]

    @classmethod
    def of(cls, windows: Sequence[Window]) -> Rows:
        """The rows of a table of windows.

        Raises:
            BadInput: no positive or no negative; a group in two folds, or both trained on and held out.
        """
        rows = cls(
            np.array([window.key for window in windows]),
            np.array([window.stratum for window in windows]),
            np.array([window.group for window in windows]),
            np.array([window.fold if window.part == "train" else -1 for window in windows], dtype=int),
        )
        rows.check()
        return rows

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, chosen: Any) -> Rows:
        return Rows(self.keys[chosen], self.strata[chosen], self.groups[chosen], self.folds[chosen])

    @property
    def positive(self) -> Bools:
        return np.asarray(self.strata == "pos")

    @property
    def held_out(self) -> Bools:
        return np.asarray(self.folds < 0)

    @property
    def fold_numbers(self) -> list[int]:
        """Folds of the training part, ascending."""
        return [int(fold) for fold in np.unique(self.folds[self.folds >= 0])]

    def among(self, strata: Iterable[str]) -> Bools:
        """Rows of these strata."""
        return np.isin(self.strata, list(strata))

    @property
    def judged(self) -> Bools:
        """Positives and the four strata of negatives; `off` serves the centred probe's training alone."""
        return self.among(("pos", *NEGATIVES))

    def check(self) -> None:
        """Raise BadInput where no probe can be fitted or a group would be on both sides."""
        if not self.positive.any() or self.positive.all():
            lacking = "positive" if not self.positive.any() else "negative"
            raise BadInput(f"no {lacking} window", remedy="a concept needs both; look at the labels")
        fold_of: dict[str, int] = {}
        for key, group, fold in zip(self.keys.tolist(), self.groups.tolist(), self.folds.tolist(), strict=True):
            if fold_of.setdefault(group, fold) != fold:
                raise BadInput(f"homology group {group} is in two folds", row=key, remedy="run the data step again")
