"""The panel audit: all metrics, all gates, the controls beside them, and what the figures do not say.

Shapes: M rows of the panel (twin rows included, as in the published audit), L wavelengths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from denoise_core.corpus.manifest import Manifest, verify_disjoint, verify_manifest_hash
from denoise_core.corpus.reference import loo_mean
from denoise_core.corpus.store import Corpus
from denoise_core.corpus.study import Study
from denoise_core.evaluation import scores as figures
from denoise_core.evaluation.controls import LEFT_OUT, savgol
from denoise_core.evaluation.downstream import PanelLabels, downstream_metrics, flat_metrics
from denoise_core.evaluation.honesty import (
    blind_prediction,
    honest_controls,
    honesty_measures,
    is_fitted,
    vacuous_metrics,
)
from denoise_core.evaluation.leak import duplicate_pairs, leaked_pairs, named
from denoise_core.evaluation.metrics import Floats
from denoise_core.evaluation.report import PanelAudit
from denoise_core.evaluation.scores import Scores, score
from denoise_core.evaluation.selection import (
    offset_outliers,
    selection_notice,
    sister_groups,
    std_without_outliers,
)
from denoise_core.evaluation.thresholds import (
    GATES,
    GateThresholds,
    Reference,
    downstream_rules,
    fidelity_rules,
    integrity_rules,
    metric_rules,
    plausibility_rules,
    skill_rules,
)
from denoise_core.evaluation.uncertainty import coverage
from study_core.errors import BadInput
from study_core.gates import GateRecord, Measure, judge, passed, refused

RAW, SAVGOL = "raw", "savgol_61_3"


def audit_predictions(
    corpus: Corpus,
    panel: Manifest,
    predictions_ML: ArrayLike,
    *,
    reference: Reference = "loo",
    thresholds: GateThresholds | None = None,
    training: Manifest | None = None,
    controls: Mapping[str, ArrayLike] | None = None,
    expected_hash: str | None = None,
    selected_on: Sequence[str] = (),
    standard_error_ML: ArrayLike | None = None,
    unseen: dict[str, Any] | None = None,
    checkpoint: str = "predictions",
) -> PanelAudit:
    """Judge one prediction a panel row on gates 0 to 7.

    `training`: the manifest the model was trained on; without it gate 0 refuses. `controls`: further
    predictions (M, L) by name for the table (`controls.fitted_control_predictions`); raw and
    Savitzky-Golay are always there. `expected_hash`: of the panel's rows or bytes. `selected_on`:
    groups on which the checkpoint was chosen. `unseen`: from `selection.unseen_figures`.
    Raises BadInput when a row is not in the corpus or shapes differ; bad *values* are refused by gate 0.
    """
    thresholds = thresholds or GateThresholds()
    roi_nm = corpus.study.roi_nm
    rows = corpus.rows(panel)
    raw_ML = corpus.spectra_NL[rows].astype(np.float64)
    prediction_ML = np.asarray(predictions_ML, np.float64)
    if prediction_ML.shape != raw_ML.shape:
        raise BadInput(
            f"{prediction_ML.shape} predictions for {raw_ML.shape} panel rows and wavelengths",
            file=panel.path,
            remedy="give one prediction for each row of the panel, on the corpus's wavelength grid",
        )
    reference_ML = raw_ML if reference == "self" else loo_mean(corpus, rows).astype(np.float64)
    integrity, integrity_gates = _integrity(corpus, panel, training, expected_hash, prediction_ML, reference_ML)
    prediction_ML = np.where(np.isfinite(prediction_ML), prediction_ML, np.nan)  # counted above; ∞ must not win
    own = score(prediction_ML, reference_ML, corpus.wavelength_nm, reference, roi_nm)
    labels = _labels(panel, corpus.study)
    compared = {RAW: raw_ML, SAVGOL: savgol(raw_ML), **(controls or {})}
    scored = {name: score(x, reference_ML, corpus.wavelength_nm, reference, roi_nm) for name, x in compared.items()}
    downstream = downstream_metrics(raw_ML, prediction_ML, labels, corpus.wavelength_nm, thresholds, roi_nm)

    metrics = {
        **integrity,
        **figures.aggregate(own),
        **figures.tail(own, thresholds),
        **figures.roi(own, thresholds),
        **flat_metrics(downstream),
        **_skill(own, scored, labels),
    }
    honesty: list[Measure] = []
    vacuous: dict[str, str] = {}
    if reference == "loo":  # under `self` nothing ships, and the published verdicts stand as they were
        unique = ~panel.frame["relative_path"].duplicated().to_numpy()
        honesty = honesty_measures(
            prediction_ML, reference_ML, raw_ML, controls or {}, labels, corpus.wavelength_nm, unique, roi_nm
        )
        blind_ML = None if training is None else blind_prediction(corpus, training, len(rows))
        vacuous = vacuous_metrics(blind_ML, reference_ML, corpus.wavelength_nm, thresholds, downstream, roi_nm)
    gates = integrity_gates + _judge(metrics, thresholds, reference, panel, downstream, vacuous)
    gates += _judge_honesty(honesty, thresholds, controls or {}, labels) if reference == "loo" else ()
    outlier_M = offset_outliers(raw_ML, loo_mean(corpus, rows).astype(np.float64), labels.group_M)
    metrics["psnr_std_without_offset_outliers"] = std_without_outliers(own.psnr_M, outlier_M)
    metrics["offset_outliers"] = float(outlier_M.sum())
    audit = PanelAudit(
        checkpoint=checkpoint,
        reference=reference,
        panel=panel,
        gates=gates,
        metrics=metrics,
        per_spectrum=_per_spectrum(panel, own),
        per_group=_group_table(own, labels),
        downstream=_with_verdicts(downstream, gates),
        controls={name: figures.control_row(s, labels.group_M, thresholds) for name, s in scored.items()},
        notices=(),
        uncertainty=None
        if standard_error_ML is None
        else coverage(prediction_ML, standard_error_ML, reference_ML, labels.group_M),
        unseen=unseen,
    )
    return replace(audit, notices=_notices(audit, training, expected_hash, selected_on))


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
    corpus: Corpus,
    panel: Manifest,
    training: Manifest | None,
    expected_hash: str | None,
    prediction_ML: Floats,
    reference_ML: Floats,
) -> tuple[dict[str, float], tuple[GateRecord, ...]]:
    """Gate 0's metrics and verdicts; a failed check brings its own words along."""
    metrics = {"non_finite_values": float((~np.isfinite(prediction_ML)).sum() + (~np.isfinite(reference_ML)).sum())}
    words: dict[str, str] = {}
    if expected_hash is not None:
        words["panel_hash_differs"] = _complaint(verify_manifest_hash, panel, expected_hash)
        metrics["panel_hash_differs"] = float(bool(words["panel_hash_differs"]))
    if training is not None:
        words["leaked_groups"] = _complaint(verify_disjoint, panel, training)
        metrics["leaked_groups"] = float(len(set(panel.groups) & set(training.groups)))
        leaked, twice = leaked_pairs(corpus, panel, training), duplicate_pairs(corpus)
        words["leaked_captures"], words["duplicated_captures"] = named(leaked), named(twice)
        metrics["leaked_captures"], metrics["duplicated_captures"] = float(len(leaked)), float(len(twice))
    verdicts = judge(metrics, integrity_rules(hash_expected=expected_hash is not None))
    return metrics, tuple(
        verdict.model_copy(update={"reason": words[verdict.metric]}) if words.get(verdict.metric) else verdict
        for verdict in verdicts
    )


