"""The published audit, reproduced figure by figure from the published predictions (real corpus)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from denoise_core.corpus.manifest import Manifest
from denoise_core.corpus.store import Corpus
from denoise_core.evaluation.audit import audit_predictions
from denoise_core.evaluation.report import PanelAudit

PANEL_SHA256 = "10d6c12bb8dd61fc17596956010771d76ba21ed7aeacd57dddc8e29ccb12e7fe"
T3, T5, T6 = "treatment_3/sample_J/12Oclock", "treatment_5/sample_H/6Oclock", "treatment_6/sample_I/6Oclock"


@pytest.fixture(scope="module")
def as_published(real: Corpus, real_panel: Manifest, published: np.ndarray) -> PanelAudit:
    training = real.manifest("manifest_train")
    return audit_predictions(
        real, real_panel, published, reference="self", training=training, expected_hash=PANEL_SHA256
    )


@pytest.fixture(scope="module")
def under_loo(real: Corpus, real_panel: Manifest, published: np.ndarray) -> PanelAudit:
    return audit_predictions(
        real,
        real_panel,
        published,
        training=real.manifest("manifest_train"),
        expected_hash=PANEL_SHA256,
        selected_on=real_panel.groups,
    )


def test_every_capture_has_its_published_metrics(as_published: PanelAudit, real_corpus_root: Path) -> None:
    theirs = pd.read_csv(real_corpus_root / "published_panel" / "per_spectrum_metrics.csv")
    ours = as_published.per_spectrum
    assert list(ours.columns) == list(theirs.columns)
    assert ours["relative_path"].tolist() == theirs["relative_path"].tolist()
    tolerance = {
        "psnr_db": 1e-4,
        "sam_deg": 1e-3,  # theirs is a float32 arccosine
        "roi_area_error_pct": 1e-3,
        "roi_centroid_error_nm": 1e-6,
        "roi_depth_mae": 1e-6,
    }
    for column, limit in tolerance.items():
        assert (ours[column] - theirs[column]).abs().max() <= limit, column


def test_the_published_aggregates(as_published: PanelAudit) -> None:
    summary = as_published.summary
    assert summary["aggregate_metrics"]["psnr_mean"] == pytest.approx(44.15333, abs=1e-5)
    assert summary["aggregate_metrics"]["psnr_std"] == pytest.approx(4.96848, abs=1e-5)
    assert summary["aggregate_metrics"]["sam_mean"] == pytest.approx(1.03887, abs=5e-6)
    assert summary["tail_metrics"]["joint_pass_ratio"] == 1.0
    assert summary["roi_metrics"]["area_within_10_pct_ratio"] == pytest.approx(0.205333, abs=1e-6)
    assert summary["roi_metrics"]["centroid_mae_nm_median"] == pytest.approx(0.060241, abs=1e-6)
    assert summary["roi_metrics"]["depth_mae_median"] == pytest.approx(0.000343, abs=1e-6)
    assert summary["roi_metrics"]["spurious_peaks"] == 0
    assert summary["best_composite_score"] == pytest.approx(39.18486, abs=1e-5)


def test_the_published_verdicts(as_published: PanelAudit) -> None:
    summary = as_published.summary
    assert summary["gates"] == {
        "aggregate_pass": False,
        "tail_pass": True,
        "roi_pass": False,
        "downstream_pass": True,
    }
    assert summary["integrity_pass"]
    failed = [record["metric"] for record in summary["gate_records"] if not record["passed"]]
    assert failed == ["psnr_std", "area_within_10_pct_ratio", "psnr_gain_over_raw"]


def test_the_published_downstream_proxy(as_published: PanelAudit) -> None:
    """Figures of the `downstream_metrics.json` that the published audit left beside its predictions."""
    found = as_published.downstream
    assert found["replicate_consistency"]["baseline_variance"] == pytest.approx(2.9157244577122232e-05, rel=1e-9)
    assert found["replicate_consistency"]["denoised_variance"] == pytest.approx(1.3832432191641434e-05, rel=1e-9)
    assert found["replicate_consistency"]["reduction_pct"] == pytest.approx(0.525591927760731, rel=1e-9)
    assert found["separability"]["baseline_ratio"] == pytest.approx(21.297780636957146, rel=1e-9)
    assert found["separability"]["denoised_ratio"] == pytest.approx(30.33814369811178, rel=1e-9)
    dose = found["dose_monotonicity"]
    assert (dose["dose_column_used"], dose["median_delta_rho"], dose["improved_ratio"]) == (
        "UVA_total_mWh_cm2",
        0.0,
        1.0,
    )
    assert np.isnan(dose["peak_f1_mean"])
    assert found["pass"]
    assert dose["vacuous"]
    assert any("vacuous" in notice for notice in as_published.notices)


def test_the_groups_of_the_published_audit(as_published: PanelAudit, real_corpus_root: Path) -> None:
    theirs = pd.read_csv(real_corpus_root / "published_panel" / "per_spectrum_metrics.csv").groupby("group_id")
    table = as_published.per_group.set_index("group_id")
    assert table["count"].to_dict() == {T3: 300, T5: 300, T6: 150}
    for group, rows in theirs:
        assert table.loc[group, "psnr_mean"] == pytest.approx(rows["psnr_db"].mean(), abs=1e-4)
        assert table.loc[group, "psnr_std"] == pytest.approx(rows["psnr_db"].std(ddof=0), abs=1e-4)
        assert table.loc[group, "sam_mean"] == pytest.approx(rows["sam_deg"].mean(), abs=1e-3)
        assert table.loc[group, "area_error_median"] == pytest.approx(rows["roi_area_error_pct"].median(), abs=1e-3)
        assert table.loc[group, "area_error_90pct"] == pytest.approx(
            np.percentile(rows["roi_area_error_pct"], 90), abs=1e-3
        )


def test_self_reproduces_but_never_ships(real: Corpus, real_panel: Manifest, as_published: PanelAudit) -> None:
    assert not as_published.passed
    assert as_published.summary["reference_may_ship"] is False
    assert any("never" in notice and "`self`" in notice for notice in as_published.notices)
    identity = audit_predictions(
        real,
        real_panel,
        real.spectra_NL[real.rows(real_panel)],
        reference="self",
        training=real.manifest("manifest_train"),
    )
    assert np.isposinf(identity.metrics["psnr_mean"])
    assert not identity.passed
    assert identity.summary["aggregate_metrics"]["psnr_mean"] is None


def test_the_bar_under_the_leave_one_out_reference(under_loo: PanelAudit) -> None:
    """Rows of the specification's table: PSNR by group, panel mean ± std, SAM, share within 10 %."""
    expected = {
        "raw": (46.57, 45.17, 45.18, 45.73, 1.51, 0.915, 0.003),
        "savgol_61_3": (49.47, 49.20, 48.85, 49.23, 2.08, 0.590, 0.000),
    }
    for name, (t3, t5, t6, mean, std, sam, roi) in expected.items():
        row = under_loo.controls[name]
        assert [row["by_group"][g]["psnr_mean"] for g in (T3, T5, T6)] == pytest.approx([t3, t5, t6], abs=0.006)
        assert (row["psnr_mean"], row["psnr_std"]) == pytest.approx((mean, std), abs=0.006)
        assert row["sam_mean"] == pytest.approx(sam, abs=6e-4)
        assert row["area_within_10_pct_ratio"] == pytest.approx(roi, abs=6e-4)
    assert under_loo.per_group.set_index("group_id")["psnr_mean"].loc[[T3, T5, T6]].tolist() == pytest.approx(
        [49.35, 39.06, 42.00], abs=0.006
    )
    own = under_loo.metrics
    assert (own["psnr_mean"], own["psnr_std"]) == pytest.approx((43.76, 4.95), abs=0.006)
    assert own["sam_mean"] == pytest.approx(1.062, abs=6e-4)
    assert own["area_within_10_pct_ratio"] == pytest.approx(0.017, abs=6e-4)


def test_the_published_model_has_no_skill(under_loo: PanelAudit) -> None:
    """Worse than the raw capture on two of the panel's three groups."""
    assert under_loo.failed_gates == ("aggregate", "roi", "skill", "fidelity")
    failed = {(r.metric, r.slice.get("group")) for r in under_loo.gates if r.gate == "skill" and not r.passed}
    worse = {("psnr_gain_over_raw", T5), ("psnr_gain_over_raw", T6), ("psnr_gain_over_savgol", None)}
    assert worse <= failed
    assert ("psnr_gain_over_raw", T3) not in failed
    assert any("Selection bias" in notice and T5 in notice for notice in under_loo.notices)


def test_a_smoother_that_erases_the_dips_fails_the_roi_gate(real: Corpus, real_panel: Manifest) -> None:
    from denoise_core.evaluation.controls import savgol

    smooth = savgol(real.spectra_NL[real.rows(real_panel)])
    audit = audit_predictions(real, real_panel, smooth, training=real.manifest("manifest_train"))
    assert audit.failed_gates == ("roi", "fidelity")
    assert audit.metrics["spurious_peaks"] == 0
