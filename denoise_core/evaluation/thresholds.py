"""Every threshold of the readiness gates, with its reason: the only file that holds one.

The numbers of gates 1 to 4 are the seed's (`act_of_god_warm_start_plan.md`, "Readiness
gates", and its downstream proxy); gates 5 to 7 and the worth gate are ours. The reason travels into every verdict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pydantic import Field

from denoise_core.evaluation.measurement import Reference
from study_core.gates import Comparison, GateRule
from study_core.plan import Frozen

GATES = ("integrity", "aggregate", "tail", "roi", "downstream", "skill", "fidelity", "plausibility")
"""The gates in order: their index is the number that the reports print."""


def _threshold(default: float, title: str, reason: str, *, ge: float | None = 0.0, le: float | None = None) -> float:
    field: float = Field(default, title=title, description=reason, allow_inf_nan=False, ge=ge, le=le)
    return field


class GateThresholds(Frozen):
    """Thresholds of gates 1 to 7 and of worth. dB for PSNR, degrees for SAM, ratios in [0, 1]."""

    psnr_mean_min: float = _threshold(
        18.0, "PSNR, mean at least (dB)", "Fold 02 cleared the production bar at 22.4 dB; below 18 a run has diverged."
    )
    psnr_std_max: float = _threshold(
        4.0,
        "PSNR, standard deviation at most (dB)",
        "A model that is good on average and bad on some groups must not ship.",
    )
    sam_mean_max: float = _threshold(
        9.0, "SAM, mean at most (degrees)", "Fold 02 cleared the bar at 6.7 degrees; above 9 the shape is lost."
    )
    tail_psnr_min: float = _threshold(
        14.0, "Tail: PSNR of a capture at least (dB)", "Below 14 dB a single capture is unusable."
    )
    tail_sam_max: float = _threshold(
        12.0, "Tail: SAM of a capture at most (degrees)", "Above 12 degrees a single capture is unusable."
    )
    tail_ratio_min: float = _threshold(
        0.95, "Tail: share of captures at least", "At most one capture in twenty may lie in the tail.", le=1.0
    )
    roi_area_error_max_pct: float = _threshold(
        10.0,
        "ROI: area error of a capture at most (%)",
        "Dip areas inside 320-500 nm are what the analysis downstream reads.",
    )
    roi_ratio_min: float = _threshold(
        0.9, "ROI: share of captures at least", "Dip areas must hold for nine captures in ten.", le=1.0
    )
    spurious_max: float = _threshold(
        0.0, "ROI: spurious dips of a capture at most", "A dip that the sample does not have is an invented result."
    )
    spurious_free_ratio_min: float = _threshold(
        0.9,
        "ROI: share of captures within the spurious limit",
        "The seed's zero, read with its own share of spectra (nine in ten), because the reference is a mean of 149 "
        "noisy captures: the means of two halves of one group already disagree by 0.03 dips (up to 0.1 on the panel). "
        "1.0 demands zero on every row.",
        le=1.0,
    )
    variance_drop_min_pct: float = _threshold(
        20.0,
        "Downstream: fall of the within-group variance at least (%)",
        "A denoiser that leaves replicates as scattered as before does nothing for the analysis.",
    )
    separability_tolerance: float = _threshold(
        1e-6,
        "Downstream: loss of separability at most",
        "Treatments must stay as far apart as before; the tolerance is rounding error only.",
    )
    dose_delta_rho_min: float = _threshold(
        0.0,
        "Downstream: median change of the dose correlation at least",
        "Denoising must not weaken the dose response.",
        ge=None,
    )
    dose_improved_ratio_min: float = _threshold(
        0.7, "Downstream: share of dose series not worse at least", "The median alone can hide losing series.", le=1.0
    )
    peak_f1_min: float = _threshold(
        0.9,
        "Downstream: peak F1 against raw at least (fallback)",
        "Without a dose response to compare, the positions of sharp dips must survive.",
        le=1.0,
    )
    skill_psnr_over_raw_db: float = _threshold(
        0.0,
        "Skill: PSNR above raw in every group by more than (dB)",
        "A denoiser that is worse than no denoiser on any group must not ship; the published one was, on two of three.",
        ge=None,
    )
    skill_sam_over_raw_deg: float = _threshold(
        0.0, "Skill: SAM below raw in every group by more than (degrees)", "As for PSNR: never worse than raw.", ge=None
    )
    skill_psnr_over_sg_db: float = _threshold(
        0.0,
        "Skill: PSNR above Savitzky-Golay(61, 3) by at least (dB)",
        "A trained model must be worth at least a filter of two parameters.",
        ge=None,
    )
    skill_sam_over_sg_deg: float = _threshold(
        0.0, "Skill: SAM below Savitzky-Golay(61, 3) by at least (degrees)", "As for PSNR.", ge=None
    )

    fidelity_excess_max_se: float = _threshold(
        5.0,
        "Fidelity: excess of a group mean's departure at most (standard errors)",
        "Beyond what a fitted filter does nearby, the mean of a group's outputs must be the mean of its captures: some "
        "2,000 features of three groups reach 4.5 standard errors by chance; on the folds' test groups filter G "
        "reaches 0.8.",
    )
    unsupported_feature_max: float = _threshold(
        10.0,
        "Fidelity: unsupported dip or bump at most (times the ordinary departure)",
        "A lone dip that neither the captures nor the filters have is invented: honest models built on a filter reach "
        "6, methods that know nothing of each other 10.",
    )
    capture_departure_max: float = _threshold(
        2.5,
        "Fidelity: largest departure of one capture at most (times a filter's)",
        "What is done to a few captures hides in the mean of a group: honest models reach 1.5, filters that know "
        "nothing of each other 2.",
    )
    deeper_dips_max: float = _threshold(
        0.2,
        "Fidelity: share of captures with a deepened dip at most, beyond a filter's",
        "A dip is matched by depth, not only by place: of the honest models' captures at most 0.05 more than of the "
        "filters' have a dip 0.003 deeper than the reference's.",
        le=1.0,
    )
    treatment_difference_max_se: float = _threshold(
        5.0,
        "Fidelity: excess of a difference between treatments at most (standard errors)",
        "A treatment effect that the captures do not have is a false result: honest models reach 1.8 beyond the "
        "filters, a gain of 1 % in one treatment 7.5.",
    )
    error_over_floor_min: float = _threshold(
        0.7,
        "Plausibility: error over the floor of one capture at least",
        "From one capture nobody leaves much less than a filter leaves whose bias of the group was taken out: on the "
        "folds' test groups the best honest method leaves 0.95 of it; 0.7 is 1.5 dB below the floor.",
    )
    own_capture_min: float = _threshold(
        0.5,
        "Plausibility: likeness of an output's departure to a filter's of the same capture at least",
        "What an output leaves is its own capture's error: of an honest model half the captures are at least 0.93 "
        "alike, of a group's mean with another capture's error 0.05.",
        ge=-1.0,
        le=1.0,
    )
    worth_gain_low_db: float = _threshold(
        0.0,
        "Worth: lower end of the gain over the model's own filter, above (dB)",
        "A trained model whose gain over its filter is not resolved is a filter that is harder to explain.",
        ge=None,
    )

    def rule(
        self, gate: str, metric: str, comparison: Comparison, threshold: str, *, negate: bool = False, note: str = ""
    ) -> GateRule:
        """A rule on one of the thresholds by its field name; its reason is the field's description."""
        value = float(getattr(self, threshold))
        reason = type(self).model_fields[threshold].description or ""
        return GateRule(gate, metric, comparison, -value if negate else value, f"{reason} {note}".strip())


