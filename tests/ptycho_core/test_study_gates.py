"""The study's gates: each refuses what it is there to refuse, silence refuses, and skips are results."""

from __future__ import annotations

from typing import Any

import pytest

from ptycho_core.comparison import ARMS
from ptycho_core.design import ALL, StudyDesign, get_study_design
from ptycho_core.evaluation.cells import cells_of
from ptycho_core.evaluation.gates import Evidence, StudyVerdict, judge_study
from ptycho_core.evaluation.thresholds import GATES, MINI, StudyThresholds, thresholds_for

# phase MS-SSIM as measured on the tuned object: PINN, gs1, Baseline, LSQML, flat
SCORES = {
    (1e3, "dense"): (0.577, 0.532, 0.699, 0.440, 0.015), (1e3, "sparse"): (0.428, 0.41, 0.601, 0.101, 0.015),
    (1e4, "dense"): (0.752, 0.662, 0.809, 0.701, 0.015), (1e4, "sparse"): (0.729, 0.65, 0.796, 0.416, 0.015),
    (1e5, "dense"): (0.817, 0.627, 0.834, 0.804, 0.015), (1e5, "sparse"): (0.804, 0.62, 0.826, 0.625, 0.015),
    (1e3, ALL): (None, 0.532, 0.712, 0.46, 0.015), (1e4, ALL): (None, 0.662, 0.817, 0.72, 0.015),
    (1e5, ALL): (None, 0.627, 0.836, 0.82, 0.015),
}  # fmt: skip
RATIOS = {1e3: (1.003, 0.974, 1.09), 1e4: (1.111, 1.069, 2.0), 1e5: (1.378, 1.4, 9.6)}


def row(arm: str, score: float, seed: int = 0, **numbers: float) -> dict[str, Any]:
    figures = {"ph_ms_ssim": score, "rolled_ph_ms_ssim": 0.02, "shift": 0.02, "amplitude_ratio": 0.9989} | numbers
    return {"arm": arm, "seed": seed, "name": arm, "status": "success", "reason": None, "numbers": figures}


def measured() -> dict[tuple[float, str], dict[str, Any]]:
    """A study's metrics.json contents as they were measured."""
    return {
        (dose, view): {
            "dose": dose, "view": view, "shared_pixels": 0,
            "arms": [row(arm, score) for arm, score in zip(ARMS, scores, strict=True) if score is not None],
        }
        for (dose, view), scores in SCORES.items()
    }  # fmt: skip


def trained() -> list[dict[str, Any]]:
    jobs = []
    for dose, (test, patch, flat) in RATIOS.items():
        for view, gridsize in ((ALL, 1), ("dense", 2), ("sparse", 2)):
            result = {
                "status": "success", "final_loss": -1.0, "deviance_ratio_test": test, "deviance_ratio_patch": patch,
                "deviance_ratio_flat": flat,
            }  # fmt: skip
            jobs.append({"dose": dose, "view": view, "gridsize": gridsize, "seed": 0, "arm": "pinn", "result": result})
    return jobs


@pytest.fixture
def design() -> StudyDesign:
    return get_study_design("mini")


def verdict_of(
    design: StudyDesign, records: dict[tuple[float, str], dict[str, Any]], *, skips: tuple[dict[str, Any], ...] = (),
    jobs: list[dict[str, Any]] | None = None, reference: list[dict[str, Any]] | None = None,
    thresholds: StudyThresholds = MINI,
) -> StudyVerdict:  # fmt: skip
    cells = cells_of(design, records.values(), skips, {(1e4, "dense"): "the node died"})
    evidence = Evidence(cells, trained() if jobs is None else jobs, reference or [])
    return judge_study(design, evidence, thresholds)


def arm_of(records: dict[tuple[float, str], dict[str, Any]], dose: float, view: str, arm: str) -> dict[str, Any]:
    return next(one for one in records[dose, view]["arms"] if one["arm"] == arm)


def refused(verdict: StudyVerdict) -> set[tuple[str, str]]:
    return {(one.gate, f"{one.slice.get('dose')}/{one.slice.get('view')}") for one in verdict.gates if not one.passed}


def test_the_measured_study_passes_every_gate(design: StudyDesign):
    verdict = verdict_of(design, measured(), reference=trained())
    assert verdict.passed, verdict.sentence()
    assert {one.gate for one in verdict.gates} == set(GATES)
    assert all(one.reason for one in verdict.gates)
    assert verdict.sentence().startswith(f"PASSED all {len(GATES)} gates")
    assert verdict.record()["failed_cells"] == []


@pytest.mark.parametrize(
    ("gate", "cell", "arm", "numbers"),
    [
        ("integrity", (1e4, "dense"), "PtychoPINN", {"shift": 0.51}),
        ("integrity", (1e4, ALL), "PtyChi", {"shift": 0.6}),
        ("quality", (1e4, "sparse"), "PtychoPINN", {"ph_ms_ssim": 0.54}),
        ("chance", (1e3, "sparse"), "PtychoPINN", {"rolled_ph_ms_ssim": 0.2}),
        ("against LSQML", (1e5, "sparse"), "PtyChi", {"ph_ms_ssim": 0.91}),
        ("LSQML sane", (1e5, "dense"), "PtyChi", {"amplitude_ratio": 1.16}),
        ("overlap matters", (1e4, "dense"), "PtychoPINN-gs1", {"ph_ms_ssim": 0.76}),
    ],
)
def test_a_gate_refuses_its_cell_alone(design: StudyDesign, gate: str, cell: tuple[float, str], arm: str, numbers):
    records = measured()
    arm_of(records, *cell, arm)["numbers"].update(numbers)
    verdict = verdict_of(design, records)
    key = f"{int(cell[0])}/{cell[1]}"
    assert refused(verdict) == {(gate, key)}
    assert verdict.failed_cells == (key,)
    assert verdict.sentence() == f"FAILED {gate} in {key}"


