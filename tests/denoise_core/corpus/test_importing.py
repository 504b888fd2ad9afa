"""`import`: text of every kind, JCAMP-DX and SPC; what is converted only when told; what is skipped and why."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from strangers import borrowed, write_files

from denoise_core.__main__ import main
from denoise_core.corpus.importing import Told, survey
from denoise_core.corpus.spectrum_files import NotASpectrum, read_curves
from denoise_core.corpus.store import Corpus, open_corpus

X = np.linspace(300, 500, 201)
Y = 0.2 + 0.05 * np.sin(X / 17)


@pytest.fixture(scope="module")
def mini(mini_corpus_root: Path) -> Corpus:
    return open_corpus(mini_corpus_root)


def lines(mark: str, comma: bool = False) -> str:
    rows = (f"{x:g}{mark}{y:.6f}" for x, y in zip(X, Y, strict=True))
    return "\n".join(row.replace(".", ",") if comma else row for row in rows) + "\n"


@pytest.mark.parametrize(
    "data",
    [
        lines(",").encode(),
        lines(";", comma=True).encode(),
        lines("\t", comma=True).encode("utf-8-sig"),
        ("Wellenlänge;Reflexion\n" + lines(";", comma=True)).encode("cp1252"),
        ("# made by a spectrometer\nnm\tR\n" + lines("\t")).encode("utf-16"),
        lines("  ", comma=True).encode(),
        ("\n".join(f'"{x:g}","{y:.6f}"'.replace(".", ",") for x, y in zip(X, Y, strict=True))).encode(),
        lines(";").replace("\n", "\r\n").encode(),
        lines(";").replace("\n", "\r").encode(),
        lines("\t", comma=True).encode("utf-16-le"),
        ("µ\t\n" + lines("\t", comma=True)).encode("utf-16-be"),
        lines(";").encode("utf-32"),
        ("sep=;\nnm;Reflexionsgrad;\n" + lines(";", comma=True).replace("\n", ";\n")).encode(),
        lines("|").encode(),
        ("Y Axis Mode: Reflectance\n>>>Begin<<<\n" + lines("\t") + ">>>End<<<\nUser: Ada\n").encode(),
        (",nm,R\n" + "\n".join(f"{i},{row}" for i, row in enumerate(lines(",").splitlines()))).encode(),
    ],
)
def test_text_of_every_kind_gives_the_same_spectrum(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "scan.csv"
    path.write_bytes(data)
    (curve,) = read_curves(path)
    np.testing.assert_allclose(curve.x_L, X)
    np.testing.assert_allclose(curve.y_L, Y, atol=1e-6)


@pytest.mark.parametrize("mark", [",", ".", "\u202f", "'"])
def test_thousands_are_read_with_either_decimal_mark(tmp_path: Path, mark: str) -> None:
    path, swap = tmp_path / "scan.csv", {",": mark, ".": "," if mark == "." else "."}
    rows = (f"{x + 900:,.1f};{y:.6f}" for x, y in zip(X, Y, strict=True))
    path.write_text("\n".join("".join(swap.get(letter, letter) for letter in row) for row in rows))
    (curve,) = read_curves(path)
    np.testing.assert_allclose(curve.x_L, X + 900)
    np.testing.assert_allclose(curve.y_L, Y, atol=1e-6)


def test_pairs_of_columns_are_a_spectrum_each(tmp_path: Path) -> None:
    head = "dry/p1/left,,dry/p1/right,,\nWavelength (nm),%R,Wavelength (nm),%R,\n"
    rows = [f"{x:g},{100 * y:.4f}," for x, y in zip(X[::-1], Y[::-1], strict=True)]
    second = [f"{row}" if number < 150 else ",," for number, row in enumerate(rows)]
    text = head + "\n".join(map("".join, zip(rows, second, strict=True))) + "\n\nMethod\nScan rate,600\n"
    (tmp_path / "cary.csv").write_text(text)
    left, right = read_curves(tmp_path / "cary.csv")
    assert (left.label, right.label) == ("dry/p1/left", "dry/p1/right")
    assert (left.declared_x, left.declared_y) == ("nm", "percent")
    assert (len(left.x_L), len(right.x_L), right.x_L[-1]) == (201, 150, 351)
    assert any("'Method'" in note for note in left.notes), "what stands below is said to be left out"


@pytest.mark.parametrize(
    ("head", "x", "y"),
    [
        ("Wellenlänge [µm];R [%]", "um", "percent"),
        ("Wavelength;Reflectance\nnm;%", "nm", "percent"),
        ("Wavenumber (cm-1);Abs", "cm-1", "absorbance"),
        ("nm;1 - R", "nm", ""),  # a number: it may be a name
        ("λ / Å;Absorptance", "angstrom", "absorptance"),
        ("nm;Counts", "nm", "counts"),
        ("nm;10% shade", "nm", ""),
        ("nm;dry/p1/left", "nm", ""),
    ],
)
def test_a_head_says_what_is_measured(tmp_path: Path, head: str, x: str, y: str) -> None:
    (tmp_path / "scan.csv").write_bytes((head + "\n" + lines(";")).encode("utf-8"))
    (curve,) = read_curves(tmp_path / "scan.csv")
    assert (curve.declared_x, curve.declared_y) == (x, y)


def test_tables_of_many_spectra_down_and_across(tmp_path: Path) -> None:
    down = tmp_path / "down.csv"
    rows = [f"{x:g};{y:.6f};{y / 2:.6f}".replace(".", ",") for x, y in zip(X, Y, strict=True)]
    down.write_text("nm;dry/p1/left/1;dry/p1/left/2\n" + "\n".join(rows))
    assert [curve.label for curve in read_curves(down)] == ["dry/p1/left/1", "dry/p1/left/2"]
    rows = [";".join([f"{x:g}", *[f"{y:.6f}"] * 9]) for x, y in zip(X, Y, strict=True)]
    down.write_text("nm;" + ";".join(f"X{number}" for number in range(1, 10)) + "\n" + "\n".join(rows))
    assert [curve.label for curve in read_curves(down)] == [f"X{number}" for number in range(1, 10)], "no wavelengths"
    across = tmp_path / "across.tsv"
    head = "treatment\tsample\tangle\tday\t" + "\t".join(f"{x:g}" for x in X)
    across.write_text(head + "\ndry\t01/05/2026\tleft\t3\t" + "\t".join(f"{y:.6f}" for y in Y).replace(".", ",") + "\n")
    (curve,) = read_curves(across)
    assert curve.levels == ("dry", "01/05/2026", "left"), "a slash in a name parts nothing"
    text = across.read_text()
    for name in ("{:g} nm", "X{:g}", "wl_{:g}"):
        heads = "\t".join(name.format(x) for x in X)
        across.write_text(text.replace(head, head.split("\t300\t")[0] + "\t" + heads))
        (curve,) = read_curves(across)
        np.testing.assert_allclose(curve.x_L, X)
    across.write_text(text.replace("treatment\tsample\tangle\tday", "Behandlung\tProbe\tWinkel\tTag"))
    assert read_curves(across)[0].levels == (), "four columns of other names: which they are is not said"
    across.write_text(text.replace("treatment\tsample\tangle\tday", "Behandlung\tProbe\tWinkel").replace("\t3\t", "\t"))
    assert read_curves(across)[0].levels == ("dry", "01/05/2026", "left")
    np.testing.assert_allclose(curve.y_L, Y, atol=1e-6)


def jcamp(yunits: str = "REFLECTANCE", npoints: int = 201) -> str:
    pairs = "\n".join(f"{x:g}, {y:.6f}" for x, y in zip(X[::-1], Y[::-1], strict=True))
    return (
        "##TITLE=a leaf\n##JCAMP-DX=4.24\n##DATA TYPE=UV-VIS SPECTRUM\n##XUNITS=NANOMETERS\n"
        f"##YUNITS={yunits}\n##XFACTOR=1\n##YFACTOR=1\n##FIRSTX=500\n##LASTX=300\n##NPOINTS={npoints}\n"
        f"##XYPOINTS=(XY..XY)\n{pairs}\n##END=\n"
    )


def test_every_block_of_a_jcamp_file_is_read(tmp_path: Path) -> None:
    path, two = tmp_path / "leaf.jdx", jcamp() + jcamp().replace("a leaf", "another")
    for text in (two, f"##TITLE=all\n##DATA TYPE=LINK\n##BLOCKS=2\n{two}##END=\n", "\ufeff" + two):
        for encoding in ("utf-8", "utf-16"):
            path.write_text(text, encoding=encoding)
            assert [curve.title for curve in read_curves(path)] == ["a leaf", "another"]
    head, data = jcamp().split("(XY..XY)")
    path.write_text(head + "(XY..XY)" + data.replace(", ", "; ").replace(".", ","))
    (curve,) = read_curves(path)
    np.testing.assert_allclose(curve.y_L[::-1], Y, atol=1e-6)


def spc(exponent: int) -> bytes:
    """An SPC file by the published layout: 512 bytes of head, 32 of the sub-file's, then its values."""
    head = struct.pack(
        "<BBBbIddIBBBBI9s9sH8f130s30sIIBBHf48sfIfB187s",
        0, 0x4B, 0, exponent, len(X), X[0], X[-1], 1, 3, 2, 0, 0, 0, b"", b"", 0, *[0.0] * 8, b"a leaf", b"", 0, 0,
        0, 0, 0, 0.0, b"", 0.0, 0, 0.0, 0, b"",
    )  # fmt: skip
    sub = struct.pack("<BbHfffIIf4s", 0, exponent, 0, 0.0, 0.0, 0.0, 0, 0, 0.0, b"")
    values = Y.astype("<f4") if exponent == -128 else (Y / 2.0**exponent * 2.0**32).astype("<i4")
    assert (len(head), len(sub)) == (512, 32)
    return head + sub + values.tobytes()


