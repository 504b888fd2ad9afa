"""Gates as data: silence refuses, the concept-free network is asked for where there is one, the seed's lines."""

from __future__ import annotations

import pytest

from concept_core.evaluation.thresholds import REQUIRED, SKILL, rules, seed_lines
from concept_core.plans import ConceptPlan, ModelPlan
from concept_core.replay import judged
from study_core.gates import GateRule, Measure, passed

PLAN = ConceptPlan()
WITH_TWIN = ConceptPlan(model=ModelPlan(concept_free="twin"))


def good(rule: GateRule) -> Measure:
    """A measure that just passes a rule."""
    assert rule.threshold is not None
    step = {">": 1e-6, "<": -1e-6}.get(rule.comparison, 0.0)
    return Measure(rule.metric, rule.threshold + step, dict(rule.slice))


def test_every_gate_has_a_rule_and_every_rule_a_reason() -> None:
    assert {rule.gate for rule in rules(PLAN)} == set(REQUIRED)
    assert all(len(rule.reason) > 20 for rule in rules(PLAN))


def test_figures_that_just_meet_every_rule_pass() -> None:
    assert passed(judged([good(rule) for rule in rules(WITH_TWIN)], WITH_TWIN))


@pytest.mark.parametrize("number", range(len(rules(WITH_TWIN))))
def test_one_missing_figure_refuses(number: int) -> None:
    measures = [good(rule) for rule in rules(WITH_TWIN)]
    records = judged(measures[:number] + measures[number + 1 :], WITH_TWIN)
    assert not passed(records)
    assert [one.metric for one in records if not one.passed] == [measures[number].metric]


def test_a_missing_control_refuses_the_skill_gate() -> None:
    measures = [good(rule) for rule in rules(PLAN) if rule.slice.get("control") != "untrained"]
    assert {one.gate for one in judged(measures, PLAN) if not one.passed} == {SKILL}


def test_the_concept_free_network_is_judged_with_a_margin_where_it_is_named() -> None:
    asked = {(rule.slice.get("control"), rule.threshold) for rule in rules(WITH_TWIN) if rule.gate == SKILL}
    assert ("concept_free", 0.05) in asked
    assert "concept_free" not in {rule.slice.get("control") for rule in rules(PLAN)}


def seed(model: float, bag: float) -> dict[str, str]:
    rows = []
    for source, value in (("model", model), ("bag20", bag)):
        rows += [
            Measure("auroc", value, {"source": source, "part": "held_out", "stratum": "rand"}),
            Measure("ap", value, {"source": source, "part": "held_out", "stratum": "rand"}),
            Measure("p", 0.005, {"source": source}),
            Measure("iou_median", value, {"source": source}),
        ]
    rows.append(Measure("null_mean", 0.51, {"source": "model"}))
    return {f"{line.what} {line.needs}": line.state for line in seed_lines(rows)}


def test_a_line_that_a_bag_of_residues_meets_too_says_nothing() -> None:
    lines = seed(model=0.99, bag=0.95)
    assert lines["AUROC against random negatives > 0.90"] == "holds but says nothing"
    assert lines["p of the permutation null < 0.05"] == "holds but says nothing"
    assert lines["AUROC of random CAVs about 0.50"] == "holds"
    assert lines["AUROC of esm2_t33_650M_UR50D > 0.95"] == "not measured"


def test_a_line_that_only_the_model_meets_holds_and_one_it_misses_fails() -> None:
    lines = seed(model=0.99, bag=0.40)
    assert lines["Localization IOU, median, two steps > 0.75"] == "holds"
    assert seed(model=0.70, bag=0.40)["Localization IOU, median, two steps > 0.75"] == "fails"
    assert lines["Recall@1 (IOU ≥ 0.5), two steps > 0.80"] == "not measured"
