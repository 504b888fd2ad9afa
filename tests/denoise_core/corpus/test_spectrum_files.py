"""The readers of instrument files: text of every kind, JCAMP-DX and SPC; and why a file is no spectrum."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from instrument_text import X, Y, jcamp, lines

from denoise_core.corpus.spectrum_files import NotASpectrum, read_curves


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


def labelled(*words: str) -> str:
    """Lines of a spectrum with the same words before each."""
    return "".join(f"{','.join(words)},{line}\n" for line in lines(",").splitlines())


def test_words_before_the_wavelengths_part_the_spectra_or_are_told(tmp_path: Path) -> None:
    path = tmp_path / "tidy.csv"
    path.write_text("sample,treatment,angle,nm,R\n" + "".join(labelled(f"p{n}", "dry", "left") for n in (1, 2)))
    assert [curve.levels for curve in read_curves(path)] == [("dry", "p1", "left"), ("dry", "p2", "left")]
    path.write_text(
        "".join(f"2026-05-01,12:{n // 60:02}:{n % 60:02},{row}\n" for n, row in enumerate(lines(",").splitlines()))
    )
    (curve,) = read_curves(path)
    np.testing.assert_allclose(curve.y_L, Y, atol=1e-6)
    day, time = curve.notes
    assert day == "column 1 (2026-05-01) parts the spectra: it stands before the wavelengths"
    assert time == "column 2 (12:00:00) not read: it stands before the wavelengths"
    path.write_text("id,nm,R\n" + labelled("dry/p1/left") + labelled("dry/p2/left") + "made by ada\n")
    found = read_curves(path)
    assert [curve.label for curve in found] == ["dry/p1/left", "dry/p2/left"]
    assert "lines below the numbers not read: 'made by ada' and on" in found[0].notes


def test_heads_with_numbers_and_columns_of_spreads(tmp_path: Path) -> None:
    perkin = "PE UV  SPECTRUM  ASCII  PEDS\n-1\nleaf1.sp\n#HDR\n-1\n#GR\nnm\n%R\n1.000000\n201\n#DATA\n" + lines("\t")
    jasco = "TITLE\tleaf1\nDELTAX\t1\nXUNITS\tNANOMETERS\nYUNITS\t%R\nFIRSTX\t300.0\nXYDATA\n" + lines("\t")
    for text in (perkin, jasco):
        (tmp_path / "leaf.asc").write_text(text)
        (curve,) = read_curves(tmp_path / "leaf.asc")
        assert (curve.declared_x, curve.declared_y) == ("nm", "percent")
        np.testing.assert_allclose(curve.y_L, Y, atol=1e-6)
    (tmp_path / "mean.csv").write_text("nm,mean,sd\n" + lines(",").replace("\n", ",0.001\n"))
    (curve,) = read_curves(tmp_path / "mean.csv")
    assert curve.notes == ("column 3 of 3 not read: a spread, no spectrum",)


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
        ("a.csv", "day,nm,R\n" + labelled("1 May").replace("1 May,3", "3", 1), "line 2 has no 3 numbers: .300 0"),
        ("a.csv", "id,nm,R\n" + labelled("a") + labelled("a"), "of a: the wavelengths neither rise nor fall"),
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
