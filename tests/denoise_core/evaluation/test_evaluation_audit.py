"""The whole audit on a small corpus: what passes, what each gate refuses, what the report says."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from denoise_core.corpus.manifest import Manifest, manifest_of
from denoise_core.corpus.store import Corpus
from denoise_core.evaluation.audit import audit_predictions
from denoise_core.evaluation.dips import DipErrors
from denoise_core.evaluation.limits import roi, tail
from denoise_core.evaluation.report import PanelAudit, rank, summarise
from denoise_core.evaluation.scores import Scores, recorded
from denoise_core.evaluation.thresholds import GATES, GateThresholds
from study_core.errors import BadInput


@pytest.fixture(scope="module")
def good(tiny_truth: np.ndarray) -> np.ndarray:
    """Nearly clean spectra with a remainder of noise."""
    return tiny_truth + np.random.default_rng(11).normal(0, 2e-4, tiny_truth.shape)


@pytest.fixture(scope="module")
def audit(tiny: Corpus, tiny_panel: Manifest, tiny_training: Manifest, good: np.ndarray) -> PanelAudit:
    return audit_predictions(
        tiny, tiny_panel, good, training=tiny_training, expected_hash=tiny_panel.rows_sha256, checkpoint="good.pt"
    )


def test_a_good_denoiser_passes_every_gate(audit: PanelAudit) -> None:
    assert audit.failed_gates == ()
    assert audit.passed
    assert {result.gate for result in audit.gates} == set(GATES)
    assert audit.summary["passing_checkpoints"] == ["good.pt"]


def test_a_gate_that_was_never_judged_is_failed(audit: PanelAudit) -> None:
    for gate in GATES:
        silent = replace(audit, gates=tuple(result for result in audit.gates if result.gate != gate))
        assert silent.failed_gates == (gate,)
        assert not silent.passed


def test_self_never_ships_even_with_every_gate_passed(audit: PanelAudit) -> None:
    assert not replace(audit, reference="self").passed


def test_limits_of_a_capture_are_inclusive_and_nan_is_outside() -> None:
    at = np.array([14.0, np.nextafter(14.0, 0), 20.0, np.nan])
    sam = np.array([12.0, 1.0, np.nextafter(12.0, 13), 1.0])
    area = np.array([10.0, np.nextafter(10.0, 11), np.nan, 0.0])
    spurious = np.array([0, 1, 0, 0])
    scores = Scores(at, sam, DipErrors(area, area, area, area, np.full(4, 6)), spurious)
    record = recorded(scores, np.array(["a", "a", "b", "b"]))
    shares = {**record.figures, **tail(record, GateThresholds()), **roi(record, GateThresholds())}
    assert shares["psnr_pass_ratio"] == 0.5
    assert shares["sam_pass_ratio"] == 0.75
    assert shares["joint_pass_ratio"] == 0.25
    assert shares["area_within_10_pct_ratio"] == 0.5
    assert shares["spurious_free_ratio"] == 0.75
    assert shares["spurious_peaks"] == 1.0


HARMFUL = {
    "psnr_mean_min": (200.0, "aggregate"),
    "psnr_std_max": (0.0, "aggregate"),
    "sam_mean_max": (0.0, "aggregate"),
    "tail_psnr_min": (200.0, "tail"),
    "tail_sam_max": (0.0, "tail"),
    "roi_area_error_max_pct": (0.0, "roi"),
    "variance_drop_min_pct": (100.0, "downstream"),
    "dose_delta_rho_min": (1.0, "downstream"),
    "skill_psnr_over_raw_db": (100.0, "skill"),
    "skill_sam_over_raw_deg": (100.0, "skill"),
    "skill_psnr_over_sg_db": (100.0, "skill"),
    "skill_sam_over_sg_deg": (100.0, "skill"),
}


@pytest.mark.parametrize("field", sorted(HARMFUL))
def test_every_threshold_has_teeth(
    field: str, tiny: Corpus, tiny_panel: Manifest, tiny_training: Manifest, good: np.ndarray
) -> None:
    value, gate = HARMFUL[field]
    mutant = GateThresholds().model_copy(update={field: value})
    judged = audit_predictions(tiny, tiny_panel, good, training=tiny_training, thresholds=mutant)
    if field == "dose_delta_rho_min":  # the seed's fallback takes over, and noisy captures have sharp minima of noise
        assert "peak_f1_mean" in {result.metric for result in judged.gates}
    else:
        assert judged.failed_gates == (gate,)


@pytest.mark.parametrize("field", ["tail_ratio_min", "roi_ratio_min", "spurious_free_ratio_min"])
def test_one_bad_row_fails_a_share_of_one(
    field: str, tiny: Corpus, tiny_panel: Manifest, tiny_training: Manifest, good: np.ndarray
) -> None:
    bad = good.copy()
    if field == "tail_ratio_min":
        bad[5] += 0.6
    elif field == "roi_ratio_min":
        bad[5] = bad[5].mean()
    else:
        bad[5, 220:223] -= [0.006, 0.012, 0.006]
    gate = "tail" if field == "tail_ratio_min" else "roi"
    lenient = audit_predictions(tiny, tiny_panel, bad, training=tiny_training)
    strict = audit_predictions(
        tiny, tiny_panel, bad, training=tiny_training, thresholds=GateThresholds().model_copy(update={field: 1.0})
    )
    assert lenient.verdict_of(gate) is not False
    assert not strict.gate_passed(gate)


def test_spurious_max_is_the_number_of_dips_a_capture_may_invent(
    tiny: Corpus, tiny_panel: Manifest, tiny_training: Manifest, good: np.ndarray
) -> None:
    invented = good.copy()
    invented[:, 220:223] -= [0.006, 0.012, 0.006]  # 410 nm, where no capture has a dip
    judged = audit_predictions(tiny, tiny_panel, invented, training=tiny_training)
    allowed = audit_predictions(
        tiny, tiny_panel, invented, training=tiny_training, thresholds=GateThresholds(spurious_max=1.0)
    )
    assert judged.metrics["spurious_per_capture"] == 1.0
    assert judged.failed_gates == ("roi", "fidelity")
    assert allowed.gate_passed("roi")


# ---- gate 0 ----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_not_finite_is_refused(
    value: float, tiny: Corpus, tiny_panel: Manifest, tiny_training: Manifest, good: np.ndarray
) -> None:
    broken = good.copy()
    broken[17, 300] = value
    judged = audit_predictions(tiny, tiny_panel, broken, training=tiny_training)
    assert not judged.passed
    assert {"integrity", "aggregate", "skill"} <= set(judged.failed_gates)
    json.dumps(judged.summary, allow_nan=False)


def test_only_nan_is_refused_by_every_gate(
    tiny: Corpus, tiny_panel: Manifest, tiny_training: Manifest, good: np.ndarray
) -> None:
    judged = audit_predictions(tiny, tiny_panel, np.full_like(good, np.nan), training=tiny_training)
    assert judged.failed_gates == GATES


def test_a_leaked_group_is_refused_in_its_own_words(
    tiny: Corpus, tiny_panel: Manifest, tiny_training: Manifest, good: np.ndarray
) -> None:
    leaky = manifest_of(pd.concat([tiny_training.frame, tiny_panel.frame.iloc[:1]]))
    judged = audit_predictions(tiny, tiny_panel, good, training=leaky)
    assert judged.failed_gates == ("integrity",)
    reasons = [result.reason for result in judged.gates if not result.passed]
    assert tiny_panel.frame["group_id"].iloc[0] in reasons[0]


def test_another_panel_is_refused_with_both_hashes(
    tiny: Corpus, tiny_panel: Manifest, tiny_training: Manifest, good: np.ndarray
) -> None:
    judged = audit_predictions(tiny, tiny_panel, good, training=tiny_training, expected_hash="0" * 64)
    assert judged.failed_gates == ("integrity",)
    reason = next(result.reason for result in judged.gates if not result.passed)
    assert "0" * 64 in reason
    assert tiny_panel.rows_sha256 in reason


def test_without_a_training_manifest_a_leak_cannot_be_ruled_out(
    tiny: Corpus, tiny_panel: Manifest, good: np.ndarray
) -> None:
    judged = audit_predictions(tiny, tiny_panel, good)
    assert judged.failed_gates == ("integrity",)
    assert any("training manifest" in notice for notice in judged.notices)
    assert any("hash was not checked" in notice for notice in judged.notices)


@pytest.mark.parametrize("shape", [(119, 601), (120, 600), (601,), (0, 601)])
def test_a_wrong_shape_is_bad_input(shape: tuple[int, ...], tiny: Corpus, tiny_panel: Manifest) -> None:
    with pytest.raises(BadInput, match="panel rows"):
        audit_predictions(tiny, tiny_panel, np.zeros(shape))


# ---- gate 5, controls, notices ---------------------------------------------------------------


def test_the_identity_is_not_better_than_raw(tiny: Corpus, tiny_panel: Manifest, tiny_training: Manifest) -> None:
    raw = tiny.spectra_NL[tiny.rows(tiny_panel)]
    judged = audit_predictions(tiny, tiny_panel, raw, training=tiny_training)
    assert "skill" in judged.failed_gates
    gains = {r.slice["group"]: r for r in judged.gates if r.metric == "psnr_gain_over_raw"}
    assert len(gains) == 3
    assert all(r.value == 0.0 and not r.passed for r in gains.values())


def test_being_worse_than_raw_on_one_group_is_enough_to_fail(
    tiny: Corpus, tiny_panel: Manifest, tiny_training: Manifest, good: np.ndarray
) -> None:
    group = tiny_panel.groups[0]
    worse = good.copy()
    worse[(tiny_panel.frame["group_id"] == group).to_numpy()] += 0.002
    judged = audit_predictions(tiny, tiny_panel, worse, training=tiny_training)
    failed = [(r.metric, r.slice) for r in judged.gates if r.gate == "skill" and not r.passed]
    assert failed == [("psnr_gain_over_raw", {"group": group})]


def test_the_reference_is_the_mean_of_the_other_captures(
    tiny: Corpus, tiny_panel: Manifest, tiny_training: Manifest
) -> None:
    rows = tiny.rows(tiny_panel)
    spectra = tiny.spectra_NL.astype(np.float64)
    groups = tiny.captures["group_id"].to_numpy()
    others = np.stack([spectra[(groups == groups[r]) & (np.arange(len(groups)) != r)].mean(axis=0) for r in rows])
    judged = audit_predictions(tiny, tiny_panel, others + 1e-3, training=tiny_training)
    assert judged.metrics["psnr_mean"] == pytest.approx(60.0, abs=1e-3)
    assert judged.metrics["psnr_std"] == pytest.approx(0.0, abs=1e-3)


def test_controls_stand_beside_the_model_by_group(
    tiny: Corpus, tiny_panel: Manifest, tiny_training: Manifest, good: np.ndarray
) -> None:
    judged = audit_predictions(tiny, tiny_panel, good, training=tiny_training, controls={"mine": good})
    assert list(judged.controls) == ["raw", "savgol_61_3", "mine"]
    assert judged.controls["mine"]["psnr_mean"] == judged.metrics["psnr_mean"]
    assert set(judged.controls["raw"]["by_group"]) == set(tiny_panel.groups)
    assert judged.controls["raw"]["psnr_mean"] == pytest.approx(59.85, abs=0.3)  # noise sd 0.001 against 29 captures


def test_ranking_puts_what_passed_before_what_scores(
    tiny: Corpus, tiny_panel: Manifest, tiny_training: Manifest, good: np.ndarray, audit: PanelAudit
) -> None:
    def judge(predictions: np.ndarray, name: str) -> PanelAudit:
        return audit_predictions(tiny, tiny_panel, predictions, training=tiny_training, checkpoint=name)

    erased = judge(np.repeat(good.mean(axis=1, keepdims=True), 601, axis=1), "flat.pt")
    perfect_but_refused = audit_predictions(tiny, tiny_panel, good, checkpoint="no-training.pt")
    broken = judge(np.full_like(good, np.nan), "nan.pt")
    noisier = judge(good + np.random.default_rng(1).normal(0, 2e-4, good.shape), "noisier.pt")
    audits = [broken, erased, perfect_but_refused, noisier, audit]
    assert [a.checkpoint for a in rank(audits)] == ["good.pt", "noisier.pt", "no-training.pt", "flat.pt", "nan.pt"]
    summary = summarise(audits)
    assert summary["best_checkpoint"] == "good.pt"
    assert summary["passing_checkpoints"] == ["good.pt", "noisier.pt"]
    assert summary["checkpoints_evaluated"][0] == "nan.pt"
    assert [line["checkpoint"] for line in summary["per_checkpoint"]] == summary["ranked_order"]
    assert summary["per_checkpoint"][-1]["composite_score"] is None


def test_no_audit_cannot_be_summarised() -> None:
    with pytest.raises(BadInput, match="no audit"):
        summarise([])
