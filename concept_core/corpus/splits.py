"""Held-out part and folds: whole homology groups, so that no protein is judged by a relative of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from concept_core.corpus.windows import Window
from study_core.errors import BadInput


def split(windows: Sequence[Window], *, held_out: float, folds: int, seed: int, fixed: bool = False) -> list[Window]:
    """The windows with their part and fold.

    A share `held_out` of the groups with positives, and of those without, is held out; the others get folds,
    stratified by stratum. `fixed`: the windows' own part is kept (an external set is the held-out one).

    Raises:
        BadInput: a part or a fold without positives.
    """
    rng = np.random.default_rng((seed, 1))
    if fixed:
        away = {window.group for window in windows if window.part == "held_out"}
    else:
        away = set()
        with_concept = {window.group for window in windows if window.positive}
        for wanted in (True, False):
            names = sorted({window.group for window in windows if (window.group in with_concept) == wanted})
            count = round(held_out * len(names))
            away |= {names[number] for number in rng.permutation(len(names))[:count]}
    training = [number for number, window in enumerate(windows) if window.group not in away]
    made = [
        window.model_copy(update={"part": "held_out" if window.group in away else "train", "fold": -1})
        for window in windows
    ]
    for number, fold in zip(training, _folds([windows[one] for one in training], folds, seed), strict=True):
        made[number] = made[number].model_copy(update={"fold": fold})
    _refuse_empty(made, folds, away)
    return made


def _folds(windows: Sequence[Window], folds: int, seed: int) -> list[int]:
    from sklearn.model_selection import StratifiedGroupKFold

    strata = [window.stratum for window in windows]
    groups = [window.group for window in windows]
    if len(set(groups)) < folds:
        raise BadInput(f"{len(set(groups))} homology groups for {folds} folds", remedy="give more unrelated proteins")
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    numbers = [0] * len(windows)
    for fold, (_, test) in enumerate(splitter.split(np.zeros(len(windows)), strata, groups)):
        for number in test:
            numbers[number] = fold
    return numbers


def _refuse_empty(windows: Sequence[Window], folds: int, away: set[str]) -> None:
    positive = [window for window in windows if window.positive]
    for fold in range(folds):
        if not any(window.fold == fold for window in positive):
            raise BadInput(f"fold {fold} has no positive window", remedy="fewer folds, or more unrelated proteins")
    if away and not any(window.part == "held_out" for window in positive):
        raise BadInput("no positive window is held out", remedy="a larger held_out share, or more unrelated proteins")
