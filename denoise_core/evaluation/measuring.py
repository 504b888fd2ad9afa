"""Measuring one set of predictions on a panel: everything that needs arrays, and nothing that needs a threshold.

Shapes: M rows of the panel (twin rows included, as in the published audit), L wavelengths.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from denoise_core.corpus.manifest import Manifest, verify_disjoint
from denoise_core.corpus.reference import loo_mean
from denoise_core.corpus.store import Corpus
from denoise_core.corpus.study import Study
from denoise_core.evaluation.controls import RAW, SAVGOL, savgol
from denoise_core.evaluation.downstream import PanelLabels, downstream_metrics
from denoise_core.evaluation.honesty import blind_prediction, honesty_measures
from denoise_core.evaluation.leak import duplicate_pairs, leaked_pairs, named
from denoise_core.evaluation.measurement import Integrity, Measurement, Reference, UnseenGroups
from denoise_core.evaluation.metrics import Floats
from denoise_core.evaluation.scores import Scores, recorded, score
from denoise_core.evaluation.selection import offset_outliers, sister_groups, std_without_outliers
from denoise_core.evaluation.uncertainty import coverage
from study_core.errors import BadInput
from study_core.gates import Measure


def measure_predictions(
    corpus: Corpus,
    panel: Manifest,
    predictions_ML: ArrayLike,
    *,
    reference: Reference = "loo",
    training: Manifest | None = None,
    controls: Mapping[str, ArrayLike] | None = None,
    standard_error_ML: ArrayLike | None = None,
    unseen: UnseenGroups | None = None,
    checkpoint: str = "predictions",
) -> Measurement:
    """Measure one prediction a panel row, for gates 0 to 7.

    `training`: the manifest the model was trained on. `controls`: further predictions (M, L) by name
    (`controls.fitted_control_predictions`); raw and Savitzky-Golay are always there. `unseen`: from
    `selection.unseen_figures`. Raises BadInput when a row is not in the corpus or shapes differ; values that are
    not finite are counted.
    """
    grid_nm, roi_nm = corpus.wavelength_nm, corpus.study.roi_nm
    rows = corpus.rows(panel)
    raw_ML = corpus.spectra_NL[rows].astype(np.float64)
    prediction_ML = _checked(predictions_ML, raw_ML, panel)
    loo_ML = loo_mean(corpus, rows).astype(np.float64)
    reference_ML = raw_ML if reference == "self" else loo_ML
    integrity = _integrity(corpus, panel, training, prediction_ML, reference_ML)
    prediction_ML = np.where(np.isfinite(prediction_ML), prediction_ML, np.nan)  # counted above; ∞ must not win
    labels = _labels(panel, corpus.study)
    methods = {RAW: raw_ML, SAVGOL: savgol(raw_ML), **(controls or {})}
    if reference == "loo" and training is not None:
        methods[_BLIND] = blind_prediction(corpus, training, len(rows))
    own = score(prediction_ML, reference_ML, grid_nm, reference, roi_nm)
    scored = {name: score(x, reference_ML, grid_nm, reference, roi_nm) for name, x in methods.items()}
    whole, by_group = _skill(own, scored, labels)
    honesty: list[Measure] = []
    if reference == "loo":  # under `self` nothing ships, and the published verdicts stand as they were
        unique_M = ~panel.frame["relative_path"].duplicated().to_numpy()
        honesty = honesty_measures(
            prediction_ML, reference_ML, raw_ML, controls or {}, labels, grid_nm, unique_M, roi_nm
        )
    outlier_M = offset_outliers(raw_ML, loo_ML, labels.group_M)
    records = {name: recorded(scores, labels.group_M) for name, scores in scored.items()}
    return Measurement(
        checkpoint=checkpoint,
        reference=reference,
        panel_sha256=panel.rows_sha256,
        integrity=integrity,
        own=recorded(own, labels.group_M),
        blind=records.pop(_BLIND, None),
        controls=records,
        metrics={
            **whole,
            "psnr_std_without_offset_outliers": std_without_outliers(own.psnr_M, outlier_M),
            "offset_outliers": float(outlier_M.sum()),
        },
        slices=(*by_group, *honesty),
        downstream=downstream_metrics(raw_ML, prediction_ML, labels, grid_nm, roi_nm),
        uncertainty=None
        if standard_error_ML is None
        else coverage(prediction_ML, standard_error_ML, reference_ML, labels.group_M),
        unseen=unseen,
        sisters=None if training is None else sister_groups(panel, training),
    )


_BLIND = "blind"


def _checked(predictions_ML: ArrayLike, raw_ML: Floats, panel: Manifest) -> Floats:
    prediction_ML = np.asarray(predictions_ML, np.float64)
    if prediction_ML.shape != raw_ML.shape:
        raise BadInput(
            f"{prediction_ML.shape} predictions for {raw_ML.shape} panel rows and wavelengths",
            file=panel.path,
            remedy="give one prediction for each row of the panel, on the corpus's wavelength grid",
        )
    return prediction_ML


def _labels(panel: Manifest, study: Study) -> PanelLabels:
    treatment_M = panel.frame["treatment"].to_numpy(dtype=str)
    known = {treatment: study.dose(treatment) for treatment in np.unique(treatment_M)}
    dose = {treatment: np.nan if one is None else one.uva_total for treatment, one in known.items()}
    return PanelLabels(
        group_M=panel.frame["group_id"].to_numpy(dtype=str),
        treatment_M=treatment_M,
        dose_M=np.array([dose[treatment] for treatment in treatment_M]),
    )


def _integrity(
    corpus: Corpus, panel: Manifest, training: Manifest | None, prediction_ML: Floats, reference_ML: Floats
) -> Integrity:
    """Gate 0's counts; what was found brings its own words along."""
    counts = {"non_finite_values": float((~np.isfinite(prediction_ML)).sum() + (~np.isfinite(reference_ML)).sum())}
    words: dict[str, str] = {}
    if training is not None:
        words["leaked_groups"] = complaint(verify_disjoint, panel, training)
        counts["leaked_groups"] = float(len(set(panel.groups) & set(training.groups)))
        leaked, twice = leaked_pairs(corpus, panel, training), duplicate_pairs(corpus)
        words["leaked_captures"], words["duplicated_captures"] = named(leaked), named(twice)
        counts["leaked_captures"], counts["duplicated_captures"] = float(len(leaked)), float(len(twice))
    return Integrity(counts=counts, words={name: text for name, text in words.items() if text})


