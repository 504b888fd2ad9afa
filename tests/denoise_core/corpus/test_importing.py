"""`import`: what is converted only when told; what is taken, renamed, refused and skipped, and why."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from instrument_text import X, Y, jcamp, lines

from denoise_core.__main__ import main
from denoise_core.corpus.store import open_corpus

HEAD = "Wavelength,Reflectance\n"


def theirs(
    root: Path, y_L: np.ndarray = Y, x_L: np.ndarray = X, *, sample: str = "p", head: str = HEAD, captures: int = 2
) -> Path:
    """Two treatments of three samples, so many captures each, no angle."""
    rng = np.random.default_rng(3)
    for treatment in ("dry", "wet"):
        for number in range(3):
            folder = root / treatment / f"{sample}{number}"
            folder.mkdir(parents=True)
            for capture in range(captures):
                noisy = y_L * (1 + 0.01 * rng.standard_normal(len(y_L)))
                text = "\n".join(f"{x:.6g},{y:.6f}" for x, y in zip(x_L, noisy, strict=True))
                (folder / f"{capture}.csv").write_text(head + text)
    return root


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main(["import", *arguments])
    out = capsys.readouterr()
    return code, out.out + out.err


def test_a_dry_run_lists_and_writes_nothing_then_yes_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = theirs(tmp_path / "raw", sample="plate "), tmp_path / "corpus"
    code, text = told(capsys, str(source), "--out", str(out))
    assert code == 0
    assert not out.exists()
    assert "12 spectra in 6 groups, 0 skipped" in text
    assert "rename 'plate 0' to plate_0" in text
    assert "panel: dry/plate_2/only, wet/plate_2/only" in text
    for group in ("dry/plate_2", "dry/plate_9/only"):
        code, text = told(capsys, str(source), "--out", str(out), "--panel", group)
        assert (code, f"--panel {group}: no such group; TREATMENT/SAMPLE/ANGLE as listed: dry/" in text) == (2, True)
    code, text = told(capsys, str(source), "--out", str(out), "--yes")
    assert code == 0
    corpus = open_corpus(out)
    assert len(corpus) == 12
    assert corpus.study.panel == ("dry/plate_2/only", "wet/plate_2/only")
    assert not corpus.study.has_doses
    code, text = told(capsys, str(source), "--out", str(out), "--yes")
    assert (code, "nothing is overwritten" in text) == (2, True)


def test_what_is_skipped_is_named_and_nothing_is_written_past_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = theirs(tmp_path / "raw"), tmp_path / "corpus"
    (source / "notes.docx").write_text("words")
    (source / "loose.csv").write_text(lines(","))
    (source / "dry" / "p0" / "short.csv").write_text("\n".join(lines(",").splitlines()[:50]))
    code, text = told(capsys, str(source), "--out", str(out))
    assert code == 1
    assert "skip   notes.docx: no reader for .docx" in text
    assert "skip   loose.csv: its place says no group" in text
    assert "skip   dry/p0/short.csv: 50 wavelengths from 300 to 349 nm, most have 201" in text
    code, text = told(capsys, str(source), "--out", str(out), "--yes")
    assert (code, out.exists()) == (2, False)
    assert "3 files would be left out" in text
    code, text = told(capsys, str(source), "--out", str(out), "--yes", "--leave-out", "--json")
    assert (code, json.loads(text)["written"]) == (0, str(out))


@pytest.mark.parametrize(
    ("y_L", "x_L", "says", "options"),
    [
        (100 * Y, X, "if you know them: --units percent", ("--units", "percent")),
        (-np.log10(Y) * 2, X, "--units percent or absorbance", ("--units", "absorbance")),
        (Y, X / 1000, "micrometres? --axis um", ("--axis", "um", "--units", "reflectance")),
        (1 - Y, X, "say --units", ("--units", "absorptance")),
        (Y, 10 * X, "wavenumbers? --axis cm-1; or --axis angstrom", ("--axis", "angstrom", "--units", "reflectance")),
    ],
)
def test_units_and_axes_are_converted_only_when_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], y_L: np.ndarray, x_L: np.ndarray, says: str, options: tuple[str]
) -> None:
    source, out = theirs(tmp_path / "raw", y_L, x_L, head=""), tmp_path / "corpus"
    code, text = told(capsys, str(source), "--out", str(out), "--yes")
    assert code == 2
    assert says in text
    assert told(capsys, str(source), "--out", str(out), "--yes", *options)[0] == 0
    corpus = open_corpus(out)
    want = Y if "absorbance" not in options else Y**2
    assert np.abs(corpus.spectra_NL - want).max() < 0.1
    np.testing.assert_allclose(corpus.wavelength_nm, X, atol=1e-3)


def test_a_falling_axis_is_turned_and_another_grid_only_when_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = theirs(tmp_path / "raw", Y[::-1], X[::-1])
    code, text = told(capsys, str(source), "--out", str(tmp_path / "a"), "--yes")
    assert (code, "descending axis turned (12 spectra)" in text) == (0, True)
    assert np.abs(open_corpus(tmp_path / "a").spectra_NL - Y).max() < 0.02
    code, text = told(capsys, str(source), "--out", str(tmp_path / "b"), "--yes", "--resample", "310:490:0.5")
    assert code == 0
    assert len(open_corpus(tmp_path / "b").wavelength_nm) == 361
    code, text = told(capsys, str(source), "--out", str(tmp_path / "c"), "--resample", "250:490:1")
    assert (code, "nothing is extrapolated" in text) == (1, True)


def test_a_file_that_says_otherwise_is_not_believed_silently(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "raw" / "dry" / "p1"
    folder.mkdir(parents=True)
    (folder / "leaf.jdx").write_text(jcamp("ABSORBANCE"))
    code, text = told(capsys, str(tmp_path / "raw"), "--out", str(tmp_path / "a"))
    assert (code, "the file says that its values are absorbance; --units absorbance" in text) == (1, True)
    (folder / "leaf.jdx").write_text(jcamp("%R").replace("NANOMETERS", "1/CM"))
    code, text = told(capsys, str(tmp_path / "raw"), "--out", str(tmp_path / "a"))
    assert "its axis is in cm-1; --axis cm-1; the file says that its values are percent; --units percent" in text
    assert "nothing was written; there is no spectrum to take yet" in text
    (folder / "leaf.jdx").write_text(jcamp("TRANSMITTANCE"))
    code, text = told(capsys, str(tmp_path / "raw"), "--out", str(tmp_path / "a"))
    assert (code, "its values are transmittance; nothing here converts it" in text) == (1, True)


def test_units_that_nobody_says_are_told_as_assumed_and_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = theirs(tmp_path / "raw", head=""), tmp_path / "corpus"
    code, text = told(capsys, str(source), "--out", str(out))
    assert (code, "nobody says so. They lie in [0, 1] as reflectance does; absorbance and 1 - R may" in text) == (
        0,
        True,
    )
    assert f"--yes --units UNITS makes {out}" in text
    code, text = told(capsys, str(source), "--out", str(out), "--yes")
    assert (code, out.exists(), "nobody says what the values are" in text) == (2, False, True)
    (source / "study.yaml").write_text("name: theirs\nunits: reflectance\n")
    code, text = told(capsys, str(source), "--out", str(out), "--units", "percent")
    assert (code, "--units percent, but its study says reflectance" in text) == (2, True)
    code, text = told(capsys, str(source), "--out", str(out), "--yes")
    assert (code, "as study.yaml says" in text, f"next: gated run --corpus {out}" in text) == (0, True, True)
    assert "units: reflectance" in (out / "study.yaml").read_text()


def test_names_that_a_disk_would_make_one_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for pair, says in (
        (("dry", "Dry"), "'Dry' and 'dry' differ only in case"),
        (("dry ", "dry"), "'dry' and 'dry ' would become one name"),
        (("lo\u0308ss", "l\u00f6ss"), "would become one name"),
        (("a b", "a_b"), "'a b' and 'a_b' would become one name"),
    ):
        source = tmp_path / repr(pair)
        for name in pair:
            (source / name / "p1").mkdir(parents=True)
            (source / name / "p1" / "scan.csv").write_text(HEAD + lines(","))
        code, text = told(capsys, str(source), "--out", str(tmp_path / "out"))
        assert (code, says in text) == (2, True), text


def test_a_systems_own_files_are_no_reason_to_stop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = theirs(tmp_path / "raw")
    for name in (".DS_Store", "dry/._p0.csv", "dry/p0/Thumbs.db"):
        (source / name).write_bytes(b"\0\1")
    code, text = told(capsys, str(source), "--out", str(tmp_path / "out"))
    assert (code, "ignore .DS_Store, dry/._p0.csv, dry/p0/Thumbs.db" in text) == (0, True)


def test_links_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = theirs(tmp_path / "raw")
    (source / "more").symlink_to(source / "dry")
    (source / "gone.csv").symlink_to(tmp_path / "nowhere.csv")
    code, text = told(capsys, str(source), "--out", str(tmp_path / "out"))
    assert (code, "skip   gone.csv: a link that leads nowhere" in text, "skip   more: a link to a folder" in text) == (
        1, True, True,
    )  # fmt: skip


def test_percent_is_judged_by_most_files_and_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = theirs(tmp_path / "raw", 100 * Y, head=""), tmp_path / "out"
    dark = source / "dry" / "p0" / "0.csv"
    dark.write_text("\n".join(f"{x:g},{y * 3:.6f}" for x, y in zip(X, Y, strict=True)))  # below 1 %
    code, text = told(capsys, str(source), "--out", str(out))
    assert (code, text.count("skip "), "and 6 more: values are no fraction" in text) == (1, 1, True), text
    assert told(capsys, str(source), "--out", str(out), "--yes", "--leave-out")[0] == 2, (
        "a dark one is no fraction either"
    )
    code, text = told(capsys, str(source), "--out", str(out), "--yes", "--units", "percent")
    assert (code, "percent to fraction (12 spectra)" in text) == (0, True)


def test_a_dry_run_says_what_opening_would_refuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = theirs(tmp_path / "raw")
    (source / "dry" / "p0" / "2.csv").write_bytes((source / "dry" / "p0" / "1.csv").read_bytes())
    code, text = told(capsys, str(source), "--out", str(tmp_path / "out"))
    assert (code, "again, value by value" in text, str(tmp_path / "out") in text) == (2, True, True)
    (source / "dry" / "p0" / "2.csv").unlink()
    (source / "dry" / "p0" / "1.csv").unlink()
    code, text = told(capsys, str(source), "--out", str(tmp_path / "out"))
    assert (code, "no run can be judged on it yet: group dry/p0/only has one capture" in text) == (0, True), text
