"""The spectra store: both layouts, what it refuses, references, statistics."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from denoise_core.corpus.manifest import COLUMNS, manifest_of, read_manifest, write_manifest
from denoise_core.corpus.reference import loo_mean
from denoise_core.corpus.statistics import lambda_stats, read_lambda_stats, write_lambda_stats
from denoise_core.corpus.store import Corpus, corpus_of, open_corpus, pack
from study_core.errors import BadInput

GRID = np.linspace(300.0, 600.0, 61)
CAPTURES = 4
GROUPS = ("treatment_1/sample_A/6Oclock", "treatment_6/sample_I/12Oclock")


def small(root: Path) -> Path:
    """A corpus of two groups of four captures in the seed's layout."""
    rng = np.random.default_rng(7)
    folder = root / "spectra_for_fold"
    rows = []
    for group in GROUPS:
        (folder / group).mkdir(parents=True)
        for n in range(CAPTURES):
            np.save(folder / group / f"rep_{n:03d}.npy", rng.uniform(0.1, 0.4, len(GRID)).astype(np.float32))
            rows.append((f"{group}/rep_{n:03d}.npy", *group.split("/"), group))
    np.save(folder / "wavelength_grid.npy", GRID.astype(np.float32))
    write_manifest(pd.DataFrame(rows, columns=list(COLUMNS)), folder / "manifest.csv")
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Folder of a small corpus, its name with a blank and an umlaut."""
    return small(tmp_path / "kleine Körper")


def test_both_layouts_and_the_bare_tree_give_the_same_corpus(root: Path, tmp_path: Path) -> None:
    corpus = open_corpus(root)
    packed = open_corpus(pack(corpus, tmp_path / "packed"))
    bare = open_corpus(root / "spectra_for_fold")
    assert corpus.sha256 == packed.sha256 == bare.sha256
    np.testing.assert_array_equal(corpus.spectra_NL, packed.spectra_NL)
    assert corpus.spectra_NL.dtype == np.float32
    assert corpus.wavelength_nm.dtype == np.float64
    assert corpus.captures.equals(packed.captures)
    (root / "spectra_for_fold" / "manifest.csv").unlink()
    assert open_corpus(root).sha256 == corpus.sha256, "the tree itself says what there is"


def test_the_content_hash_follows_every_part(root: Path) -> None:
    corpus = open_corpus(root)
    other = corpus.spectra_NL.copy()
    other[3, 5] += 1e-6
    assert corpus_of(corpus.captures, other, corpus.wavelength_nm).sha256 != corpus.sha256
    assert corpus_of(corpus.captures, corpus.spectra_NL, corpus.wavelength_nm + 0.5).sha256 != corpus.sha256
    assert corpus_of(corpus.captures, corpus.spectra_NL, corpus.wavelength_nm).sha256 == corpus.sha256


def test_spectra_are_read_only(root: Path) -> None:
    with pytest.raises(ValueError, match="read-only"):
        open_corpus(root).spectra_NL[0, 0] = 0


def rewrite(value: object, index: int | None = 10) -> Callable[[Path], None]:
    """A change of one capture: one value of it, or the whole array."""

    def change(path: Path) -> None:
        if index is None:
            np.save(path, np.asarray(value))
        else:
            spectrum = np.load(path)
            spectrum[index] = value
            np.save(path, spectrum)

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (Path.unlink, "cannot be read (No such file"),
        (rewrite(np.zeros(60, np.float32), None), "wrong length"),
        (rewrite(np.zeros((61, 2), np.float32), None), "wrong length"),
        (rewrite(np.array(["a"] * 61), None), "not an array of numbers"),
        (rewrite(np.array([{}] * 61), None), "cannot read the array"),
        (lambda path: path.write_bytes(path.read_bytes()[:200]), "cannot read the array"),
        (rewrite(np.nan), "holds nan at index 10"),
        (rewrite(np.inf), "holds inf at index 10"),
        (rewrite(1.2), "holds 1.2 at index 10, outside [0, 1]"),
        (rewrite(-0.5), "holds -0.5 at index 10, outside [0, 1]"),
    ],
)
def test_a_bad_capture_is_refused_with_file_row_and_remedy(
    root: Path, change: Callable[[Path], None], says: str
) -> None:
    folder = root / "spectra_for_fold"
    change(folder / GROUPS[1] / "rep_002.npy")
    with pytest.raises(BadInput) as error:
        open_corpus(root)
    assert says in str(error.value)
    assert f"{GROUPS[1]}/rep_002.npy" in str(error.value)
    assert error.value.file == folder / "manifest.csv"
    assert error.value.row == 8, "seventh capture, after the header"
    assert error.value.remedy


def test_other_number_types_are_read_as_float32(root: Path) -> None:
    path = root / "spectra_for_fold" / GROUPS[0] / "rep_001.npy"
    want = open_corpus(root).spectra_NL[1]
    np.save(path, np.load(path).astype(np.float64))
    np.testing.assert_array_equal(open_corpus(root).spectra_NL[1], want)


def test_detector_noise_just_outside_0_and_1_is_clipped_and_kept_for_statistics(root: Path) -> None:
    rewrite(-0.003)(root / "spectra_for_fold" / GROUPS[0] / "rep_001.npy")
    corpus = open_corpus(root)
    assert corpus.spectra_NL[1, 10] == 0
    assert corpus.outside.value.tolist() == [np.float32(-0.003)]
    assert corpus.measured()[1, 10] == np.float32(-0.003)
    want = corpus.measured().var(axis=0, ddof=1)
    np.testing.assert_allclose(corpus.lambda_stats.variance, want, rtol=1e-5)


def test_a_duplicate_row_in_manifest_csv_is_refused(root: Path) -> None:
    path = root / "spectra_for_fold" / "manifest.csv"
    text = path.read_text()
    path.write_text(text + text.splitlines()[2] + "\n")
    with pytest.raises(BadInput, match=r"duplicate capture .*rep_001.npy") as error:
        open_corpus(root)
    assert (error.value.file, error.value.row) == (path, 10)
    assert error.value.remedy


def test_an_unknown_treatment_is_refused(root: Path) -> None:
    path = root / "spectra_for_fold" / "manifest.csv"
    path.write_text(path.read_text().replace("treatment_6", "treatment_66"))
    with pytest.raises(BadInput, match="unknown treatment 'treatment_66'") as error:
        open_corpus(root)
    assert (error.value.file, error.value.row) == (path, 6)


@pytest.mark.parametrize("grid", [None, np.zeros(61), GRID[::-1], GRID.reshape(1, -1), np.full(61, np.nan)])
def test_a_grid_that_is_missing_or_does_not_rise_is_refused(root: Path, grid: np.ndarray | None) -> None:
    path = root / "spectra_for_fold" / "wavelength_grid.npy"
    path.unlink()
    if grid is not None:
        np.save(path, grid)
    with pytest.raises(BadInput) as error:
        open_corpus(root)
    assert error.value.file == path
    assert error.value.remedy


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_without_a_corpus_is_refused(tmp_path: Path, there: bool) -> None:
    folder = tmp_path / "empty"
    if there:
        folder.mkdir()
    with pytest.raises(BadInput, match="no corpus here" if there else "no such folder") as error:
        open_corpus(folder)
    assert error.value.file == folder
    assert "denoise_core corpus" in str(error.value.remedy)


def test_packed_spectra_must_fit_their_manifest(root: Path, tmp_path: Path) -> None:
    packed = pack(open_corpus(root), tmp_path / "packed")
    np.save(packed / "spectra.npy", np.load(packed / "spectra.npy")[:-1])
    with pytest.raises(BadInput, match=r"shape \(7, 61\), expected \(8, 61\)"):
        open_corpus(packed)


def test_rows_follow_the_manifest_and_a_foreign_capture_is_refused(root: Path, tmp_path: Path) -> None:
    corpus = open_corpus(root)
    shuffled = manifest_of(corpus.captures.iloc[[5, 0, 5]])
    assert corpus.rows(shuffled).tolist() == [5, 0, 5]
    assert corpus.groups([5, 0]).tolist() == [GROUPS[1], GROUPS[0]]
    foreign = corpus.captures.copy()
    foreign.loc[1, "relative_path"] = f"{GROUPS[0]}/rep_999.npy"
    manifest = write_manifest(foreign, tmp_path / "foreign.csv")
    with pytest.raises(BadInput, match=r"rep_999\.npy is not in the corpus") as error:
        corpus.rows(manifest)
    assert (error.value.file, error.value.row) == (tmp_path / "foreign.csv", 3)


def test_context_holds_the_treatment_and_the_raw_dose_features(root: Path) -> None:
    corpus = open_corpus(root)
    context = corpus.context([0, 7])
    assert context.treatment.tolist() == ["treatment_1", "treatment_6"]
    assert context.features_BF.dtype == np.float32
    np.testing.assert_allclose(context.features_BF[0, :4], [-1, 76.44, 0.753397, 101.46047], rtol=1e-5)
    assert context.features_BF[1, 0] == 1
    assert np.isnan(context.features_BF[1, 3])
    one = context.take(np.array([1]))
    assert len(one) == 1
    assert one.treatment[0] == "treatment_6"
    assert np.isfinite(corpus.dose_stats.standardise(context.features_BF)).all()


def test_the_reference_of_a_capture_is_the_mean_of_the_others_whatever_rows_are_asked_for(root: Path) -> None:
    corpus = open_corpus(root)
    rows = np.array([6, 0, 6, 1])
    reference = loo_mean(corpus, rows)
    for row, got in zip(rows, reference, strict=True):
        others = [i for i in range(len(corpus)) if i != row and i // CAPTURES == row // CAPTURES]
        np.testing.assert_allclose(got, corpus.spectra_NL[others].astype(np.float64).mean(axis=0), rtol=1e-6)


def test_a_group_of_one_capture_has_no_reference(root: Path) -> None:
    corpus = open_corpus(root)
    lonely = corpus_of(corpus.captures[:5], corpus.spectra_NL[:5], corpus.wavelength_nm)
    with pytest.raises(BadInput, match=f"group {GROUPS[1]} has one capture"):
        loo_mean(lonely, [4])


def test_lambda_stats_equal_their_definition_and_survive_a_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    grid = np.linspace(300.0, 600.0, 601)
    spectra = rng.normal(0.3, np.linspace(0.01, 0.05, 601), (200, 601)).astype(np.float32)
    stats = lambda_stats(spectra, grid)
    low, high = np.percentile(spectra.var(axis=0, ddof=1, dtype=np.float64), (5, 95))
    assert (stats.variance_clipped.min(), stats.variance_clipped.max()) == (np.float32(low), np.float32(high))
    np.testing.assert_allclose(stats.weights, stats.alpha / stats.variance_clipped, rtol=1e-6)
    assert set(grid[stats.alpha == 3]) == set(np.arange(320, 500.5, 0.5))
    again = read_lambda_stats(write_lambda_stats(stats, tmp_path / "s.npz"), grid)
    np.testing.assert_array_equal(again.weights, stats.weights)
    with pytest.raises(BadInput, match="wavelengths are not the corpus's"):
        read_lambda_stats(tmp_path / "s.npz", grid + 1)
    with pytest.raises(BadInput, match="not positive on the grid"):
        read_lambda_stats(tmp_path / "s.npz", grid[:-1])
    with pytest.raises(BadInput, match="cannot read the statistics"):
        read_lambda_stats(tmp_path / "none.npz", grid)


def test_a_panel_given_by_the_user_may_hold_more_columns_and_crlf(mini_corpus_root: Path, tmp_path: Path) -> None:
    corpus = open_corpus(mini_corpus_root)
    panel = corpus.manifest("validation_panel")
    path = tmp_path / "my panel.csv"
    panel.frame.assign(source_path="/data/raw, first/x.txt").to_csv(path, index=False, lineterminator="\r\n")
    mine = read_manifest(path)
    assert mine.rows_sha256 == panel.rows_sha256
    np.testing.assert_array_equal(corpus.rows(mine), corpus.rows(panel))


def test_staging_opens_as_its_own_corpus(mini_corpus_root: Path) -> None:
    corpus = open_corpus(mini_corpus_root)
    staging = corpus.manifest("staging")
    with pytest.raises(BadInput, match="is not in the corpus"):
        corpus.rows(staging)
    own = open_corpus(mini_corpus_root / "_staging")
    assert own.rows(staging).tolist() == list(range(len(staging)))
    np.testing.assert_array_equal(own.wavelength_nm, corpus.wavelength_nm)


def test_manifest_names_are_checked(root: Path) -> None:
    corpus = open_corpus(root)
    with pytest.raises(BadInput, match="unknown manifest 'train'"):
        corpus.manifest("train")
    with pytest.raises(BadInput, match="no staging manifest"):
        corpus.manifest("staging")


@pytest.fixture(scope="module")
def real(real_corpus_root: Path) -> Corpus:
    """The real corpus, opened once."""
    return open_corpus(real_corpus_root)


def test_real_lambda_stats_equal_the_published_file(real: Corpus, real_corpus_root: Path) -> None:
    stats = real.lambda_stats
    with np.load(real_corpus_root / "lambda_stats.npz") as published:
        for name in published.files:
            np.testing.assert_allclose(getattr(stats, name), published[name], rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("name", ["manifest_full", "manifest_train", "validation_panel"])
def test_real_manifests_equal_those_derived_from_the_captures(
    real: Corpus, real_corpus_root: Path, tmp_path: Path, name: str
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for file in ("spectra.npy", "manifest.csv", "wavelength_grid.npy"):
        shutil.copy(real_corpus_root / file, bare / file)
    derived = open_corpus(bare).manifest(name)
    given = real.manifest(name)
    assert len(derived) == {"manifest_full": 11100, "manifest_train": 10350, "validation_panel": 750}[name]
    assert sorted(derived.frame["relative_path"]) == sorted(given.frame["relative_path"])
    if name == "validation_panel":
        assert derived.rows_sha256 == given.rows_sha256, "the same rows in the same order as audited"


def test_real_panel_scores_of_the_raw_capture_are_those_of_the_specification(real: Corpus) -> None:
    rows = real.rows(real.manifest("validation_panel"))
    error = real.spectra_NL[rows].astype(np.float64) - loo_mean(real, rows)
    psnr = -10 * np.log10((error**2).mean(axis=1))
    assert (round(psnr.mean(), 2), round(psnr.std(), 2)) == (45.73, 1.51)