def _complaint(check: Any, *arguments: object) -> str:
    try:
        check(*arguments)
    except BadInput as error:
        return str(error)
    return ""


def _skill(own: Scores, scored: Mapping[str, Scores], labels: PanelLabels) -> dict[str, float]:
    """Gate 5's metrics: gains are positive where the predictions are better than the control."""
    raw, filtered = scored[RAW], scored[SAVGOL]
    metrics: dict[str, float] = {}
    with np.errstate(invalid="ignore"):  # under `self` raw is infinitely good; gate 5 is not judged there
        for group in dict.fromkeys(labels.group_M.tolist()):
            rows = labels.group_M == group
            metrics[f"psnr_gain_over_raw[{group}]"] = float(own.psnr_M[rows].mean() - raw.psnr_M[rows].mean())
            metrics[f"sam_gain_over_raw[{group}]"] = float(raw.sam_M[rows].mean() - own.sam_M[rows].mean())
        metrics["psnr_gain_over_savgol"] = float(own.psnr_M.mean() - filtered.psnr_M.mean())
        metrics["sam_gain_over_savgol"] = float(filtered.sam_M.mean() - own.sam_M.mean())
    return metrics


def _judge(
    metrics: Mapping[str, object],
    thresholds: GateThresholds,
    reference: Reference,
    panel: Manifest,
    downstream: Mapping[str, Any],
    vacuous: Mapping[str, str],
) -> tuple[GateRecord, ...]:
    """Gates 1 to 5."""
    dose = downstream["dose_monotonicity"]
    rules = [
        *metric_rules(thresholds, reference, vacuous),
        *downstream_rules(
            thresholds,
            dose_response_kept=bool(dose["primary_pass"]),
            doses=dose["dose_column_used"] is not None,
            treatments=panel.frame["treatment"].nunique(),
            vacuous=vacuous.get("dose_monotonicity", ""),
        ),
    ]
    if reference == "loo":
        return judge(metrics, rules + list(skill_rules(thresholds, panel.groups)), required=GATES[1:6])
    why = "not applicable: under the reference `self` raw captures are perfect by definition"
    return (*judge(metrics, rules, required=GATES[1:5]), refused("skill", "psnr_gain_over_raw", why))


