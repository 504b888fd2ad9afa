"""The synthetic corpus: every count of the specification, determinism, and that it behaves as the real one does."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks, savgol_filter

from denoise_core.corpus.folds import fold_manifests, fold_numbers, folds_json
from denoise_core.corpus.manifest import verify_disjoint
from denoise_core.corpus.reference import loo_mean
from denoise_core.corpus.statistics import read_lambda_stats
from denoise_core.corpus.store import Corpus, open_corpus
from denoise_core.corpus.synthetic import generate
from study_core.errors import BadInput

PANEL = {"treatment_3/sample_J/12Oclock": 2, "treatment_5/sample_H/6Oclock": 2, "treatment_6/sample_I/6Oclock": 1}
DOUBLED_SAMPLES = {1: "EH", 2: "FH", 3: "IJ", 4: "IJ", 5: "HJ"}


@pytest.fixture(scope="module")
def full_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated corpus of size full, seed 1."""
    return generate(tmp_path_factory.mktemp("synthetic") / "full", size="full", seed=1)


@pytest.fixture(scope="module")
def full(full_root: Path) -> Corpus:
    """The full corpus, opened."""
    return open_corpus(full_root)


def tree_sha256(root: Path) -> str:
    """Hash over every file's name and bytes."""
    digest = hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        digest.update(path.relative_to(root).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def psnr(prediction_ML: np.ndarray, reference_ML: np.ndarray) -> float:
    """Mean over captures of the PSNR in dB, data range 1."""
    error = prediction_ML.astype(np.float64) - reference_ML
    return float((-10 * np.log10((error**2).mean(axis=1))).mean())


def test_every_count_of_the_specification_at_size_full(full: Corpus) -> None:
    sizes = {
        name: len(full.manifest(name))
        for name in ("manifest", "manifest_full", "manifest_train", "validation_panel", "staging")
    }
    assert sizes == {
        "manifest": 8100,
        "manifest_full": 11100,
        "manifest_train": 10350,
        "validation_panel": 750,
        "staging": 9000,
    }
    assert full.spectra_NL.shape == (8100, 601)
    assert len(full.manifest("validation_panel").unique()) == 450
    assert len(full.manifest("manifest").groups) == 54
    for k in fold_numbers(full.captures, full.study):
        assert [len(manifest) for _, manifest in fold_manifests(full, k)] == [4500, 1500, 1500]


@pytest.mark.parametrize("size", ["mini", "full"])
def test_panel_training_and_doubled_rows(size: str, mini_corpus_root: Path, full_root: Path) -> None:
    corpus = open_corpus(mini_corpus_root if size == "mini" else full_root)
    panel = corpus.manifest("validation_panel")
    group = int(corpus.captures["group_id"].value_counts().iloc[0])
    assert corpus.captures["group_id"].value_counts().nunique() == 1, "equal groups"
    assert panel.frame["group_id"].value_counts().to_dict() == {name: n * group for name, n in PANEL.items()}
    verify_disjoint(panel, corpus.manifest("manifest_train"))
    everything = corpus.manifest("manifest_full")
    counts = everything.frame["relative_path"].value_counts()
    doubled = {tuple(name.split("/")[:2]) for name in counts[counts == 2].index}
    treatments = sorted(set(corpus.captures["treatment"]) - {"treatment_6"})
    assert doubled == {(t, f"sample_{s}") for t in treatments for s in DOUBLED_SAMPLES[int(t[-1])]}
    assert len(corpus.manifest("manifest_train")) == len(everything) - len(panel)
    assert corpus.rows(everything).shape == (len(everything),)


def test_the_layout_is_the_seeds(full_root: Path) -> None:
    names = {p.relative_to(full_root).as_posix() for p in full_root.rglob("*") if p.is_file() and p.suffix != ".npy"}
    assert names == {
        "corpus.json",
        "folds.json",
        "validation_panel.csv",
        "validation_panel_summary.md",
        "train_manifest_summary.md",
        "training_group_counts.md",
        "metadata/dose_features.csv",
        "metadata/dose_sampling_weights.csv",
        "metadata/dose_stats.json",
        "spectra_for_fold/manifest.csv",
        "spectra_for_fold/manifest_full.csv",
        "spectra_for_fold/manifest_train.csv",
        "spectra_for_fold/lambda_stats.npz",
        "_staging/manifest.csv",
        "truth/groups.csv",
    }
    spectrum = np.load(full_root / "spectra_for_fold/treatment_2/sample_F/12Oclock/rep_149.npy")
    assert (spectrum.dtype, spectrum.shape) == (np.float32, (601,))
    grid = np.load(full_root / "spectra_for_fold/wavelength_grid.npy")
    np.testing.assert_array_equal(grid, np.linspace(300, 600, 601).astype(np.float32))


def test_metadata_and_statistics_belong_to_the_spectra(full: Corpus, full_root: Path) -> None:
    stats = read_lambda_stats(full_root / "spectra_for_fold/lambda_stats.npz", full.wavelength_nm)
    np.testing.assert_allclose(stats.weights, full.lambda_stats.weights, rtol=1e-6)
    np.testing.assert_allclose(full.dose_stats.mean_F[1:4], [43.71554, 0.563279, 74.379463], rtol=2e-4)
    weights = pd.read_csv(full_root / "metadata/dose_sampling_weights.csv")
    bins = weights.groupby(weights["relative_path"].str[:11])["bin_pair"].unique().str[0].to_dict()
    assert list(bins.values()) == ["(4, 4)", "(4, 4)", "(3, 3)", "(2, 2)", "(1, 1)", "(0, 0)"]
    assert json.loads((full_root / "folds.json").read_text()) == folds_json(full.captures)


def test_folds_are_the_published_ones(full: Corpus, real_corpus_root: Path) -> None:
    assert folds_json(full.captures) == json.loads((real_corpus_root / "folds.json").read_text())


def test_the_rows_of_panel_and_manifests_are_those_of_the_real_corpus(full: Corpus, real_corpus_root: Path) -> None:
    real = open_corpus(real_corpus_root)
    assert full.manifest("validation_panel").rows_sha256 == real.manifest("validation_panel").rows_sha256
    for name in ("manifest", "manifest_full", "manifest_train"):
        ours, theirs = (sorted(c.manifest(name).frame["relative_path"]) for c in (full, real))
        assert ours == theirs


def test_coverage_notes_name_what_the_manifests_hold(full_root: Path) -> None:
    note = (full_root / "validation_panel_summary.md").read_text()
    assert "750 spectra, 450 unique, 3 groups" in note
    assert "| treatment_5/sample_H/6Oclock | 300 | 150 |" in note
    note = (full_root / "training_group_counts.md").read_text()
    assert "10350 spectra, 7650 unique, 51 groups" in note
    assert "treatment_5/sample_H/6Oclock" not in note
    note = (full_root / "train_manifest_summary.md").read_text()
    assert "| treatment_1 | sample_E | 12Oclock | 300 |" in note


def test_truth_lies_outside_the_training_root_and_is_what_captures_scatter_around(
    full: Corpus, full_root: Path
) -> None:
    assert not list((full_root / "spectra_for_fold").rglob("*clean*"))
    groups = pd.read_csv(full_root / "truth/groups.csv")["group_id"].tolist()
    clean = dict(zip(groups, np.load(full_root / "truth/clean.npy"), strict=True))
    assert len(clean) == 60, "the staging groups too"
    inner = slice(20, -20)
    for group in list(PANEL):
        captures = full.spectra_NL[full.captures["group_id"] == group]
        deviation = captures.mean(axis=0)[inner] - clean[group][inner]
        assert np.sqrt((deviation**2).mean()) < 1.5 * captures.std(axis=0)[inner].mean() / np.sqrt(len(captures))


def test_equal_seeds_give_equal_bytes_and_other_seeds_other_ones(mini_corpus_root: Path, tmp_path: Path) -> None:
    again = generate(tmp_path / "again", size="mini", seed=1)
    other = generate(tmp_path / "other", size="mini", seed=2)
    assert tree_sha256(again) == tree_sha256(mini_corpus_root)
    assert open_corpus(other).sha256 != open_corpus(again).sha256
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again", "other"], "no temporary folder stays"


def test_an_existing_corpus_is_kept_and_anything_else_is_never_overwritten(tmp_path: Path) -> None:
    out = generate(tmp_path / "corpus", size="mini", seed=1)
    written = (out / "corpus.json").stat().st_mtime_ns
    assert generate(out, size="mini", seed=1) == out
    assert (out / "corpus.json").stat().st_mtime_ns == written
    with pytest.raises(BadInput, match="holds another corpus"):
        generate(out, size="mini", seed=2)
    precious = tmp_path / "precious"
    precious.mkdir()
    generate(precious, size="mini", seed=1)  # an empty folder is as good as none
    (precious / "corpus.json").unlink()
    with pytest.raises(BadInput, match="not empty"):
        generate(precious, size="mini", seed=1)
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="is a file"):
        generate(tmp_path / "file")


