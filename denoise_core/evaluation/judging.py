"""Judging what was measured: a pure function of a measurement, thresholds, and where the panel came from.

No spectrum, no job: another threshold judges the same numbers again, in milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from denoise_core.corpus.manifest import Manifest, verify_manifest_hash
from denoise_core.evaluation.controls import is_fitted
from denoise_core.evaluation.limits import method_row, roi, tail
from denoise_core.evaluation.measurement import Downstream, Measurement, Scored
from denoise_core.evaluation.notices import notices
from denoise_core.evaluation.report import PanelAudit
from denoise_core.evaluation.thresholds import (
    GATES,
    GateThresholds,
    dose_rules,
    downstream_rules,
    fidelity_rules,
    integrity_rules,
    metric_rules,
    plausibility_rules,
    skill_rules,
)
from denoise_core.evaluation.unseen import unseen_record
from study_core.errors import BadInput
from study_core.gates import GateRecord, Measure, judge, passed, refused

QUALITY = ("psnr_mean", "sam_mean", "joint_pass_ratio")
"""Metrics of gates 1 and 2 that a better output has more of."""


def judge_measurement(
    found: Measurement,
    panel: Manifest,
    thresholds: GateThresholds | None = None,
    *,
    expected_hash: str | None = None,
    selected_on: Sequence[str] = (),
    started_on: Sequence[str] = (),
) -> PanelAudit:
    """Judge a measurement on gates 0 to 7.

    `panel`: the manifest it was measured on (BadInput for another). `expected_hash`: of the panel's rows or bytes.
    `selected_on`: groups on which the checkpoint was chosen, `started_on`: that its warm start had seen. What was not
    measured is refused.
    """
    if found.panel_sha256 != panel.rows_sha256:
        raise BadInput("measured on another panel", file=panel.path, remedy="measure it on this one")
    limits = thresholds or GateThresholds()
    downstream = published_downstream(found.downstream, limits)
    metrics = {
        **found.integrity.counts,
        **found.own.figures,
        **tail(found.own, limits),
        **roi(found.own, limits),
        **flat_metrics(downstream),
        **found.metrics,
    }
    gates = _integrity(found, panel, expected_hash) + _readiness(found, metrics, limits, panel, downstream)
    if found.reference == "loo":
        gates += _honesty(found, limits, panel)
    if expected_hash is not None:
        metrics["panel_hash_differs"] = next(x.value or 0.0 for x in gates if x.metric == "panel_hash_differs")
    group_M = panel.frame["group_id"].tolist()
    audit = PanelAudit(
        checkpoint=found.checkpoint,
        reference=found.reference,
        panel=panel,
        gates=gates,
        metrics=metrics,
        per_spectrum=_per_spectrum(panel, found.own),
        per_group=_group_table(found.own),
        by_group=method_row(found.own, group_M, limits)["by_group"],
        downstream=_with_verdicts(downstream, gates),
        controls={name: method_row(control, group_M, limits) for name, control in found.controls.items()},
        notices=(),
        uncertainty=found.uncertainty,
        unseen=None if found.unseen is None else unseen_record(found.unseen, limits),
    )
    return replace(audit, notices=notices(audit, found.sisters, expected_hash, selected_on, started_on))


def published_downstream(found: Downstream, thresholds: GateThresholds) -> dict[str, Any]:
    """`downstream_metrics.json` under the published names, before its verdicts.

    `primary_pass`: the dose response was kept; peak F1 then counts for nothing and is no number, as published.
    """
    dose, across = found.dose_monotonicity, found.dose_monotonicity.across_groups
    kept = passed(judge(dose.model_dump(), dose_rules(thresholds)))
    return {
        "replicate_consistency": dict(found.replicate_consistency),
        "separability": dict(found.separability),
        "dose_monotonicity": {
            **dose.model_dump(exclude={"across_groups"}),
            "peak_f1_mean": float("nan") if kept else dose.peak_f1_mean,
            "primary_pass": kept,
            "across_groups": {**across.model_dump(exclude={"kept"}), "pass": across.kept},
        },
    }


def flat_metrics(downstream: Mapping[str, Any]) -> dict[str, float]:
    """The names that gate 4's rules use."""
    dose = downstream["dose_monotonicity"]
    return {
        "variance_drop_pct": 100.0 * downstream["replicate_consistency"]["reduction_pct"],
        "separability_gain": downstream["separability"]["delta_ratio"],
        "median_delta_rho": dose["median_delta_rho"],
        "improved_ratio": dose["improved_ratio"],
        "peak_f1_mean": dose["peak_f1_mean"],
    }