def test_what_explains_no_more_than_flat_is_refused(design: StudyDesign):
    """A flat score above the floor of .25 below the image's."""
    records = measured()
    arm_of(records, 1e3, "sparse", "flat")["numbers"]["ph_ms_ssim"] = 0.2
    assert refused(verdict_of(design, records)) == {("quality", "1000/sparse")}


@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        ({"deviance_ratio_patch": 0.69}, "copied it"),
        ({"deviance_ratio_test": 1.36, "deviance_ratio_flat": 2.0}, "Measured plus room"),
        ({"deviance_ratio_test": 1.2, "deviance_ratio_flat": 1.2}, "flat object"),
        ({"status": "failed"}, "is missing"),
        ({"deviance_ratio_test": float("nan")}, "not a finite number"),
    ],
)
def test_the_loss_gate(design: StudyDesign, numbers: dict[str, Any], told: str):
    jobs = trained()
    job = next(one for one in jobs if one["dose"] == 1e4 and one["view"] == "dense")
    job["result"].update(numbers)
    verdict = verdict_of(design, measured(), jobs=jobs)
    assert refused(verdict) == {("loss", "10000/dense")}
    assert any(told in one.reason for one in verdict.gates if not one.passed)


def test_a_run_worse_than_the_reference_is_refused(design: StudyDesign):
    blessed = trained()
    for job in blessed:
        job["result"]["deviance_ratio_test"] -= 0.06 if job["dose"] == 1e5 and job["view"] == "sparse" else 0.04
    assert refused(verdict_of(design, measured(), reference=blessed)) == {("regression", "100000/sparse")}


def test_lsqml_must_gain_from_photons(design: StudyDesign):
    records = measured()
    arm_of(records, 1e4, "sparse", "PtyChi")["numbers"]["ph_ms_ssim"] = 0.09
    assert refused(verdict_of(design, records)) == {("LSQML sane", "10000/sparse")}


def test_a_lost_cell_is_named_and_the_others_are_judged(design: StudyDesign):
    records = measured()
    del records[1e4, "dense"]
    verdict = verdict_of(design, records)
    assert verdict.lost == ("10000/dense",)
    assert ("integrity", "10000/dense") in refused(verdict)
    assert "not compared: 10000/dense" in verdict.sentence()
    assert any(one.slice == {"dose": "100000", "view": "dense"} and one.passed for one in verdict.gates)


def test_a_skipped_view_is_a_result(design: StudyDesign):
    records = {key: record for key, record in measured().items() if key[1] != "sparse"}
    skips = tuple({"dose": dose, "view": "sparse", "reason": "3 groups, 12 needed"} for dose in design.doses)
    verdict = verdict_of(design, records, skips=skips)
    assert verdict.passed, verdict.sentence()
    assert not any(one.slice.get("view") == "sparse" for one in verdict.gates)


def test_without_pty_chi_its_gates_are_not_asked_but_a_lost_reconstruction_refuses(design: StudyDesign):
    records = measured()
    for record in records.values():
        for one in record["arms"]:
            if one["arm"] == "PtyChi":
                one.update(status="missing", reason="pty-chi is not installed; pip install '.[ptycho]'", numbers={})
    verdict = verdict_of(design, records)
    assert verdict.passed, verdict.sentence()
    assert not {"against LSQML", "LSQML sane"} & {one.gate for one in verdict.gates}
    arm_of(records, 1e4, "dense", "PtyChi").update(reason="out of memory")
    assert ("against LSQML", "10000/dense") in refused(verdict_of(design, records))


def test_seeds_are_averaged_and_a_failed_one_is_not_hidden(design: StudyDesign):
    records = measured()
    arms = records[1e4, "dense"]["arms"]
    arms.insert(1, row("PtychoPINN", 0.50, seed=1))  # .752 and .50: the mean, .626, still clears .62
    assert ("quality", "10000/dense") not in refused(verdict_of(design, records))
    arms[1].update(status="failed", reason="bundle is damaged", numbers={})
    assert ("quality", "10000/dense") in refused(verdict_of(design, records))


def test_silence_refuses(design: StudyDesign):
    other = get_study_design("cluster64")
    assert thresholds_for(design) is MINI
    assert thresholds_for(other).cells == {}
    verdict = verdict_of(design, measured(), thresholds=thresholds_for(other))
    assert {gate for gate, _ in refused(verdict)} == {"loss", "quality"}
    assert all("no threshold" in one.reason for one in verdict.gates if not one.passed)
    assert not verdict_of(design, {}).passed
    assert not verdict_of(design, measured(), jobs=[]).passed