def field_of(reason: str) -> str:
    """The threshold whose description a rule's reason begins with; empty where none does."""
    known = {name: str(field.description) for name, field in GateThresholds.model_fields.items()}
    found = [name for name, description in known.items() if reason.startswith(description)]
    return max(found, key=lambda name: len(known[name]), default="")


def integrity_rules(*, hash_expected: bool) -> tuple[GateRule, ...]:
    """Gate 0. The hash is compared where one was expected (the seed's `--expected-hash` is optional)."""
    rules = (
        GateRule("integrity", "panel_hash_differs", "<=", 0.0, "The panel must be the one that was agreed on."),
        GateRule("integrity", "leaked_groups", "<=", 0.0, "A panel group in the training manifest voids the audit."),
        GateRule("integrity", "leaked_captures", "<=", 0.0, "A panel capture in training under another name does too."),
        GateRule("integrity", "duplicated_captures", "<=", 0.0, "A capture under two names is its own reference."),
        GateRule("integrity", "non_finite_values", "<=", 0.0, "A value that is not a number cannot be judged."),
    )
    return rules if hash_expected else rules[1:]


def metric_rules(
    thresholds: GateThresholds, reference: Reference, vacuous: Mapping[str, str] | None = None
) -> tuple[GateRule, ...]:
    """Gates 1, 2 and 3: aggregate, tail, ROI. `vacuous`: by metric, why its rule cannot fail on these data."""
    spurious = (
        thresholds.rule("roi", "spurious_free_ratio", ">=", "spurious_free_ratio_min")
        if reference == "loo"
        else thresholds.rule("roi", "spurious_peaks", "<=", "spurious_max", note="(published rule)")
    )
    rules = (
        thresholds.rule("aggregate", "psnr_mean", ">=", "psnr_mean_min"),
        thresholds.rule("aggregate", "psnr_std", "<=", "psnr_std_max"),
        thresholds.rule("aggregate", "sam_mean", "<=", "sam_mean_max"),
        thresholds.rule("tail", "joint_pass_ratio", ">=", "tail_ratio_min"),
        thresholds.rule("roi", "area_within_10_pct_ratio", ">=", "roi_ratio_min"),
        spurious,
    )
    return tuple(replace(rule, vacuous=(vacuous or {}).get(rule.metric, "")) for rule in rules)