def complaint(check: Any, *arguments: object) -> str:
    """What a check that raises BadInput says; empty where it passes."""
    try:
        check(*arguments)
    except BadInput as error:
        return str(error)
    return ""


def _skill(own: Scores, scored: Mapping[str, Scores], labels: PanelLabels) -> tuple[dict[str, float], list[Measure]]:
    """Gate 5's measures: gains are positive where the predictions are better than the control."""
    raw, filtered = scored[RAW], scored[SAVGOL]
    by_group: list[Measure] = []
    with np.errstate(invalid="ignore"):  # under `self` raw is infinitely good; gate 5 is not judged there
        for group in dict.fromkeys(labels.group_M.tolist()):
            rows = labels.group_M == group
            psnr_gain = float(own.psnr_M[rows].mean() - raw.psnr_M[rows].mean())
            sam_gain = float(raw.sam_M[rows].mean() - own.sam_M[rows].mean())
            by_group.append(Measure("psnr_gain_over_raw", psnr_gain, {"group": group}))
            by_group.append(Measure("sam_gain_over_raw", sam_gain, {"group": group}))
        whole = {
            "psnr_gain_over_savgol": float(own.psnr_M.mean() - filtered.psnr_M.mean()),
            "sam_gain_over_savgol": float(filtered.sam_M.mean() - own.sam_M.mean()),
        }
    return whole, by_group
