"""What a figure does not say by itself: coverage, outliers, unseen groups, sister angles, fitted controls."""

from __future__ import annotations

import numpy as np
import pytest

from denoise_core.corpus.manifest import Manifest, manifest_of
from denoise_core.corpus.store import Corpus
from denoise_core.evaluation.audit import audit_predictions
from denoise_core.evaluation.controls import fitted_control_predictions
from denoise_core.evaluation.judging import judge_measurement
from denoise_core.evaluation.measuring import measure_predictions
from denoise_core.evaluation.selection import (
    Unseen,
    offset_outliers,
    selection_notice,
    sister_groups,
    std_without_outliers,
    unseen_figures,
)
from denoise_core.evaluation.uncertainty import coverage
from study_core.errors import BadInput

GROUP = np.repeat(["a", "b"], 500)


@pytest.mark.parametrize(("claimed", "low", "high"), [(1.0, 0.67, 0.69), (0.5, 0.37, 0.40), (2.0, 0.94, 0.97)])
def test_coverage_tells_honest_from_too_sure_and_too_shy(claimed: float, low: float, high: float) -> None:
    error = np.random.default_rng(2).normal(0, 0.01, (1000, 601))
    found = coverage(error, np.full_like(error, 0.01 * claimed), np.zeros_like(error), GROUP)
    assert low < found["coverage_68"] < high
    assert found["known"] == 1.0
    assert set(found["by_group"]) == {"a", "b"}
    if claimed == 1.0:
        assert found["coverage_95"] == pytest.approx(0.95, abs=0.002)


def test_an_error_that_nobody_knows_covers_nothing() -> None:
    zeros = np.zeros((1000, 601))
    found = coverage(zeros, np.full_like(zeros, np.nan), zeros, GROUP)
    assert (found["known"], found["coverage_68"], found["coverage_95"]) == (0.0, 0.0, 0.0)
    assert np.isnan(found["mean_standard_error"])


def test_a_dropped_capture_is_an_outlier_of_its_own_group_only() -> None:
    rng = np.random.default_rng(0)
    reference = np.full((1000, 601), 0.3)
    raw = reference + rng.normal(0, 1e-3, (1000, 1)) + np.repeat([0.0, 0.05], 500)[:, None]
    raw[7] -= 0.05
    outlier = offset_outliers(raw, reference, GROUP)
    assert outlier[7]
    assert outlier.sum() < 10
    psnr = np.where(np.arange(1000) == 7, 30.0, 54.0)
    assert std_without_outliers(psnr, np.arange(1000) == 7) == 0.0
    assert np.isnan(std_without_outliers(psnr, np.ones(1000, dtype=bool)))


def test_sister_angles_are_named(tiny_panel: Manifest, tiny: Corpus) -> None:
    held_out = manifest_of(tiny.captures[tiny.captures["group_id"] == "treatment_1/sample_A/6Oclock"])
    training = manifest_of(tiny.captures[tiny.captures["group_id"] != "treatment_1/sample_A/6Oclock"])
    assert sister_groups(held_out, training) == ("treatment_1/sample_A/12Oclock",)
    assert sister_groups(tiny_panel, training) == ()


def test_figures_on_unseen_groups_refuse_groups_that_were_seen(tiny: Corpus, tiny_training: Manifest) -> None:
    groups = tiny_training.groups
    test = manifest_of(tiny.captures[tiny.captures["group_id"] == groups[0]])
    rest = manifest_of(tiny.captures[tiny.captures["group_id"] == groups[1]])
    raw = tiny.spectra_NL[tiny.rows(test)]
    once = Unseen(test, raw, rest, [groups[2]])
    found = unseen_figures(tiny, [once])
    assert found.groups == (groups[0],)
    assert found.scored.figures["psnr_mean"] == pytest.approx(59.85, abs=0.3)
    with pytest.raises(BadInput, match="trained on"):
        unseen_figures(tiny, [Unseen(test, raw, tiny_training, [])])
    with pytest.raises(BadInput, match="choice"):
        unseen_figures(tiny, [Unseen(test, raw, rest, [groups[0]])])
    with pytest.raises(BadInput, match="another model"):
        unseen_figures(tiny, [once, once])