def test_size_and_seed_are_checked(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="unknown size 'huge'"):
        generate(tmp_path / "x", size="huge")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="seed -1"):
        generate(tmp_path / "x", seed=-1)
    assert list(tmp_path.iterdir()) == []


def test_generated_and_read_in_seconds(tmp_path: Path) -> None:
    start = time.process_time()
    generate(tmp_path / "mini", size="mini", seed=5)
    assert time.process_time() - start < 3
    start = time.process_time()
    generate(tmp_path / "full", size="full", seed=5)
    assert time.process_time() - start < 15
    start = time.process_time()
    open_corpus(tmp_path / "full")
    assert time.process_time() - start < 2


def test_raw_and_savitzky_golay_score_as_on_the_real_corpus(full: Corpus) -> None:
    rows = np.arange(len(full))
    reference = loo_mean(full, rows)
    assert 45.8 <= psnr(full.spectra_NL, reference) <= 46.4
    assert 49.3 <= psnr(savgol_filter(full.spectra_NL, 61, 3, axis=1), reference) <= 49.9


def residuals(corpus: Corpus) -> tuple[np.ndarray, np.ndarray]:
    """(group means (G, L), deviations of the captures from them (N, L))."""
    spectra = corpus.measured().astype(np.float64)
    means = np.stack([spectra[corpus.group_codes == g].mean(axis=0) for g in range(corpus.group_codes.max() + 1)])
    return means, spectra - means[corpus.group_codes]


