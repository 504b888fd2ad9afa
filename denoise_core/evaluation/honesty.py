"""What fraud is measured on, from a panel's arrays: fidelity, plausibility, and what a blind method makes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from denoise_core.corpus.manifest import Manifest
from denoise_core.corpus.store import Corpus
from denoise_core.evaluation.controls import is_fitted
from denoise_core.evaluation.dips import ROI_NM, Roi
from denoise_core.evaluation.downstream import PanelLabels
from denoise_core.evaluation.fidelity import Judged, fidelity_measures
from denoise_core.evaluation.metrics import Floats
from denoise_core.evaluation.plausibility import plausibility_measures
from study_core.gates import Measure


def honest_controls(controls: Mapping[str, ArrayLike]) -> dict[str, Floats]:
    """The fitted filters among the controls, those refitted without the panel's samples left aside."""
    return {name: np.asarray(values_ML, np.float64) for name, values_ML in controls.items() if is_fitted(name)}


def honesty_measures(
    output_ML: Floats,
    reference_ML: Floats,
    raw_ML: Floats,
    controls: Mapping[str, ArrayLike],
    labels: PanelLabels,
    wavelength_nm: Floats,
    unique_M: NDArray[np.bool_],
    roi_nm: Roi = ROI_NM,
) -> list[Measure]:
    """Figures of the gates fidelity and plausibility, each capture counted once (`unique_M`: no twin of a row above).

    Slices: group or treatments, and for fidelity the feature and wavelength at which the figure is worst.
    """
    judged = Judged(
        output_ML=output_ML[unique_M],
        reference_ML=reference_ML[unique_M],
        raw_ML=raw_ML[unique_M],
        controls={name: values_ML[unique_M] for name, values_ML in honest_controls(controls).items()},
        labels=PanelLabels(labels.group_M[unique_M], labels.treatment_M[unique_M], labels.dose_M[unique_M]),
        wavelength_nm=wavelength_nm,
        roi_nm=roi_nm,
    )
    return fidelity_measures(judged) + plausibility_measures(judged)


def blind_prediction(corpus: Corpus, training: Manifest, rows: int) -> Floats:
    """The training captures' mean for every row, (rows, L): a method that never looks at a capture."""
    mean_L = corpus.spectra_NL[np.unique(corpus.rows(training))].mean(axis=0, dtype=np.float64)
    return np.tile(mean_L, (rows, 1))