def _integrity(found: Measurement, panel: Manifest, expected_hash: str | None) -> tuple[GateRecord, ...]:
    """Gate 0; a failed check brings its own words along."""
    counts, words = dict(found.integrity.counts), dict(found.integrity.words)
    if expected_hash is not None:
        words["panel_hash_differs"] = _hash_differs(panel, expected_hash)
        counts["panel_hash_differs"] = float(bool(words["panel_hash_differs"]))
    records = judge(counts, integrity_rules(hash_expected=expected_hash is not None))
    return tuple(
        record.model_copy(update={"reason": words[record.metric]}) if words.get(record.metric) else record
        for record in records
    )


def _hash_differs(panel: Manifest, expected_hash: str) -> str:
    try:
        verify_manifest_hash(panel, expected_hash)
    except BadInput as error:
        return str(error)
    return ""


def _readiness(
    found: Measurement,
    metrics: Mapping[str, float],
    thresholds: GateThresholds,
    panel: Manifest,
    downstream: Mapping[str, Any],
) -> tuple[GateRecord, ...]:
    """Gates 1 to 5."""
    dose, vacuous = downstream["dose_monotonicity"], _vacuous(found, thresholds)
    rules = [
        *metric_rules(thresholds, found.reference, vacuous),
        *downstream_rules(
            thresholds,
            dose_response_kept=bool(dose["primary_pass"]),
            doses=dose["dose_column_used"] is not None,
            treatments=panel.frame["treatment"].nunique(),
            vacuous=vacuous.get("dose_monotonicity", ""),
        ),
    ]
    if found.reference == "loo":
        measures = [*(Measure(name, value) for name, value in metrics.items()), *found.slices]
        rules += skill_rules(thresholds)
        return judge(measures, rules, required=GATES[1:6], expected={"group": panel.groups})
    why = "not applicable: under the reference `self` raw captures are perfect by definition"
    return (*judge(metrics, rules, required=GATES[1:5]), refused("skill", "psnr_gain_over_raw", why))


def _vacuous(found: Measurement, thresholds: GateThresholds) -> dict[str, str]:
    """Why a rule cannot fail on this panel, by metric: a method that never looks at a capture passes it, too.

    `dose_monotonicity` stands for both of the dose test's rules. Without a blind prediction nothing is said of gates
    1 and 2. The spread of the PSNR is no measure of quality: that a blind method's is small makes its rule no emptier.
    """
    why: dict[str, str] = {}
    if found.reference != "loo":
        return why
    if found.downstream.dose_monotonicity.vacuous:
        why["dose_monotonicity"] = "no treatment of this panel has two doses, so every correlation is 0"
    if found.blind is None:
        return why
    rules = [rule for rule in metric_rules(thresholds, "loo") if rule.metric in QUALITY]
    for record in judge({**found.blind.figures, **tail(found.blind, thresholds)}, rules):
        if record.passed:
            why[record.metric] = (
                f"the mean of the training captures, given for every capture, passes with {record.value:.4g}"
            )
    return why


def _honesty(found: Measurement, thresholds: GateThresholds, panel: Manifest) -> tuple[GateRecord, ...]:
    """Gates 6 and 7: fidelity and plausibility."""
    controls = any(is_fitted(name) for name in found.controls)
    treatments = panel.frame["treatment"].nunique()
    rules = [
        *fidelity_rules(thresholds, controls=controls, treatments=treatments),
        *plausibility_rules(thresholds, controls=controls),
    ]
    return judge(found.slices, rules, required=GATES[6:], expected={"group": panel.groups})


def _per_spectrum(panel: Manifest, own: Scored) -> pd.DataFrame:
    """The published table of captures, rows in the panel's order."""
    columns = ["relative_path", "group_id", "treatment", "sample", "angle"]
    return panel.frame[columns].assign(
        psnr_db=own.psnr_M,
        sam_deg=own.sam_M,
        roi_area_error_pct=own.area_error_pct_M,
        roi_centroid_error_nm=own.centroid_error_nm_M,
        roi_depth_mae=own.depth_error_M,
    )


def _group_table(own: Scored) -> pd.DataFrame:
    table = pd.DataFrame.from_dict(own.by_group, orient="index")
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