def test_noise_offset_and_fingerprint_are_those_measured_on_the_real_corpus(full: Corpus) -> None:
    means, noise = residuals(full)
    at = [int((nm - 300) * 2) for nm in (300, 320, 390, 500, 600)]
    np.testing.assert_allclose(noise[:, at].std(axis=0), [0.0189, 0.0053, 0.0034, 0.0041, 0.0159], rtol=0.12)
    assert (noise[:, :-1] * noise[:, 1:]).mean() / (noise**2).mean() == pytest.approx(0.33, abs=0.03)
    assert (noise.mean(axis=1) ** 2).mean() / (noise**2).mean() == pytest.approx(0.145, abs=0.015)
    assert pd.Series(noise.mean(axis=1)).skew() < -1
    inside = slice(40, 401)  # 320 to 500 nm
    dips = [len(find_peaks(-m[inside], prominence=0.002)[0]) for m in means]
    assert 55 <= np.mean(dips) <= 80
    fine = (means - gaussian_filter1d(means, 10, axis=1))[:, 24:577]
    between = np.corrcoef(fine)[np.triu_indices(len(means), 1)]
    assert np.median(between) == pytest.approx(0.93, abs=0.02)
    level = means.mean(axis=1)
    assert 0.09 < level.min() < 0.16
    assert 0.37 < level.max() < 0.55