def test_an_audit_carries_coverage_and_unseen_figures(
    tiny: Corpus, tiny_panel: Manifest, tiny_training: Manifest, tiny_truth: np.ndarray
) -> None:
    unseen = unseen_figures(tiny, [Unseen(tiny_panel, tiny_truth, tiny_training, [])])
    judged = audit_predictions(
        tiny,
        tiny_panel,
        tiny_truth,
        training=tiny_training,
        standard_error_ML=np.full_like(tiny_truth, 0.001 / np.sqrt(29)),
        unseen=unseen,
        selected_on=[tiny_panel.groups[1]],
    )
    assert judged.summary["uncertainty"]["coverage_68"] == pytest.approx(0.68, abs=0.02)
    assert judged.summary["unseen_groups"]["groups"] == list(tiny_panel.groups)
    assert judged.summary["unseen_groups"]["psnr_mean"] == judged.metrics["psnr_mean"]
    assert any(n.startswith("Selection bias") and tiny_panel.groups[1] in n for n in judged.notices)
    assert not any("No figures on groups" in n for n in judged.notices)


def test_the_notice_says_who_chose_the_epoch(tiny_panel: Manifest, tiny_training: Manifest) -> None:
    inside = selection_notice(tiny_panel, tiny_training.groups)
    assert "the panel judged and chose nothing" in inside
    assert all(group in inside for group in tiny_training.groups)
    both = selection_notice(tiny_panel, [*tiny_training.groups, tiny_panel.groups[0]])
    assert both.startswith(f"Selection bias: the checkpoint was chosen on {tiny_panel.groups[0]} ")
    assert selection_notice(tiny_panel, []).startswith("No choice")


def test_a_warm_start_that_saw_the_panel_says_so(
    tiny: Corpus, tiny_panel: Manifest, tiny_training: Manifest, tiny_truth: np.ndarray
) -> None:
    found = measure_predictions(tiny, tiny_panel, tiny_truth, training=tiny_training)
    saw = judge_measurement(found, tiny_panel, started_on=[*tiny_training.groups, tiny_panel.groups[0]]).notices
    (line,) = [line for line in saw if line.startswith("The warm start was trained")]
    assert f"on {tiny_panel.groups[0]} of this panel" in line
    clean = judge_measurement(found, tiny_panel, started_on=tiny_training.groups).notices
    assert not any(line.startswith("The warm start") for line in clean)


def test_fitted_controls_on_the_real_panel(real: Corpus, real_panel: Manifest, published: np.ndarray) -> None:
    """LMMSE fails the ROI gate only; filter F passes every gate; left-out samples change little."""
    training = real.manifest("manifest_train")
    controls = fitted_control_predictions(real, real_panel, training, leave_sample_out=True)
    assert list(controls) == ["lmmse", "f", "lmmse_sample_left_out", "f_sample_left_out"]
    audits = {
        name: audit_predictions(real, real_panel, prediction, training=training, controls=controls)
        for name, prediction in controls.items()
    }
    assert audits["lmmse"].failed_gates == ("roi",)
    assert audits["lmmse"].metrics["psnr_mean"] == pytest.approx(52.69, abs=0.05)
    assert audits["lmmse"].metrics["psnr_std_without_offset_outliers"] == pytest.approx(3.32, abs=0.01)
    assert audits["f"].failed_gates == ()
    assert audits["f"].passed
    assert audits["f"].metrics["area_within_10_pct_ratio"] >= 0.9
    assert audits["f"].metrics["spurious_per_capture"] == pytest.approx(0.02, abs=0.01)
    assert audits["f"].downstream["replicate_consistency"]["reduction_pct"] == pytest.approx(0.83, abs=0.01)
    table = audits["f"].controls
    assert table["f"]["psnr_mean"] == audits["f"].metrics["psnr_mean"]
    for name in ("lmmse", "f"):  # the other angle of the panel's samples helps, a little
        assert 0.05 < table[name]["psnr_mean"] - table[f"{name}_sample_left_out"]["psnr_mean"] < 0.5
    assert published.shape == controls["f"].shape
