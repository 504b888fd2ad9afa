"""What a form of a concept study is refused for, before anything is sent; and what becomes of its options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from study_core.errors import BadInput

pytest.importorskip("transformers")

from tasks.concept import inputs
from tasks.concept.parameters import ProbePlan, ScanPlan

pytestmark = pytest.mark.concept


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATED_ARTIFACTS", str(tmp_path / "artifacts"))


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ({"config": "no/such.yaml"}, "no such file"),
        ({"model": "esm2_t99"}, "one of house_esm2, "),
        ({"model": "esm2_t6_8M_UR50D"}, "download it where there is a network"),
        ({"concept_free": "no_twin"}, "no model 'no_twin'"),
        ({"changes": {"cav": {"refits": 9}}}, "no option cav.refits; one of"),
        ({"changes": {"cavs": {}}}, "no option cavs; one of"),
        ({"changes": {"data": {"folds": 1}}}, "data.folds: Input should be greater"),
        ({"changes": {"model": {"layers": [9]}}}, "no layer 9"),
    ],
)
def test_a_study_that_cannot_be_is_one_line_with_a_remedy(form: dict[str, Any], told: str) -> None:
    with pytest.raises(BadInput) as error:
        inputs.study_of(ProbePlan.model_validate(form))
    assert told in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ({}, "no FASTA file is named"),
        ({"fasta": "no/such.fasta"}, "no such file"),
        ({"fasta": "README.md"}, "no probe of C2H2 in house_esm2 is in production"),
        ({"fasta": "README.md", "probe": "data/concept"}, "no scan.json"),
    ],
)
def test_a_scan_that_cannot_be_is_one_line_with_a_remedy(form: dict[str, Any], told: str) -> None:
    with pytest.raises(BadInput) as error:
        inputs.scan_of(ScanPlan.model_validate(form))
    assert told in str(error.value)
    assert error.value.remedy


def test_the_form_wins_over_the_file_and_another_gate_changes_no_request() -> None:
    form = ProbePlan.model_validate(
        {
            "changes": {"data": {"seed": 3}, "gates": {"p_max": 0.01}},
            "gates": {"worst_oof_min": 0.5},
            "sensitivity": True,
        }
    )
    study = inputs.study_of(form)
    assert (study.plan.data.seed, study.plan.gates.p_max, study.plan.gates.worst_oof_min) == (3, 0.01, 0.5)
    assert study.plan.sensitivity.on
    assert study.registry == "concept-C2H2@house_esm2"
    from tasks.concept.steps import smoke_test

    other = inputs.study_of(form.model_copy(update={"gates": form.gates.model_copy(update={"p_max": 1.0})}))
    assert smoke_test(study).spec.arguments == smoke_test(other).spec.arguments


def test_without_the_extra_a_study_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "EXTRA", ("numpy", "no_such_package"))
    with pytest.raises(BadInput, match="no_such_package is not installed; pip install"):
        inputs.study_of(ProbePlan())