def test_the_fingerprint_depends_on_the_treatment(full: Corpus) -> None:
    means, _ = residuals(full)
    fine = (means - gaussian_filter1d(means, 10, axis=1))[:, 40:401]
    fine -= fine.mean(axis=0)
    treatment = np.array([g.split("/")[0] for g in sorted(set(full.captures["group_id"]))])
    same = treatment[:, None] == treatment[None, :]
    pairs = np.triu(np.ones_like(same), 1)
    alike = np.corrcoef(fine)
    assert alike[same & pairs].mean() > alike[~same & pairs].mean() + 0.2


def test_both_ends_of_the_grid_ring(full: Corpus, full_root: Path) -> None:
    staging = open_corpus(full_root / "_staging")
    moved = full.measured() - staging.measured()[staging.rows(full.manifest("manifest"))]
    ends = np.sqrt((np.concatenate([moved[:, :10], moved[:, -10:]], axis=1) ** 2).mean())
    assert ends == pytest.approx(0.0048, abs=0.0008), "5 nm at each end, from the wavelength alignment"
    assert np.sqrt((moved[:, 10:-10] ** 2).mean()) < 0.0005
    assert np.corrcoef(moved[:, 0], moved[:, 1])[0, 1] < -0.5, "it alternates from point to point"


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_filters_score_as_on_the_real_corpus(tmp_path: Path, seed: int) -> None:
    """Every group held out once, every fifth of the sorted groups at a time, references leave-one-out.

    The real corpus scores 54.85 dB, ROI 0.804 under this very protocol.
    """
    from denoise_core.evaluation.dips import dip_errors
    from denoise_core.model.linear import fit_lmmse

    corpus = open_corpus(generate(tmp_path / "full", size="full", seed=seed))
    groups = sorted(set(corpus.captures["group_id"]))
    reference = loo_mean(corpus, np.arange(len(corpus)))
    denoised = np.empty_like(corpus.spectra_NL)
    for turn in range(5):
        held = np.flatnonzero(corpus.captures["group_id"].isin(groups[turn::5]))
        training = [g for g in groups if g not in groups[turn::5]]
        filter_ = fit_lmmse(corpus, training, calibrate=False)
        denoised[held] = filter_.denoise(corpus.spectra_NL[held], corpus.context(held))
    smooth = savgol_filter(corpus.spectra_NL, 61, 3, axis=1)
    roi = {
        name: float((dip_errors(x, reference, corpus.wavelength_nm).area_error_pct_M <= 10).mean())
        for name, x in (("savgol", smooth), ("lmmse", denoised))
    }
    assert 45.8 <= psnr(corpus.spectra_NL, reference) <= 46.4
    assert 49.3 <= psnr(smooth, reference) <= 49.9
    assert roi["savgol"] == 0
    assert 54.3 <= psnr(denoised, reference) <= 55.0
    assert 0.73 <= roi["lmmse"] <= 0.82


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_filter_f_passes_every_gate_on_the_mini_panel(tmp_path: Path, seed: int) -> None:
    from denoise_core.evaluation.audit import audit_predictions
    from denoise_core.evaluation.controls import fitted_control_predictions
    from denoise_core.model.linear import fit_f

    corpus = open_corpus(generate(tmp_path / "mini", size="mini", seed=seed))
    panel, training = corpus.manifest("validation_panel"), corpus.manifest("manifest_train")
    rows = corpus.rows(panel)
    denoised = fit_f(corpus, training.groups, calibrate=False).denoise(corpus.spectra_NL[rows], corpus.context(rows))
    controls = fitted_control_predictions(corpus, panel, training)  # fidelity allows for what honest filters do
    audit = audit_predictions(corpus, panel, denoised, training=training, controls=controls)
    assert [gate for gate in audit.gates if not gate.passed] == []
