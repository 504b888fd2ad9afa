"""Corpora that no spectrometer measures: each is named with its file, the capture and a remedy, at every door."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from strangers import borrowed, write_tree

from denoise_core.__main__ import main
from denoise_core.corpus.store import open_corpus, pack
from denoise_core.corpus.stream import open_stream
from study_core.errors import BadInput

STUDY = {"name": "drought", "treatments": ["dry", "wet"], "panel": ["dry/plate2/left"], "roi_nm": [330, 480]}
FIFTH = "dry/plate1/left/scan_004.npy"  # the fifth capture of the corpus
Change = Callable[[np.ndarray], np.ndarray]


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory, mini_corpus_root: Path) -> Path:
    """Two treatments of three samples, six captures a group, 301 points."""
    mini = open_corpus(mini_corpus_root)
    groups = borrowed(mini, {"dry": 1, "wet": 3}, 3, (6,), every=2)
    return write_tree(tmp_path_factory.mktemp("theirs") / "corpus", groups, mini.wavelength_nm[::2], STUDY)


@pytest.fixture
def root(theirs: Path, tmp_path: Path) -> Path:
    return shutil.copytree(theirs, tmp_path / "corpus")


def one(change: Change) -> Callable[[Path], None]:
    """Damage to the fifth capture."""

    def damage(root: Path) -> None:
        np.save(root / FIFTH, change(np.load(root / FIFTH)).astype(np.float32))

    return damage


def every(change: Change) -> Callable[[Path], None]:
    """Damage to every capture."""

    def damage(root: Path) -> None:
        for path in root.glob("*/*/*/*.npy"):
            np.save(path, change(np.load(path)).astype(np.float32))

    return damage


def grid(change: Change) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        path = root / "wavelength_grid.npy"
        np.save(path, change(np.load(path).astype(np.float64)).astype(np.float32))

    return damage


def copied(root: Path) -> None:
    shutil.copy(root / "dry/plate1/left/scan_000.npy", root / FIFTH)


def copied_everywhere(root: Path) -> None:
    for path in sorted(root.glob("*/*/*/*.npy"))[1:]:
        shutil.copy(root / "dry/plate1/left/scan_000.npy", path)


def rounded(spectrum: np.ndarray) -> np.ndarray:
    return np.round(spectrum, 1)


def saturated(spectrum: np.ndarray) -> np.ndarray:
    return np.minimum(spectrum, np.quantile(spectrum, 0.3))


# What was done, and what the one line must name: the capture (or file) and the remedy.
IMPLAUSIBLE: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "one capture zero": (one(np.zeros_like), (FIFTH, "zero at every wavelength", "shutter", "row 6")),
    "all zero": (every(np.zeros_like), ("scan_000.npy", "zero at every", "(72 such captures)")),
    "constant": (one(lambda x: np.full_like(x, 0.25)), (FIFTH, "is 0.25 at every wavelength", "measure it again")),
    "0 and 1 only": (one(lambda x: (x > np.median(x)) * 1.0), (FIFTH, "only the whole numbers 0 and 1", "decimals")),
    "noise of 0 and 1": (
        one(lambda x: np.random.default_rng(1).integers(0, 2, len(x)) * 1.0),
        (FIFTH, "only the whole numbers 0 and 1", "decimals"),
    ),
    "rounded": (every(rounded), ("scan_000.npy", "same value as its neighbour", "all its decimals")),
    "saturated": (one(saturated), (FIFTH, "same value as its neighbour", "unsaturated")),
    "a copy": (copied, (FIFTH, "dry/plate1/left/scan_000.npy again, value by value", "measure it again")),
    "all captures equal": (copied_everywhere, ("value by value", "(71 copies in all)")),
    "NaN": (one(lambda x: np.where(np.arange(len(x)) == 7, np.nan, x)), (FIFTH, "holds nan at index 7", "export")),
    "negative": (one(lambda x: -x), (FIFTH, "negative", "dark reference")),
    "percent": (every(lambda x: 100 * x), ("scan_000.npy", "percent, it seems", "--units percent")),
    "absorbance": (every(lambda x: -np.log10(np.maximum(x, 1e-3))), ("absorbance or percent?", "--units absorbance")),
    "swapped reference": (every(lambda x: 1 / np.maximum(x, 0.2)), ("nowhere below 1", "white reference swapped")),
    "counts": (every(lambda x: np.rint(40_000 * x)), ("scan_000.npy", "outside [0, 1]", "fraction")),
    "micrometres": (grid(lambda nm: nm / 1000), ("wavelength_grid.npy", "micrometres?", "--axis um")),
    "wavenumbers": (grid(lambda nm: np.sort(1e7 / nm)), ("wavelength_grid.npy", "wavenumbers", "give nm")),
    "a gap in the grid": (
        grid(lambda nm: nm + 20 * (nm > 400)),
        ("wavelength_grid.npy", "400 nm, then 421 nm", "--resample"),
    ),
    "a falling grid": (grid(lambda nm: nm[::-1]), ("wavelength_grid.npy", "not a rising grid", "give nm, rising")),
}


@pytest.mark.parametrize("how", IMPLAUSIBLE)
def test_an_implausible_corpus_is_named_when_it_is_opened(how: str, root: Path) -> None:
    damage, says = IMPLAUSIBLE[how]
    damage(root)
    for door in (open_corpus, open_stream):
        with pytest.raises(BadInput) as error:
            door(root)
        assert str(root) in str(error.value)
        assert error.value.remedy
        for text in says:
            assert text in str(error.value), str(error.value)


@pytest.mark.parametrize("how", IMPLAUSIBLE)
def test_a_main_job_on_it_is_refused_before_anything_is_started(
    how: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tasks.cli import main as gated

    damage, says = IMPLAUSIBLE[how]
    damage(root)
    monkeypatch.setenv("GATED_ARTIFACTS", str(tmp_path / "artifacts"))
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    assert gated(["run", "--corpus", str(root)]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert all(text in told for text in says), told
    assert not (tmp_path / "artifacts").exists()
    assert not (tmp_path / "prefect").exists()


@pytest.mark.parametrize(
    "call",
    [
        ["folds", "--corpus", "ROOT", "--out", "OUT"],
        ["train", "--corpus", "ROOT", "--out", "OUT", "--method", "linear"],
        ["train", "--corpus", "ROOT", "--out", "OUT"],
        ["denoise", "--corpus", "ROOT", "--manifest", "PANEL", "--checkpoint", "FILTER", "--out", "OUT"],
        ["evaluate", "--corpus", "ROOT", "--panel", "PANEL", "--predictions", "OUT", "--out", "OUT"],
        ["replay", "--corpus", "ROOT", "--bundle", "OUT"],
    ],
    ids=lambda call: " ".join(call[:1] + call[5:6]),
)
def test_every_command_refuses_it_and_writes_nothing(
    call: list[str], root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    panel, fitted, out = tmp_path / "panel.csv", tmp_path / "filter" / "linear_f.pt", tmp_path / "out"
    open_corpus(root).manifest("validation_panel").frame.to_csv(panel, index=False)
    assert main(["train", "--corpus", str(root), "--method", "linear", "--out", str(fitted.parent)]) == 0
    one(np.zeros_like)(root)
    there = {"ROOT": str(root), "PANEL": str(panel), "FILTER": str(fitted), "OUT": str(out)}
    capsys.readouterr()
    assert main([there.get(word, word) for word in call]) == 2
    told = capsys.readouterr().err
    assert FIFTH in told, told
    assert "zero at every wavelength" in told
    assert not out.exists()


def test_one_capture_a_group_can_be_neither_trained_on_nor_judged(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in root.glob("*/*/*/scan_00[1-9].npy"):
        path.unlink()
    panel = tmp_path / "panel.csv"
    open_corpus(root).manifest("validation_panel").frame.to_csv(panel, index=False)
    predictions = tmp_path / "predictions"
    for name in open_corpus(root).manifest("validation_panel").frame["relative_path"]:
        (predictions / name).parent.mkdir(parents=True)
        shutil.copy(root / name, (predictions / name).with_name("scan_000_denoised.npy"))
    out = str(tmp_path / "out")
    for call in (
        ["train", "--corpus", str(root), "--out", out],
        ["evaluate", "--corpus", str(root), "--panel", str(panel), "--predictions", str(predictions), "--out", out],
    ):
        capsys.readouterr()
        assert main(call) == 2
        told = capsys.readouterr().err
        assert "one capture" in told, told
        assert "add another capture" in told, told
    assert not Path(out).exists()


def test_corpora_as_they_are_open(theirs: Path, mini_corpus_root: Path, tmp_path: Path) -> None:
    assert len(open_corpus(theirs)) == 72
    packed = pack(open_corpus(mini_corpus_root), tmp_path / "packed")
    assert open_corpus(mini_corpus_root).sha256 == open_corpus(packed).sha256 == open_stream(packed).sha256
    assert len(open_stream(mini_corpus_root / "_staging")) == 1600


def test_the_published_corpus_opens(real_corpus_root: Path) -> None:
    assert len(open_corpus(real_corpus_root)) == 8100
