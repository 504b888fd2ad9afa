"""Folds by rotation, and the dose metadata that follows from treatments."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from denoise_core.corpus.dose import (
    DoseStats,
    cos_theta,
    dose_features,
    dose_of,
    film_features,
    read_dose_stats,
    sampling_weights,
)
from denoise_core.corpus.folds import fold_manifests, fold_numbers, folds_json, inside_training, write_folds
from denoise_core.corpus.manifest import manifest_of, read_manifest
from denoise_core.corpus.store import Corpus, corpus_of, open_corpus
from denoise_core.plans import FILM_FEATURES
from study_core.errors import BadInput


@pytest.fixture(scope="module")
def mini(mini_corpus_root: Path) -> Corpus:
    """The generated mini corpus, opened once."""
    return open_corpus(mini_corpus_root)


@pytest.fixture(scope="module")
def real(real_corpus_root: Path) -> Corpus:
    """The real corpus, opened once."""
    return open_corpus(real_corpus_root)


def test_every_fold_of_the_mini_corpus_is_3_1_1_disjoint_and_without_controls(mini: Corpus) -> None:
    one = 3 * 2 * 40  # treatments × angles × captures of a sample
    counts = {"train": 3 * one, "val": one, "test": one}
    tested: set[str] = set()
    assert fold_numbers(mini.captures, mini.study) == (1, 2, 3, 4, 5)
    for k in fold_numbers(mini.captures, mini.study):
        fold = fold_manifests(mini, k)
        paths = [set(manifest.frame["relative_path"]) for _, manifest in fold]
        assert [len(p) for p in paths] == [counts[name] for name, _ in fold]
        assert len(set.union(*paths)) == sum(counts.values())
        assert not any("treatment_6" in path for path in set.union(*paths))
        tested |= paths[2]
    assert len(tested) == sum(counts.values()), "every dosed capture is tested once"


def test_written_folds_read_back_equal(mini: Corpus, tmp_path: Path) -> None:
    written = write_folds(mini, tmp_path / "manifests")
    assert [f.train.parent.name for f in written] == ["fold_01", "fold_02", "fold_03", "fold_04", "fold_05"]
    assert {p.name for p in written[1].train.parent.iterdir()} == {
        "train_manifest.csv",
        "val_manifest.csv",
        "test_manifest.csv",
    }
    fold = fold_manifests(mini, 2)
    assert read_manifest(written[1].val).rows_sha256 == fold.val.rows_sha256
    assert read_manifest(written[1].train).rows_sha256 == fold.train.rows_sha256


def without(corpus: Corpus, bad: pd.Series[bool]) -> Corpus:
    """The corpus without some captures."""
    keep = ~bad.to_numpy()
    return corpus_of(corpus.captures[keep], corpus.spectra_NL[keep], corpus.wavelength_nm)


def test_a_missing_capture_is_found_by_the_count_check(mini: Corpus) -> None:
    gone = mini.captures["relative_path"] == "treatment_3/sample_G/6Oclock/rep_003.npy"
    with pytest.raises(BadInput, match="group treatment_3/sample_G/6Oclock has 39 captures, others have 40"):
        fold_manifests(without(mini, gone), 1)


def test_a_missing_angle_is_found_by_the_count_check(mini: Corpus) -> None:
    gone = mini.captures["group_id"] == "treatment_1/sample_H/12Oclock"
    with pytest.raises(BadInput, match="treatment_1/sample_H/12Oclock has 0 captures"):
        fold_manifests(without(mini, gone), 5)


def test_folds_need_five_samples_dosed_treatments_and_a_number_from_1_to_5(mini: Corpus) -> None:
    gone = (mini.captures["treatment"] == "treatment_5") & (mini.captures["sample"] == "sample_A")
    with pytest.raises(BadInput, match="treatment_5 has 4 samples"):
        fold_manifests(without(mini, gone), 1)
    with pytest.raises(BadInput, match="controls take part in no fold"):
        fold_manifests(without(mini, mini.captures["treatment"] != "treatment_6"), 1)
    for k in (0, 6):
        with pytest.raises(BadInput, match=f"no fold {k}"):
            fold_manifests(mini, k)


def test_real_folds_equal_the_published_splits(real: Corpus, real_corpus_root: Path) -> None:
    published = json.loads((real_corpus_root / "folds.json").read_text())
    assert folds_json(real.captures) == published
    for k in fold_numbers(real.captures, real.study):
        fold = fold_manifests(real, k)
        assert [len(manifest) for _, manifest in fold] == [4500, 1500, 1500]
        for split, manifest in fold:
            wanted = published["folds"][str(k)][split]
            samples = {(t, s) for t, names in wanted.items() for s in ([names] if isinstance(names, str) else names)}
            assert set(zip(manifest.frame["treatment"], manifest.frame["sample"], strict=True)) == samples


def test_angles_and_treatments_are_checked() -> None:
    assert (cos_theta("12Oclock"), cos_theta("6Oclock")) == (1.0, -1.0)
    with pytest.raises(BadInput, match="unknown angle"):
        cos_theta("3Oclock")
    with pytest.raises(BadInput, match="unknown treatment"):
        dose_of("treatment_0")


def test_doses_of_the_specification() -> None:
    features = film_features(["treatment_4", "treatment_6"], ["12Oclock", "6Oclock"])
    assert features.shape == (2, len(FILM_FEATURES))
    np.testing.assert_allclose(
        features[0], [1, 26.28, 0.360181, 72.963, 1.095, 0.338, 0.343799, 0.440104], rtol=2e-6 * 5
    )
    np.testing.assert_array_equal(features[1], np.array([-1, 0, 0, np.nan, 0, 0, 0, 0], np.float32))


def test_standardised_controls_have_a_ratio_of_0(mini: Corpus) -> None:
    stats = mini.dose_stats
    features = film_features(["treatment_6", "treatment_1"], ["6Oclock", "12Oclock"])
    standard = stats.standardise(features)
    assert standard[0, 3] == 0
    np.testing.assert_allclose(standard[1], (features[1] - stats.mean_F) / stats.std_F, rtol=1e-6)
    assert standard.dtype == np.float32


def test_a_feature_that_never_varies_keeps_a_std_of_1(mini: Corpus) -> None:
    one = without(mini, mini.captures["group_id"] != "treatment_1/sample_A/6Oclock")
    assert one.dose_stats.std_F.tolist() == [1.0] * len(FILM_FEATURES)
    with pytest.raises(BadInput, match="no dosed capture"):
        _ = without(mini, mini.captures["treatment"] != "treatment_6").dose_stats


def test_dose_stats_survive_their_dictionary(mini: Corpus) -> None:
    again = DoseStats.from_dict(json.loads(json.dumps(mini.dose_stats.as_dict())))
    np.testing.assert_array_equal(again.mean_F, mini.dose_stats.mean_F)
    np.testing.assert_array_equal(again.std_F, mini.dose_stats.std_F)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"features": ["a"], "mean": [0.0]}, "not dose statistics"),
        ({"features": ["a"], "mean": [0.0], "std": [1.0, 2.0]}, "1 features"),
        ({"features": ["a"], "mean": [float("nan")], "std": [1.0]}, "not finite"),
        ({"features": ["a"], "mean": [0.0], "std": [0.0]}, "not positive"),
    ],
)
def test_bad_dose_stats_are_refused(tmp_path: Path, data: dict[str, object], says: str) -> None:
    path = tmp_path / "dose_stats.json"
    path.write_text(json.dumps(data))
    with pytest.raises(BadInput, match=says) as error:
        read_dose_stats(path)
    assert error.value.file == path


def copy_of(corpus: Corpus, folder: Path) -> Path:
    """A writable copy of the mini corpus's folder."""
    shutil.copytree(corpus.root, folder)
    return folder


