"""A corpus of another study: its own treatments, samples, angles, doses, panel, grid and folds, from `study.yaml`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from strangers import borrowed, write_tree

from denoise_core.corpus.folds import fold_manifests, fold_numbers
from denoise_core.corpus.manifest import verify_disjoint, write_manifest
from denoise_core.corpus.store import Corpus, open_corpus, pack
from denoise_core.corpus.study import PUBLISHED, Study, read_study, write_study
from denoise_core.corpus.usable import verify_study, verify_training
from denoise_core.recipes import fitted, named
from study_core.errors import BadInput
from tasks.cli import main as gated

PANEL = ["dry/plate2/left"]
STUDY = {"name": "drought", "treatments": ["dry", "wet"], "panel": PANEL, "roi_nm": [330, 480]}


@pytest.fixture(scope="module")
def mini(mini_corpus_root: Path) -> Corpus:
    return open_corpus(mini_corpus_root)


@pytest.fixture
def root(mini: Corpus, tmp_path: Path) -> Path:
    """Two treatments of four samples, 6 to 9 captures a group, 301 points, no dose."""
    groups = borrowed(mini, {"dry": 1, "wet": 3}, 4, (6, 9, 7), every=2)
    return write_tree(tmp_path / "theirs", groups, mini.wavelength_nm[::2], STUDY)


def changed(root: Path, **keys: Any) -> Path:
    (root / "study.yaml").write_text(yaml.safe_dump({**STUDY, **keys}))
    return root


def test_their_names_panel_grid_and_roi_are_taken(root: Path) -> None:
    corpus = open_corpus(root)
    assert set(corpus.captures["treatment"]) == {"dry", "wet"}
    assert len(corpus.wavelength_nm) == 301
    panel, training = corpus.manifest("validation_panel"), corpus.manifest("manifest_train")
    assert list(panel.groups) == PANEL
    assert len(panel) + len(training) == len(corpus)
    verify_disjoint(panel, training)
    verify_training(corpus, training, panel)
    inside = corpus.lambda_stats.alpha == 3
    assert corpus.wavelength_nm[inside][[0, -1]].tolist() == [330, 480]
    assert corpus.study == open_corpus(pack(corpus, root.parent / "packed")).study


def test_no_dose_is_borrowed_from_the_published_study(root: Path, mini: Corpus) -> None:
    corpus = open_corpus(root)
    assert np.isnan(corpus.context(np.arange(len(corpus))).features_BF).all()
    assert (corpus.dose_stats.standardise(corpus.context([0]).features_BF) == 0).all()
    assert corpus.dose_stats.mean_F.tolist() == [0.0] * 8
    named_like_ours = changed(root, treatments=["treatment_1", "wet"])
    for old, new in (("dry", "treatment_1"),):
        (root / old).rename(root / new)
    changed(named_like_ours, treatments=["treatment_1", "wet"], panel=[])
    features = open_corpus(root).context([0]).features_BF
    assert np.isnan(features[0, 1:]).all(), "a published treatment's name brings no published dose"


def test_doses_and_angles_of_a_study_become_features(root: Path) -> None:
    dose = {"uva_mw_cm2": 2.0, "uvb_mw_cm2": 0.5, "uva_hours": 10, "uvb_hours": 4}
    half = {**dose, "uva_hours": 5}
    corpus = open_corpus(changed(root, treatments={"dry": dose, "wet": half}, angles={"left": 180, "right": 0}))
    rows = [int(np.flatnonzero(corpus.captures["group_id"] == f"{t}/plate1/right")[0]) for t in ("dry", "wet")]
    np.testing.assert_allclose(
        corpus.context(rows).features_BF, [[1, 20, 2, 10, 2, 0.5, 1, 1], [1, 10, 2, 5, 2, 0.5, 0.5, 1]], rtol=1e-6
    )
    before = open_corpus(changed(root)).sha256
    assert before != corpus.sha256, "what a model follows from is in the content hash"
    assert before == open_corpus(changed(root, name="another name", panel=["wet/plate1/left"])).sha256


def test_folds_follow_from_the_samples_there_are(root: Path) -> None:
    corpus = open_corpus(root)
    assert fold_numbers(corpus.captures, corpus.study) == (1, 2, 3, 4)
    tested: set[str] = set()
    for k in (1, 2, 3, 4):
        fold = fold_manifests(corpus, k)
        assert [len({group.rsplit("/", 1)[0] for group in part.groups}) for _, part in fold] == [4, 2, 2]
        verify_disjoint(fold.val, fold.train)
        verify_disjoint(fold.test, fold.val)
        tested |= set(fold.test.frame["relative_path"])
    assert len(tested) == len(corpus), "every capture is tested once, however uneven the groups"


def test_why_there_are_no_folds_or_too_few_captures(root: Path) -> None:
    corpus = open_corpus(changed(root, replicates=9))
    with pytest.raises(BadInput, match="group dry/plate1/left has 6 captures, the study drought says 9"):
        fold_manifests(corpus, 1)
    with pytest.raises(BadInput, match=r"no fold 5; folds are 1 to 4"):
        fold_manifests(open_corpus(changed(root)), 5)
    keep = corpus.captures["sample"].isin(["plate1", "plate2"]).to_numpy()
    few = corpus.captures[keep]
    with pytest.raises(BadInput, match="no folds: dry has 2 samples"):
        fold_numbers(few, corpus.study)


def test_a_main_job_without_folds_says_how_to_go_on_before_anything_is_started(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GATED_ARTIFACTS", str(tmp_path / "artifacts"))
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    for sample in ("plate3", "plate4"):
        shutil.rmtree(root / "dry" / sample)
    assert gated(["run", "--corpus", str(root)]) == 2
    told = capsys.readouterr().err
    assert f"{root}: no folds: dry has 2 samples, a fold needs one each" in told
    assert "--set start.checkpoint=FILE" in told
    assert not (tmp_path / "prefect").exists()
    verify_study(root)  # with a checkpoint to start from, nothing is missing


def test_a_panel_of_their_own_is_left_out_of_training(root: Path) -> None:
    corpus = open_corpus(root)
    other = corpus.captures[corpus.captures["group_id"] == "wet/plate3/right"]
    write_manifest(other, root / "validation_panel.csv")
    assert "wet/plate3/right" not in corpus.manifest("manifest_train").groups
    assert PANEL[0] in corpus.manifest("manifest_train").groups
    assert "wet/plate3/right" not in corpus.training_beside(corpus.manifest("validation_panel")).groups


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"treatments": ["dry"]}, "unknown treatment 'wet'; the study drought has dry"),
        ({"angles": ["left"]}, "unknown angle 'right'"),
        ({"panel": ["dry/plate9/left"]}, "panel group dry/plate9/left has no capture"),
        ({"grid": {"first_nm": 300, "last_nm": 600, "points": 601}}, "301 wavelengths from 300 to 600 nm, the study"),
    ],
)
def test_captures_that_are_not_the_studys_are_refused(root: Path, keys: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        open_corpus(changed(root, **keys))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: x\ntreatmnts: [a]\n", "treatmnts"),
        ("- a\n", "the file"),
        ("name: [\n", "not a study"),
        ("name: x\nunits: percent\n", "gated import converts"),
        ("name: x\npanel: [a/b]\n", "not TREATMENT/SAMPLE/ANGLE"),
        ("name: x\ntreatments: {a: {uva_mw_cm2: 1}}\n", "a dose takes"),
        ("name: x\nroi_nm: [500, 320]\n", "roi_nm must rise"),
        ("name: x\nangles: ['../up']\n", "letters, digits"),
        ("name: x\nunits: parts\n", "units: Input should be 'reflectance'"),
        ("name: x\ntreatments: [no, yes]\n", "YAML reads a name as False: put it in quotes"),
    ],
)
def test_a_bad_study_names_its_file_and_key(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    with pytest.raises(BadInput, match=says) as error:
        read_study(path)
    assert str(path) in str(error.value)


def test_a_study_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    for study in (PUBLISHED, Study(name="s", treatments={"a": {}, "b": {"control": True}}, panel=("a/1/x",))):  # type: ignore[dict-item]
        path.write_text(write_study(study))
        assert read_study(path) == study
    assert read_study(None) is PUBLISHED
    path.write_text("name: x\nunits: percent\n")
    assert read_study(path, of="files").units == "percent"


def test_nothing_in_the_tree_is_passed_over_in_silence(root: Path) -> None:
    (root / "dry" / "plate 5" / "left").mkdir(parents=True)
    np.save(root / "dry" / "plate 5" / "left" / "scan.npy", np.zeros(301, np.float32))
    with pytest.raises(BadInput, match=r"dry/plate 5/left/scan\.npy is no capture"):
        open_corpus(root)


@pytest.mark.parametrize(
    ("grid", "says"),
    [
        (np.linspace(700, 1000, 301), "0 wavelengths in the ROI of 330 to 480 nm"),
        (np.linspace(200, 800, 301), "every 2 nm"),
        (np.r_[np.linspace(300, 400, 101), np.linspace(420, 619, 200)], "400 nm, then 420 nm"),
    ],
)
def test_a_grid_that_no_method_can_use_is_refused_by_name(root: Path, grid: np.ndarray, says: str) -> None:
    np.save(root / "wavelength_grid.npy", grid.astype(np.float32))
    with pytest.raises(BadInput, match=says) as error:
        verify_study(root)
    assert "wavelength_grid.npy" in str(error.value)


def test_a_plan_follows_the_corpus_or_is_refused_by_option() -> None:
    plan = named("act_of_god_mini")
    wavelength = np.linspace(300, 600, 301).tolist()
    made = fitted(plan, wavelength, (330.0, 480.0))
    assert made.model.sequence_length == 301
    assert (made.loss.deriv_roi_min, made.loss.deriv_roi_max) == (330.0, 480.0)
    assert fitted(plan, np.linspace(300, 600, 601).tolist(), PUBLISHED.roi_nm) == plan
    with pytest.raises(BadInput, match=r"model\.sequence_length is 301"):
        fitted(made, wavelength[:200], (330.0, 480.0))