def test_jcamp_and_spc_through_their_own_readers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "leaf.jdx").write_text(jcamp())
    (curve,) = read_curves(tmp_path / "leaf.jdx")
    assert (curve.declared_x, curve.declared_y) == ("nm", "reflectance")
    np.testing.assert_allclose(np.interp(X, curve.x_L[::-1], curve.y_L[::-1]), Y, atol=1e-6)

    for exponent in (-128, 0):  # values as floats, and as the format's fixed-point numbers
        (tmp_path / "leaf.spc").write_bytes(spc(exponent))
        (curve,) = read_curves(tmp_path / "leaf.spc")
        assert (curve.declared_x, curve.declared_y) == ("nm", "absorbance")
        np.testing.assert_allclose(curve.x_L, X)
        np.testing.assert_allclose(curve.y_L, Y, atol=1e-6)
    assert not caplog.records, "a date that is not there is nobody's business here"


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.csv", "", "empty"),
        ("a.csv", "nm;R\n300;0,1\n301;nothing\n", "line 3 has no 2 numbers"),
        ("a.csv", "300\n301\n", "one column"),
        ("a.csv", "300;0,1\n301;0,2\n", "2 wavelengths"),
        ("a.csv", lines(",").replace("400,", "300.5,"), "neither rise nor fall throughout .399, then 300.5"),
        ("a.csv", lines(",").replace("400,", "399,"), "a wavelength stands twice.* .399"),
        ("a.csv", lines(";") + "Scan 2\n" + lines(";"), "line 202 parts two blocks of numbers: 'Scan 2'"),
        ("a.csv", lines(",", comma=True), "commas both part the columns and mark decimals"),
        ("a.csv", lines(";").replace(";0.", ";0,").replace("300;", "300.0;"), "commas and points both mark decimals"),
        ("a.csv", lines(";").replace("400;0.", "400;0_"), "line 101 has no 2 numbers"),
        (
            "a.csv",
            "day,nm,R\n1 May," + lines(",").replace("\n", "\n1 May,")[:-6],
            "no line of numbers that",
        ),
        ("a.csv", "day,nm,R\n" + lines(",").replace("\n", "\n1 May,"), "line 3 has no .* numbers: .1 May 301"),
        ("a.jdx", "##TITLE=a\n##NTUPLES=NMR\n##END=\n", "NTUPLES: export each spectrum"),
        ("a.xlsx", "PK", "a workbook: export its sheet as CSV"),
        ("a.csv", lines(",").replace("0.2", "nan", 1), "no"),
        ("a.jdx", jcamp(npoints=150), "NPOINTS is 150"),
        ("a.jdx", "##TITLE=empty\n##END=\n", "JCAMP-DX"),
        ("a.spc", "no such thing", "not a SPC file"),
        ("notes.docx", "words", "no reader for .docx"),
    ],
)
def test_what_is_no_spectrum_says_why(tmp_path: Path, name: str, text: str, says: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(NotASpectrum, match=says):
        read_curves(tmp_path / name)


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
        (1 - Y, X, "say --units reflectance", ("--units", "absorptance")),
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
    assert f"--yes --units reflectance makes {out}" in text
    code, text = told(capsys, str(source), "--out", str(out), "--yes")
    assert (code, out.exists(), "nobody says what the values are" in text) == (2, False, True)
    (source / "study.yaml").write_text("name: theirs\nunits: reflectance\n")
    code, text = told(capsys, str(source), "--out", str(out), "--units", "percent")
    assert (code, "--units percent, but its study says reflectance" in text) == (2, True)
    code, text = told(capsys, str(source), "--out", str(out), "--yes")
    assert (code, "as study.yaml says" in text, f"next: gated run --corpus {out}" in text) == (0, True, True)
    assert "units: reflectance" in (out / "study.yaml").read_text()


def test_noise_that_falls_with_the_values_tells_one_minus_r(mini: Corpus, tmp_path: Path) -> None:
    groups = [(*place, 1 - spectra) for *place, spectra in borrowed(mini, {"dry": 1, "wet": 3}, 3, (5,), every=4)]
    source = write_files(tmp_path / "raw", iter(groups), mini.wavelength_nm[::4], line="{:g},{:.6f}")
    assert "are they 1 - R? --units absorptance" in survey(source, Told()).units
    assert "1 - R?" not in survey(source, Told("absorptance")).units


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
