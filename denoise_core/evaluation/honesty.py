"""What fraud is measured on, from a panel's arrays: fidelity, plausibility, and which rules cannot fail there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from denoise_core.corpus.manifest import Manifest
from denoise_core.corpus.store import Corpus
from denoise_core.evaluation.controls import LEFT_OUT
from denoise_core.evaluation.dips import ROI_NM, Roi
from denoise_core.evaluation.downstream import PanelLabels
from denoise_core.evaluation.fidelity import Judged, fidelity_measures
from denoise_core.evaluation.metrics import Floats
from denoise_core.evaluation.plausibility import plausibility_measures
from denoise_core.evaluation.scores import aggregate, score, tail
from denoise_core.evaluation.thresholds import GateThresholds, metric_rules
from study_core.gates import Measure, judge

UNFITTED = ("raw", "savgol_61_3")
"""Controls that say nothing of what an honest estimate does: one leaves the noise, the other takes the dips."""

QUALITY = ("psnr_mean", "sam_mean", "joint_pass_ratio")
"""Metrics of gates 1 and 2 that a better output has more of."""


def is_fitted(control: str) -> bool:
    """Whether a control's name is that of a filter fitted on the whole of training."""
    return control not in UNFITTED and not control.endswith(LEFT_OUT)


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


def vacuous_metrics(
    blind_ML: Floats | None,
    reference_ML: Floats,
    wavelength_nm: Floats,
    thresholds: GateThresholds,
    downstream: Mapping[str, Any],
    roi_nm: Roi = ROI_NM,
) -> dict[str, str]:
    """Why a rule cannot fail on this panel, by metric: a method that never looks at a capture passes it, too.

    `dose_monotonicity` stands for both of the dose test's rules. Without a blind prediction nothing is said of gates
    1 and 2. The spread of the PSNR is no measure of quality: that a blind method's is small makes its rule no emptier.
    """
    found = {}
    if downstream["dose_monotonicity"]["vacuous"]:
        found["dose_monotonicity"] = "no treatment of this panel has two doses, so every correlation is 0"
    if blind_ML is None:
        return found
    scores = score(blind_ML, reference_ML, wavelength_nm, roi_nm=roi_nm)
    rules = [rule for rule in metric_rules(thresholds, "loo") if rule.metric in QUALITY]
    for record in judge({**aggregate(scores), **tail(scores, thresholds)}, rules):
        if record.passed:
            found[record.metric] = (
                f"the mean of the training captures, given for every capture, passes with {record.value:.4g}"
            )
    return found