def test_dose_statistics_of_another_corpus_are_refused(mini: Corpus, tmp_path: Path) -> None:
    root = copy_of(mini, tmp_path / "copy")
    path = root / "metadata" / "dose_stats.json"
    data = json.loads(path.read_text())
    data["mean"][1] *= 1 + 3e-4
    path.write_text(json.dumps(data))
    with pytest.raises(BadInput, match="mean of UVA_total") as error:
        _ = open_corpus(root).dose_stats
    assert error.value.file == path


def test_a_dose_that_is_not_its_treatments_is_refused_with_its_row(mini: Corpus, tmp_path: Path) -> None:
    root = copy_of(mini, tmp_path / "copy")
    path = root / "metadata" / "dose_features.csv"
    frame = pd.read_csv(path)
    frame.loc[4, "UVB_total_mWh_cm2"] *= 2
    frame.to_csv(path, index=False)
    with pytest.raises(BadInput, match=r"UVB_total_mWh_cm2 is 1\.50679, treatment_1 received 0\.753397") as error:
        open_corpus(root)
    assert (error.value.file, error.value.row) == (path, 6)
    frame.loc[0, "treatment"] = "treatment_8"
    frame.to_csv(path, index=False)
    with pytest.raises(BadInput, match="unknown treatment 'treatment_8'"):
        open_corpus(root)


