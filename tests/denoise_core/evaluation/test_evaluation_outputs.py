"""The audit's files under the published names, and predictions read back from disk."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from denoise_core.corpus.manifest import Manifest, write_manifest
from denoise_core.corpus.store import Corpus
from denoise_core.evaluation.audit import audit_predictions
from denoise_core.evaluation.outputs import write_audit
from denoise_core.evaluation.predictions import denoised_name, read_predictions
from denoise_core.evaluation.report import PanelAudit
from study_core.errors import BadInput

PUBLISHED_KEYS = {
    "manifest",
    "manifest_hash",
    "git_hash",
    "device",
    "args",
    "versions",
    "checkpoints_evaluated",
    "passing_checkpoints",
    "ranked_order",
    "best_checkpoint",
    "best_composite_score",
    "best_passed_all_gates",
    "per_checkpoint",
    "gates",
    "aggregate_metrics",
    "tail_metrics",
    "roi_metrics",
    "per_group",
}
NESTED_KEYS = {
    "gates": {"aggregate_pass", "tail_pass", "roi_pass", "downstream_pass"},
    "aggregate_metrics": {"psnr_mean", "psnr_std", "sam_mean", "pass_gate"},
    "tail_metrics": {"psnr_pass_ratio", "sam_pass_ratio", "joint_pass_ratio", "pass_gate"},
    "roi_metrics": {
        "area_within_10_pct_ratio",
        "centroid_mae_nm_median",
        "depth_mae_median",
        "spurious_peaks",
        "pass_gate",
    },
}
DOWNSTREAM_KEYS = {
    "replicate_consistency": {"baseline_variance", "denoised_variance", "reduction_pct", "pass"},
    "separability": {"baseline_ratio", "denoised_ratio", "delta_ratio", "pass"},
    "dose_monotonicity": {"dose_column_used", "median_delta_rho", "improved_ratio", "peak_f1_mean", "pass"},
}
GROUP_COLUMNS = "group_id,count,psnr_mean,psnr_std,sam_mean,sam_std,area_error_median,area_error_90pct"
SPECTRUM_COLUMNS = (
    "relative_path,group_id,treatment,sample,angle,psnr_db,sam_deg,roi_area_error_pct,roi_centroid_error_nm,"
    "roi_depth_mae"
)


@pytest.fixture(scope="module")
def audit(tiny: Corpus, tiny_panel: Manifest, tiny_training: Manifest, tiny_truth: np.ndarray) -> PanelAudit:
    return audit_predictions(tiny, tiny_panel, tiny_truth, training=tiny_training, checkpoint="run/best.pt")


def test_files_keys_and_columns_are_the_published_ones(
    audit: PanelAudit, tiny_truth: np.ndarray, tmp_path: Path
) -> None:
    paths = write_audit(audit, tmp_path / "panel eval", predictions=tiny_truth, args={"top_k": 5})
    assert {path.name for path in paths.values()} == {
        "panel_eval_summary.json",
        "mamba_tiny_uv_best_per_spectrum_metrics.csv",
        "mamba_tiny_uv_best_per_group_summary.csv",
        "mamba_tiny_uv_best_panel_preds",
        "downstream_metrics.json",
    }
    summary = json.loads(paths["summary"].read_text(), parse_constant=pytest.fail)
    assert set(summary) >= PUBLISHED_KEYS | {"reference", "controls", "skill_pass", "gate_records", "notices"}
    assert all(set(summary[name]) >= keys for name, keys in NESTED_KEYS.items())
    assert summary["args"] == {"top_k": 5}
    downstream = json.loads(paths["downstream"].read_text(), parse_constant=pytest.fail)
    assert all(set(downstream[name]) >= keys for name, keys in DOWNSTREAM_KEYS.items())
    assert downstream["pass"] is True
    assert downstream["dose_monotonicity"]["peak_f1_mean"] is None  # NaN in memory
    assert paths["per_group"].read_text().splitlines()[0] == GROUP_COLUMNS
    assert paths["per_spectrum"].read_text().splitlines()[0] == SPECTRUM_COLUMNS
    assert len(pd.read_csv(paths["per_spectrum"])) == 120
    assert not list((tmp_path / "panel eval").rglob(".*"))  # no temporary file is left


def test_gate_records_are_complete(audit: PanelAudit) -> None:
    records = audit.summary["gate_records"]
    keys = {"gate", "metric", "comparison", "threshold", "value", "passed", "reason"}
    assert all(set(record) - {"slice", "vacuous"} == keys for record in records)
    assert audit.summary["passed"] is True
    assert audit.summary["failed_gates"] == []


def test_predictions_read_back_from_either_form(
    audit: PanelAudit, tiny_panel: Manifest, tiny_truth: np.ndarray, tmp_path: Path
) -> None:
    folder = write_audit(audit, tmp_path, predictions=tiny_truth)["predictions"]
    assert len(list(folder.rglob("*_denoised.npy"))) == 90  # twin rows share one file
    np.testing.assert_allclose(read_predictions(folder, tiny_panel), tiny_truth, atol=1e-7)
    paths = tiny_panel.frame["relative_path"].to_numpy()
    for names in (paths.astype(str), paths.astype(object)):
        packed = tmp_path / "packed" / "denoised.npz"
        packed.parent.mkdir(exist_ok=True)
        np.savez(packed, relative_path=names, denoised=tiny_truth)
        np.testing.assert_array_equal(read_predictions(packed, tiny_panel), tiny_truth)
        np.testing.assert_array_equal(read_predictions(packed.parent, tiny_panel), tiny_truth)


@pytest.mark.parametrize(
    ("spectrum", "complaint"),
    [
        (np.full(601, np.nan, np.float32), "not finite"),
        (np.zeros(600, np.float32), "shape"),
        (np.zeros(601, np.int64), "type"),
        (None, "no prediction"),
    ],
    ids=["nan", "short", "integers", "missing"],
)
def test_a_bad_prediction_names_its_file_and_row(
    spectrum: np.ndarray | None,
    complaint: str,
    audit: PanelAudit,
    tiny_panel: Manifest,
    tiny_truth: np.ndarray,
    tmp_path: Path,
) -> None:
    folder = write_audit(audit, tmp_path, predictions=tiny_truth)["predictions"]
    victim = tiny_panel.frame["relative_path"].iloc[40]
    file = folder / victim.replace(".npy", "_denoised.npy")
    row = tiny_panel.frame["relative_path"].tolist().index(victim) + 2
    file.unlink()
    if spectrum is not None:
        np.save(file, spectrum)
    with pytest.raises(BadInput, match=complaint) as caught:
        read_predictions(folder, tiny_panel)
    assert (caught.value.file, caught.value.row) == (file, row)


def test_a_packed_file_that_lacks_a_capture_names_the_row(
    tiny_panel: Manifest, tiny_truth: np.ndarray, tmp_path: Path
) -> None:
    paths = tiny_panel.frame["relative_path"].to_numpy(dtype=str)
    keep = paths != paths[50]
    np.savez(tmp_path / "denoised.npz", relative_path=paths[keep], denoised=tiny_truth[keep])
    with pytest.raises(BadInput, match="no prediction of") as caught:
        read_predictions(tmp_path, tiny_panel)
    assert caught.value.row == paths.tolist().index(paths[50]) + 2


class _Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("owned"),))


def test_a_packed_file_cannot_run_code(
    tiny_panel: Manifest, tiny_truth: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = np.array([_Payload()] * len(tiny_truth), dtype=object)
    np.savez(tmp_path / "denoised.npz", relative_path=names, denoised=tiny_truth)
    with pytest.raises(BadInput, match="not a packed file"):
        read_predictions(tmp_path / "denoised.npz", tiny_panel)
    assert not Path("owned").exists()


@pytest.mark.parametrize("content", [b"", b"not a zip file", pickle.dumps({"denoised": 1})])
def test_anything_else_is_bad_input(content: bytes, tiny_panel: Manifest, tmp_path: Path) -> None:
    file = tmp_path / "denoised.npz"
    file.write_bytes(content)
    with pytest.raises(BadInput, match="not a packed file"):
        read_predictions(file, tiny_panel)
    with pytest.raises(BadInput, match="no such file"):
        read_predictions(tmp_path / "absent.npz", tiny_panel)


def test_what_denoise_packs_is_read_and_other_rows_are_refused(
    tiny_panel: Manifest, tiny_truth: np.ndarray, tmp_path: Path
) -> None:
    unique = tiny_panel.unique()
    places = [
        int(np.flatnonzero(tiny_panel.frame["relative_path"] == name)[0]) for name in unique.frame["relative_path"]
    ]
    spectra = tiny_truth[places].astype(np.float32)
    write_manifest(unique.frame.iloc[::-1], tmp_path / "manifest.csv")
    np.save(tmp_path / "denoised.npy", spectra[::-1])
    np.testing.assert_allclose(read_predictions(tmp_path, tiny_panel), tiny_truth, atol=1e-7)

    def packed(names: list[str], values: np.ndarray) -> Path:
        np.savez(tmp_path / "other.npz", relative_path=np.array(names), denoised=values)
        return tmp_path / "other.npz"

    names = unique.frame["relative_path"].tolist()
    with pytest.raises(BadInput, match="two different predictions of"):
        read_predictions(packed([*names, names[0]], np.vstack([spectra, spectra[:1] + 0.1])), tiny_panel)
    with pytest.raises(BadInput, match=r"a prediction of no panel row: x\.npy"):
        read_predictions(packed([*names, "x.npy"], np.vstack([spectra, spectra[:1]])), tiny_panel)
    thrice = packed([*names, names[0], names[0]], np.vstack([spectra, spectra[:1], spectra[:1]]))
    with pytest.raises(BadInput, match=rf"prediction number \d of {names[0]}, which the panel has \d x"):
        read_predictions(thrice, tiny_panel)
    (tmp_path / "files").mkdir()
    for name, spectrum in zip([*names, "extra.npy"], [*spectra, spectra[0]], strict=True):
        path = tmp_path / "files" / denoised_name(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, spectrum)
    with pytest.raises(BadInput, match="of no panel row") as error:
        read_predictions(tmp_path / "files", tiny_panel)
    assert "extra_denoised.npy" in str(error.value)