def downstream_rules(
    thresholds: GateThresholds,
    *,
    dose_response_kept: bool,
    doses: bool = True,
    treatments: int = 2,
    vacuous: str = "",
) -> tuple[GateRule, ...]:
    """Gate 4. Where the dose response was lost or could not be measured, the seed falls back to peak F1.

    A study without `doses` has no dose response to lose, and a panel of one treatment nothing to keep apart: there is
    no such rule, and a notice says so. `vacuous`: why the dose test cannot fail on these data.
    """
    common = [thresholds.rule("downstream", "variance_drop_pct", ">=", "variance_drop_min_pct")]
    if treatments > 1:
        common.append(thresholds.rule("downstream", "separability_gain", ">=", "separability_tolerance", negate=True))
    if not doses:
        return tuple(common)
    if not dose_response_kept:
        fallback = "(fallback: the dose response was not kept or not measured)"
        return (*common, thresholds.rule("downstream", "peak_f1_mean", ">=", "peak_f1_min", note=fallback))
    return (*common, *(replace(rule, vacuous=vacuous) for rule in dose_rules(thresholds)))


def dose_rules(thresholds: GateThresholds) -> tuple[GateRule, ...]:
    """Gate 4's third part without its fallback."""
    return (
        thresholds.rule("downstream", "median_delta_rho", ">=", "dose_delta_rho_min"),
        thresholds.rule("downstream", "improved_ratio", ">=", "dose_improved_ratio_min"),
    )


def skill_rules(thresholds: GateThresholds) -> tuple[GateRule, ...]:
    """Gate 5 under the leave-one-out reference: better than raw in every group, no worse than Savitzky-Golay."""
    return (
        replace(thresholds.rule("skill", "psnr_gain_over_raw", ">", "skill_psnr_over_raw_db"), each="group"),
        replace(thresholds.rule("skill", "sam_gain_over_raw", ">", "skill_sam_over_raw_deg"), each="group"),
        thresholds.rule("skill", "psnr_gain_over_savgol", ">=", "skill_psnr_over_sg_db"),
        thresholds.rule("skill", "sam_gain_over_savgol", ">=", "skill_sam_over_sg_deg"),
    )


def fidelity_rules(thresholds: GateThresholds, *, controls: bool, treatments: int) -> tuple[GateRule, ...]:
    """Gate 6, of `fidelity.fidelity_measures`: `controls` where filters were fitted; pairs need two treatments."""

    def each(metric: str, threshold: str, key: str = "group") -> GateRule:
        return replace(thresholds.rule("fidelity", metric, "<=", threshold), each=key)

    return (
        each("fidelity_excess", "fidelity_excess_max_se"),
        *([each("unsupported_feature", "unsupported_feature_max")] if controls else []),
        each("capture_departure", "capture_departure_max"),
        each("deeper_dips", "deeper_dips_max"),
        *([each("treatment_difference", "treatment_difference_max_se", "treatments")] if treatments > 1 else []),
    )


def plausibility_rules(thresholds: GateThresholds, *, controls: bool) -> tuple[GateRule, ...]:
    """Gate 7, of `plausibility.plausibility_measures`; `controls` where filters were fitted."""

    def each(metric: str, threshold: str) -> GateRule:
        return replace(thresholds.rule("plausibility", metric, ">=", threshold), each="group")

    return (
        each("error_over_floor", "error_over_floor_min"),
        *([each("own_capture", "own_capture_min")] if controls else []),
    )


def worth_rules(thresholds: GateThresholds) -> tuple[GateRule, ...]:
    """The worth gate, of `measurement.Worth`. It recommends model or filter; it is no part of the readiness gates."""
    return (thresholds.rule("worth", "gain_over_base_low_db", ">", "worth_gain_low_db"),)
