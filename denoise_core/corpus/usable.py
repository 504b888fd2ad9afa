"""Whether a corpus can be trained on and judged, asked before anything is sent to a cluster: grid, ROI, groups."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from denoise_core.corpus import layout
from denoise_core.corpus.captures import Captures
from denoise_core.corpus.manifest import FIRST_ROW, Manifest
from denoise_core.corpus.study import STUDY_FILE
from study_core.errors import BadInput

LARGEST_STEP_NM = 1.0
"""Gate 3 measures a dip over ±2 nm above a quadratic baseline: with fewer than five samples nothing is left over."""
FEWEST_IN_ROI = 21
FEWEST_GROUPS = 3  # to train on: a covariance of group means needs them
UNIFORM_NM = 1e-3


def verify_grid(corpus: Captures) -> None:
    """BadInput, by name, for a grid on which no method trains or no dip can be measured."""
    wavelength_nm, file = corpus.wavelength_nm, layout.grid_path(corpus.root)
    steps = np.diff(wavelength_nm)
    step_nm = float(steps.mean())
    if not np.allclose(steps, step_nm, rtol=0, atol=UNIFORM_NM):
        at = int(np.abs(steps - np.median(steps)).argmax())
        raise BadInput(
            f"a gap or an uneven step in the wavelengths: {wavelength_nm[at]:g} nm, then {wavelength_nm[at + 1]:g} nm",
            file=file,
            remedy="resample the spectra to one step: gated import --resample FIRST:LAST:STEP",
        )
    if step_nm > LARGEST_STEP_NM + UNIFORM_NM:
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


def verify_training(corpus: Captures, training: Manifest, *others: Manifest) -> None:
    """BadInput where the grid, the training groups, or a group of these manifests cannot be used."""
    verify_grid(corpus)
    if len(training.groups) < FEWEST_GROUPS:
        raise BadInput(
            f"{len(training.groups)} training groups, a filter needs {FEWEST_GROUPS}",
            file=training.path or corpus.root,
            remedy="hold out fewer groups, or give more samples",
        )
    sizes = np.bincount(corpus.group_codes)
    for manifest in (training, *others):
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
