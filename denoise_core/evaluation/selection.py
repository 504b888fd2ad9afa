"""What a panel figure does not say by itself: heavy tails, and which groups a choice has already seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from denoise_core.corpus.manifest import Manifest
from denoise_core.corpus.reference import loo_mean
from denoise_core.evaluation.labels import Labels
from denoise_core.evaluation.measurement import UnseenGroups
from denoise_core.evaluation.metrics import Floats, psnr_db
from denoise_core.evaluation.scores import recorded, score
from denoise_core.evaluation.worth import LEAST_SAMPLES, worth
from study_core.errors import BadInput

if TYPE_CHECKING:
    from denoise_core.corpus.store import Corpus

OFFSET_SIGMA = 3.0


def offset_outliers(raw_ML: Floats, reference_ML: Floats, group_M: Labels) -> NDArray[np.bool_]:
    """Captures whose constant offset from the reference lies beyond 3 σ of its group's offsets (sudden level drops)."""
    offset_M = (raw_ML - reference_ML).mean(axis=1)
    outlier_M = np.zeros(len(offset_M), dtype=bool)
    for name in np.unique(group_M):
        rows = group_M == name
        own = offset_M[rows]
        outlier_M[rows] = np.abs(own - own.mean()) > OFFSET_SIGMA * own.std()
    return outlier_M


def std_without_outliers(psnr_M: Floats, outlier_M: NDArray[np.bool_]) -> float:
    """Population standard deviation of PSNR over the captures that are no outlier; NaN when none is left."""
    kept = psnr_M[~outlier_M]
    with np.errstate(invalid="ignore"):
        return float(kept.std()) if len(kept) else float("nan")


def sister_groups(panel: Manifest, training: Manifest) -> tuple[str, ...]:
    """Training groups of a sample that the panel holds out at its other angle."""
    held_out = {group.rsplit("/", 1)[0] for group in panel.groups}
    return tuple(
        group for group in training.groups if group.rsplit("/", 1)[0] in held_out and group not in panel.groups
    )


@dataclass(frozen=True)
class Unseen:
    """What a model makes of groups (`test`) that neither its training nor a choice (`selected_on`) has seen.

    `base_ML`: what its own linear base makes of the same rows, None for a model that corrects none.
    """

    test: Manifest
    predictions_ML: ArrayLike
    training: Manifest
    selected_on: Sequence[str]
    base_ML: ArrayLike | None = None
    base: str = ""


def unseen_figures(corpus: Corpus, models: Sequence[Unseen], what: str = "") -> UnseenGroups:
    """Figures under `loo` on groups that neither training nor any choice has seen (folds' test groups), pooled.

    With a base beside each, `worth` says whether the models are worth more than that, where the groups are of three
    samples or more. Raises BadInput naming the first group that was seen after all, or that two were tested on.
    """
    tested: list[str] = []
    for one in models:
        _verify_unseen(one, tested)
        tested += one.test.groups
    rows = np.concatenate([corpus.rows(one.test) for one in models])
    values_ML = np.concatenate([np.asarray(one.predictions_ML) for one in models])
    reference_ML = loo_mean(corpus, rows)
    scores = score(values_ML, reference_ML, corpus.wavelength_nm, roi_nm=corpus.study.roi_nm)
    group_M = np.concatenate([one.test.frame["group_id"].to_numpy(dtype=str) for one in models])
    bases = [np.asarray(one.base_ML) for one in models if one.base_ML is not None]
    gain = None
    if len(bases) == len(models) and len({group.rsplit("/", 1)[0] for group in tested}) >= LEAST_SAMPLES:
        base_psnr_M = psnr_db(np.concatenate(bases), reference_ML)
        gain = worth(scores.psnr_M, base_psnr_M, group_M, models[0].base, folds=len(models))
    return UnseenGroups(
        groups=tuple(tested),
        group_M=tuple(group_M.tolist()),
        scored=recorded(scores, group_M),
        worth=gain,
        what=what,
    )


def _verify_unseen(one: Unseen, tested: Sequence[str]) -> None:
    seen = {
        **dict.fromkeys(tested, "another model was tested on it"),
        **dict.fromkeys(one.selected_on, "a choice was made on it"),
        **dict.fromkeys(one.training.groups, "it was trained on"),
    }
    for group in one.test.groups:
        if group in seen:
            raise BadInput(
                f"group {group} is not unseen: {seen[group]}", file=one.test.path, remedy="give a fold's test manifest"
            )


def start_notice(panel: Manifest, started_on: Sequence[str]) -> str:
    """Which groups of the panel the warm start had seen."""
    seen = [group for group in panel.groups if group in started_on]
    return (
        f"The warm start was trained, or its epoch chosen, on {', '.join(seen)} of this panel: its fold is the study's "
        "own. The training that is judged here was not."
    )


def selection_notice(panel: Manifest, selected_on: Sequence[str]) -> str:
    """The selection-bias line: which panel groups chose the checkpoint, or which others did."""
    chosen = sorted(set(panel.groups) & set(selected_on))
    if selected_on and not chosen:
        return (
            f"The epoch was chosen on {len(selected_on)} groups inside training ({', '.join(selected_on)}); the panel "
            "judged and chose nothing."
        )
    if not chosen:
        return "No choice of a checkpoint on a group of this panel was declared."
    return (
        f"Selection bias: the checkpoint was chosen on {', '.join(chosen)} of this panel, "
        "so for these groups the figures are validation figures, not test figures."
    )
