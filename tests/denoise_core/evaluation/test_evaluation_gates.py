"""Gates refuse silence, and every mutant of a rule or a threshold is noticed."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from denoise_core.evaluation.thresholds import (
    GATES,
    GateThresholds,
    downstream_rules,
    integrity_rules,
    metric_rules,
    skill_rules,
)
from study_core.gates import GateRule, Measure, judge, passed, refused

THRESHOLDS = GateThresholds()
GOOD = {
    "panel_hash_differs": 0.0,
    "leaked_groups": 0.0,
    "leaked_captures": 0.0,
    "duplicated_captures": 0.0,
    "non_finite_values": 0.0,
    "psnr_mean": 53.4,
    "psnr_std": 3.5,
    "sam_mean": 0.3,
    "joint_pass_ratio": 1.0,
    "area_within_10_pct_ratio": 0.91,
    "spurious_free_ratio": 0.98,
    "spurious_peaks": 0.0,
    "variance_drop_pct": 83.0,
    "separability_gain": 12.0,
    "median_delta_rho": 0.0,
    "improved_ratio": 1.0,
    "peak_f1_mean": 0.95,
    "psnr_gain_over_raw": 8.0,
    "sam_gain_over_raw": 0.5,
    "psnr_gain_over_savgol": 4.0,
    "sam_gain_over_savgol": 0.3,
}
RULES = (
    *integrity_rules(hash_expected=True),
    *metric_rules(THRESHOLDS, "loo"),
    metric_rules(THRESHOLDS, "self")[-1],
    *downstream_rules(THRESHOLDS, dose_response_kept=True),
    downstream_rules(THRESHOLDS, dose_response_kept=False)[-1],
    *(replace(rule, each="") for rule in skill_rules(THRESHOLDS)),  # by group: below
)
JUDGED = GATES[:6]  # fidelity and plausibility are judged by slice: test_evaluation_fraud
every_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.metric)
WRONG_WAY = {"<=": ">", ">=": "<", "<": ">=", ">": "<="}


def test_good_metrics_pass_and_every_gate_is_judged() -> None:
    results = judge(GOOD, RULES, required=JUDGED)
    assert passed(results)
    assert {result.gate for result in results} == set(JUDGED)
    assert all(result.reason and result.value is not None and result.threshold is not None for result in results)


@every_rule
@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), float("-inf"), "fifty", []])
def test_a_metric_that_is_no_finite_number_is_refused(rule: GateRule, value: object) -> None:
    results = judge({**GOOD, rule.metric: value}, RULES, required=JUDGED)
    bad = [result for result in results if not result.passed]
    assert [result.metric for result in bad] == [rule.metric]
    assert bad[0].value is None
    assert "refused" in bad[0].reason


@every_rule
def test_a_missing_metric_is_refused(rule: GateRule) -> None:
    metrics = {name: value for name, value in GOOD.items() if name != rule.metric}
    assert not passed(judge(metrics, RULES), gate=rule.gate)


@every_rule
@pytest.mark.parametrize("threshold", [None, float("nan"), float("inf"), float("-inf")])
def test_a_rule_without_a_threshold_is_refused(rule: GateRule, threshold: float | None) -> None:
    (result,) = judge(GOOD, [replace(rule, threshold=threshold)])
    assert not result.passed
    assert "no threshold" in result.reason


@every_rule
def test_a_turned_comparison_is_noticed(rule: GateRule) -> None:
    turned = replace(rule, comparison=WRONG_WAY[rule.comparison])
    on_the_threshold = {rule.metric: rule.threshold}
    assert judge(GOOD, [rule])[0].passed
    assert judge(on_the_threshold, [rule])[0].passed != judge(on_the_threshold, [turned])[0].passed


@every_rule
def test_a_metric_on_the_bad_side_of_its_threshold_fails_only_its_gate(rule: GateRule) -> None:
    assert rule.threshold is not None
    step = max(abs(rule.threshold), 1.0) * 1e-6
    worse = rule.threshold + (step if rule.comparison.startswith("<") else -step)
    results = judge({**GOOD, rule.metric: worse}, RULES)
    assert [result.metric for result in results if not result.passed] == [rule.metric]
    assert not passed(results, gate=rule.gate)


@every_rule
def test_dropping_the_only_rule_of_a_gate_is_refused(rule: GateRule) -> None:
    others = [other for other in RULES if other.gate != rule.gate]
    results = judge(GOOD, others, required=JUDGED)
    assert not passed(results)
    assert [result.gate for result in results if not result.passed] == [rule.gate]


def test_a_group_that_was_not_measured_is_refused_by_name() -> None:
    rules = [rule for rule in skill_rules(THRESHOLDS) if rule.each]
    measures = [Measure(rule.metric, 8.0, {"group": "one"}) for rule in rules]
    assert passed(judge(measures, rules, expected={"group": ["one"]}))
    records = judge(measures, rules, expected={"group": ["one", "other"]})
    refusals = [record.reason for record in records if not record.passed]
    assert refusals == ["refused: group other was not measured"] * len(rules)


def test_an_empty_list_of_gates_never_passes() -> None:
    assert not passed(judge(GOOD, []))
    assert not passed(())
    assert not passed(judge(GOOD, RULES), gate="a gate that does not exist")
    assert not refused("skill", "psnr", "not applicable").passed


def test_booleans_of_other_rules_do_not_hide_a_failure() -> None:
    results = judge({**GOOD, "psnr_std": 4.97, "sam_mean": 99.0}, RULES)
    assert [result.metric for result in results if not result.passed] == ["psnr_std", "sam_mean"]


@given(st.floats(allow_nan=True, allow_infinity=True), st.floats(-1e6, 1e6), st.sampled_from(sorted(WRONG_WAY)))
def test_a_verdict_and_its_opposite_never_agree_and_nan_never_passes(
    value: float, threshold: float, comparison: str
) -> None:
    rule = GateRule("g", "m", comparison, threshold, "r")  # type: ignore[arg-type]
    opposite = replace(rule, comparison=WRONG_WAY[comparison])  # type: ignore[arg-type]
    verdict, other = judge({"m": value}, [rule])[0].passed, judge({"m": value}, [opposite])[0].passed
    finite = value == value and abs(value) != float("inf")
    assert (verdict != other) if finite else not (verdict or other)


@pytest.mark.parametrize("field", sorted(GateThresholds.model_fields))
def test_every_threshold_is_titled_reasoned_and_used(field: str) -> None:
    info = GateThresholds.model_fields[field]
    assert info.title
    assert info.description
    source = Path(__file__).parents[3] / "denoise_core" / "evaluation"
    used = [
        name for name in ("thresholds.py", "limits.py") if re.search(rf'["\.]{field}\b', (source / name).read_text())
    ]
    assert used


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "eighteen", None])
def test_a_threshold_that_is_no_number_is_refused_at_the_door(value: object) -> None:
    with pytest.raises(ValidationError):
        GateThresholds(psnr_mean_min=value)  # type: ignore[arg-type]


def test_a_misspelt_threshold_is_an_error() -> None:
    with pytest.raises(ValidationError):
        GateThresholds(psnr_mean_minimum=20.0)  # type: ignore[call-arg]


def test_thresholds_are_the_seeds() -> None:
    """The plan's own words against the table."""
    plan = Path(__file__).parents[4] / "shared" / "seeds" / "act_of_god_warm_start_plan.md"
    if not plan.exists():
        pytest.skip(f"no seed document at {plan}")
    text = re.sub(r"\s+", " ", plan.read_text(encoding="utf-8")).replace(" %", "%")  # it has narrow spaces
    quoted = {
        "psnr_mean_min": r"PSNR_mean ≥ ([\d.]+) dB",
        "psnr_std_max": r"PSNR_std ≤ ([\d.]+) dB",
        "sam_mean_max": r"SAM_mean ≤ ([\d.]+)°",
        "tail_psnr_min": r"`PSNR ≥ ([\d.]+) dB`",
        "tail_sam_max": r"`SAM ≤ ([\d.]+)°`",
        "roi_area_error_max_pct": r"≤([\d.]+)% error for",
    }
    for field, pattern in quoted.items():
        found = re.search(pattern, text)
        assert found, pattern
        assert getattr(THRESHOLDS, field) == float(found[1])
    shares = {"tail_ratio_min": r"≥([\d.]+)% of spectra with", "roi_ratio_min": r"error for ≥([\d.]+)% of spectra"}
    for field, pattern in shares.items():
        found = re.search(pattern, text)
        assert found, pattern
        assert getattr(THRESHOLDS, field) == pytest.approx(float(found[1]) / 100)
    assert "zero spurious peaks" in text
    assert THRESHOLDS.spurious_max == 0.0


def test_separability_may_fall_by_rounding_error_only() -> None:
    """`≥ raw − 1e-6`: the tolerance is a loss, so its sign turns."""
    (rule,) = [rule for rule in RULES if rule.metric == "separability_gain"]
    assert (rule.comparison, rule.threshold) == (">=", -1e-6)