def test_real_dose_statistics_equal_the_published_file(real: Corpus, real_corpus_root: Path) -> None:
    published = json.loads((real_corpus_root / "metadata" / "dose_stats.json").read_text())
    stats = real.dose_stats
    assert list(stats.features) == published["features"]
    np.testing.assert_allclose(stats.mean_F, published["mean"], rtol=2e-4)
    np.testing.assert_allclose(stats.std_F, published["std"], rtol=2e-4)


def test_real_dose_features_and_sampling_weights_equal_the_published_files(
    real: Corpus, real_corpus_root: Path
) -> None:
    published = pd.read_csv(real_corpus_root / "metadata" / "dose_features.csv").set_index("relative_path")
    computed = dose_features(real.captures).set_index("relative_path").loc[published.index]
    assert list(computed.columns) == list(published.columns)
    for name in published.select_dtypes("number"):
        np.testing.assert_allclose(computed[name], published[name], rtol=1e-5, atol=1e-9, err_msg=name)
    weights = pd.read_csv(real_corpus_root / "metadata" / "dose_sampling_weights.csv").set_index("relative_path")
    ours = sampling_weights(real.captures).set_index("relative_path").loc[weights.index]
    assert list(ours["bin_pair"]) == list(weights["bin_pair"])
    assert (ours["sampling_weight"] == weights["sampling_weight"]).all()


@pytest.mark.parametrize("k", [1, 2])
def test_an_epoch_is_chosen_on_groups_that_the_folds_model_was_not_trained_on(mini: Corpus, k: int) -> None:
    training, panel = mini.manifest("manifest_train"), mini.manifest("validation_panel")
    inside, fold = inside_training(mini, training, k), fold_manifests(mini, k)
    parts = {name: set(part.groups) for name, part in inside}
    assert sum(len(part) for _, part in inside) == len(training)
    assert parts["train"] | parts["val"] | parts["test"] == set(training.groups)
    assert not parts["train"] & (parts["val"] | parts["test"])
    assert not parts["val"] & parts["test"]
    assert not set(panel.groups) & set.union(*parts.values())
    assert parts["val"] <= set(fold.val.groups)
    assert parts["test"] <= set(fold.test.groups), "its start has not seen them, it has not, and they chose nothing"


def test_no_epoch_is_chosen_inside_a_training_that_the_fold_splits_in_no_two(mini: Corpus) -> None:
    fold = fold_manifests(mini, 2)
    for training, what in ((fold.val, "trains"), (fold.train, "validates")):
        with pytest.raises(BadInput, match=f"{what} on none of its groups"):
            inside_training(mini, manifest_of(training.frame), 2)
