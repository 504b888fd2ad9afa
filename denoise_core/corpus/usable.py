"""Whether a corpus can be trained on and judged, asked before anything is sent: grid, ROI, units, groups."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from denoise_core.corpus import layout
from denoise_core.corpus.captures import Captures
from denoise_core.corpus.folds import fold_manifests
from denoise_core.corpus.manifest import FIRST_ROW, Manifest, read_manifest, verify_disjoint
from denoise_core.corpus.store import open_corpus
from denoise_core.corpus.study import PUBLISHED, STUDY_FILE
from study_core.errors import BadInput

LARGEST_STEP_NM = 1.0
"""Gate 3 measures a dip over ±2 nm above a quadratic baseline: with fewer than five samples nothing is left over."""
FEWEST_IN_ROI = 21
FEWEST_GROUPS = 3  # to train on: a covariance of group means needs them


def verify_grid(corpus: Captures) -> None:
    """BadInput, by name, for a grid on which no method trains or no dip can be measured."""
    wavelength_nm, file = corpus.wavelength_nm, layout.grid_path(corpus.root)
    step_nm = float(np.diff(wavelength_nm).mean())
    if step_nm > LARGEST_STEP_NM + layout.UNIFORM_NM:
        raise BadInput(
            f"wavelengths every {step_nm:g} nm: the dips that gate 3 measures need {LARGEST_STEP_NM:g} nm or finer",
            file=file,
            remedy="measure more finely; resampling adds nothing that was not measured",
        )
    low, high = corpus.study.roi_nm
    inside = int(((wavelength_nm >= low) & (wavelength_nm <= high)).sum())
    if inside < FEWEST_IN_ROI:
        raise BadInput(
            f"{inside} wavelengths in the ROI of {low:g} to {high:g} nm, gates and losses need {FEWEST_IN_ROI}",
            file=file,
            remedy=f"name your own roi_nm in {STUDY_FILE}",
        )


def values_told(corpus: Captures) -> str:
    """What a corpus's values are taken for, on whose word, and whether their noise agrees.

    BadInput where nobody says it and noise says that they are something else.
    """
    study, found = corpus.study, corpus.by_noise
    said = "units" in study.model_fields_set
    silent = "as the seed's layout has them" if study is PUBLISHED else f"nobody says so (units in {STUDY_FILE})"
    word = f"as {STUDY_FILE} says" if said else silent
    if found is None:
        return f"values taken for reflectance, {word}; their noise cannot tell"
    by_noise = f"by their noise they are {found.units} (by {found.errors:.1f} standard errors)"
    if found.units == "reflectance":
        return f"values taken for reflectance, {word}; {by_noise}"
    if not said:
        raise BadInput(
            f"nobody says what the values are, and {by_noise}",
            file=corpus.root,
            remedy=f"gated import --units {found.units}; or units: reflectance in {STUDY_FILE} if they are",
        )
    return f"WARNING: values taken for reflectance, {word}; but {by_noise}: gated import --units {found.units}?"


def verify_training(corpus: Captures, training: Manifest, *others: Manifest) -> None:
    """BadInput where the grid, the number of training groups, or a group of these manifests cannot be used."""
    verify_grid(corpus)
    values_told(corpus)
    if len(training.groups) < FEWEST_GROUPS:
        raise BadInput(
            f"{len(training.groups)} training groups, a filter needs {FEWEST_GROUPS}",
            file=training.path or corpus.root,
            remedy="hold out fewer groups, or give more samples",
        )
    verify_replicates(corpus, training, *others)


def verify_replicates(corpus: Captures, *manifests: Manifest) -> None:
    """BadInput (file, row) at the first row of a group of one capture: nothing is left to refer it to."""
    sizes = np.bincount(corpus.group_codes)
    for manifest in manifests:
        rows: NDArray[np.int64] = corpus.rows(manifest)
        single = sizes[corpus.group_codes[rows]] < 2
        if single.any():
            row = int(single.argmax())
            raise BadInput(
                f"group {manifest.frame['group_id'].iloc[row]} has one capture: training and reference need two",
                file=manifest.path or "manifest",
                row=row + FIRST_ROW,
                remedy="add another capture of it, or leave the group out",
            )


def verify_study(root: Path, panel: Path | None = None, fold: int | None = None) -> str:
    """What the values at `root` are taken for; BadInput where it cannot be trained on and judged, on `panel`.

    `fold`: the fold whose model the training is to start from, where that one is trained as well.
    """
    corpus = open_corpus(root)
    held_out = read_manifest(panel) if panel else corpus.manifest("validation_panel")
    training = corpus.training_beside(held_out)
    verify_disjoint(held_out, training)
    verify_training(corpus, training, held_out)
    if fold is not None:
        try:
            parts = fold_manifests(corpus, fold)
        except BadInput as error:
            remedy = f"{error.remedy}; or name a model to start from: --set start.checkpoint=FILE"
            raise BadInput(error.what, file=root, remedy=remedy) from error
        verify_training(corpus, parts.train, parts.val, parts.test)
    return values_told(corpus)