def _judge_honesty(
    measures: Sequence[Measure], thresholds: GateThresholds, controls: Mapping[str, ArrayLike], labels: PanelLabels
) -> tuple[GateRecord, ...]:
    """Gates 6 and 7: fidelity and plausibility."""
    rules = [
        *fidelity_rules(
            thresholds, controls=bool(honest_controls(controls)), treatments=len(np.unique(labels.treatment_M))
        ),
        *plausibility_rules(thresholds),
    ]
    return judge(measures, rules, required=GATES[6:])


def _per_spectrum(panel: Manifest, own: Scores) -> pd.DataFrame:
    """The published table of captures, rows in the panel's order."""
    columns = ["relative_path", "group_id", "treatment", "sample", "angle"]
    return panel.frame[columns].assign(
        psnr_db=own.psnr_M,
        sam_deg=own.sam_M,
        roi_area_error_pct=own.dips.area_error_pct_M,
        roi_centroid_error_nm=own.dips.centroid_error_nm_M,
        roi_depth_mae=own.dips.depth_error_M,
    )


def _group_table(own: Scores, labels: PanelLabels) -> pd.DataFrame:
    table = pd.DataFrame.from_dict(figures.per_group(own, labels.group_M), orient="index")
    return table.astype({"count": int}).rename_axis("group_id").reset_index()


def _with_verdicts(downstream: Mapping[str, Any], gates: Sequence[GateRecord]) -> dict[str, Any]:
    """The published `pass` keys, taken from the same verdicts that judge gate 4."""
    mine = [result for result in gates if result.gate == "downstream"]
    part = {"variance_drop_pct": "replicate_consistency", "separability_gain": "separability"}
    verdicts = dict.fromkeys(("replicate_consistency", "separability", "dose_monotonicity"), True)
    for result in mine:
        verdicts[part.get(result.metric, "dose_monotonicity")] &= result.passed
    parts = {name: {**downstream[name], "pass": verdict} for name, verdict in verdicts.items()}
    return {**parts, "pass": passed(mine)}


def _notices(
    audit: PanelAudit, training: Manifest | None, expected_hash: str | None, selected_on: Sequence[str]
) -> tuple[str, ...]:
    """What a reader must know beside the figures, a sentence each."""
    metrics, dose = audit.metrics, audit.downstream["dose_monotonicity"]
    across = dose["across_groups"]
    sisters = sister_groups(audit.panel, training) if training is not None else ()
    recommended = str((audit.unseen or {}).get("worth", {}).get("recommendation", ""))
    fitted = [name for name in audit.controls if is_fitted(name)]
    lines: list[tuple[bool, str]] = [
        (
            not audit.reference_may_ship,
            "Reference `self`: each capture is scored against itself. It reproduces the published audit and never "
            "decides shipping: the perfect denoiser fails gate 3 under it, and the identity gets an infinite PSNR.",
        ),
        (
            dose["dose_column_used"] is None,
            "The study gives no doses for the panel's treatments: gate 4 has no dose test.",
        ),
        (
            audit.panel.frame["treatment"].nunique() < 2,
            "The panel holds one treatment: gate 4 cannot ask whether treatments stay apart.",
        ),
        (
            bool(dose["vacuous"]) and dose["dose_column_used"] is not None,
            "Dose monotonicity is vacuous: no treatment of the panel has two doses, so every correlation is 0 and the "
            f"test cannot fail. Across the {across['groups']} groups the correlation of dose with ROI area is "
            f"{across['baseline_rho']:.2f} raw, {across['denoised_rho']:.2f} denoised.",
        ),
        (
            audit.reference_may_ship and not fitted,
            "No fitted filter stood beside the predictions: the gate of fidelity allowed for nothing but noise.",
        ),
        (expected_hash is None, "The panel's hash was not checked: no expected hash was given."),
        (
            training is None,
            "No training manifest was given, so a leak of panel groups cannot be ruled out: gate 0 refuses.",
        ),
        (True, selection_notice(audit.panel, selected_on)),
        (
            bool(sisters),
            f"The panel's samples are in training at their other angle ({', '.join(sisters)}); "
            f"the controls named …{LEFT_OUT}, where computed, are refitted without them.",
        ),
        (
            True,
            f"PSNR_std is {metrics['psnr_std']:.2f} dB; without the {metrics['offset_outliers']:.0f} rows whose offset "
            f"lies beyond 3 sigma it is {metrics['psnr_std_without_offset_outliers']:.2f} dB.",
        ),
        (
            audit.reference == "loo" and metrics["spurious_peaks"] > 0 and audit.gate_passed("roi"),
            f"{metrics['spurious_peaks']:.0f} spurious dips on {len(audit.panel)} rows "
            f"({metrics['spurious_per_capture']:.3f} a capture): within the tolerance, not zero.",
        ),
        (bool(recommended), recommended),
        (
            audit.unseen is None,
            "No figures on groups that neither training nor any choice has seen were given (a fold's test groups).",
        ),
    ]
    return tuple(text for applies, text in lines if applies)
