"""Spectra as laboratories keep them: text of any decimal mark and encoding, JCAMP-DX, SPC. Nothing is converted."""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class NotASpectrum(ValueError):
    """Why a file is not taken, in a few words."""


@dataclass(frozen=True, eq=False)
class Curve:
    """One measured spectrum: wavelengths (L,) and values (L,) as they stand in the file, in its order.

    `label`: of a table's column or row, or of the trace in a file of several. `declared_x`, `declared_y`: what the file
    itself says the axis and the values are: nm, um, absorbance, percent, reflectance; empty where it says nothing.
    """

    x_L: Array
    y_L: Array
    label: str = ""
    declared_x: str = ""
    declared_y: str = ""


def read_curves(path: Path) -> list[Curve]:
    """Every spectrum of a file. NotASpectrum says why there is none."""
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise NotASpectrum(f"no reader for {path.suffix or 'a file without a suffix'} ({', '.join(READERS)} are read)")
    curves = reader(path)
    for curve in curves:
        if len(curve.x_L) != len(curve.y_L) or len(curve.x_L) < 8:
            raise NotASpectrum(f"{len(curve.x_L)} wavelengths and {len(curve.y_L)} values: no spectrum")
        if not (np.isfinite(curve.x_L).all() and np.isfinite(curve.y_L).all()):
            raise NotASpectrum("a wavelength or a value is no finite number")
        steps = np.diff(curve.x_L)
        if not ((steps > 0).all() or (steps < 0).all()):
            raise NotASpectrum("the wavelengths neither rise nor fall throughout")
    return curves


# ---- text ------------------------------------------------------------------------------------------------


def _text(path: Path) -> str:
    """A file's text by its byte order mark, else UTF-8, else Windows-1252."""
    data = path.read_bytes()
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if data.startswith(mark):
            return data.decode(encoding)
    if data[1:2] == b"\0" or data[:1] == b"\0":  # UTF-16 without its mark
        return data.decode("utf-16-le" if data[1:2] == b"\0" else "utf-16-be")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def _separator(lines: list[str]) -> str:
    """What parts the columns: a semicolon or a tab where there is one, else a comma, else blanks."""
    for mark in (";", "\t"):
        if sum(mark in line for line in lines) * 2 > len(lines):
            return mark
    if any(re.search(r"\d,\s*-?[\d.]", line) for line in lines) and not _comma_is_decimal(lines):
        return ","
    return ""


def _comma_is_decimal(lines: list[str]) -> bool:
    """Whether commas stand in numbers that blanks part: `300,5 0,23`."""
    return all(
        re.fullmatch(r"\s*-?\d+(,\d+)?([eE][-+]?\d+)?(\s+-?\d+(,\d+)?([eE][-+]?\d+)?)+\s*", line) for line in lines
    )


def _number(cell: str, comma: bool) -> float | None:
    text = cell.strip().strip('"').replace(" ", "")
    if comma:
        text = text.replace(",", ".")
    try:
        return float(text)
    except ValueError:
        return None


def _table(path: Path) -> list[list[str]]:
    lines = [line for line in _text(path).splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not lines:
        raise NotASpectrum("the file is empty")
    body = [line for line in lines if re.match(r'\s*"?[-+]?[\d.,]', line)] or lines
    mark = _separator(body)
    rows = csv.reader(lines, delimiter=mark) if mark else (line.split() for line in lines)
    return [[cell.strip() for cell in row] for row in rows]


def _read_text(path: Path) -> list[Curve]:
    """One spectrum in two columns, or a table: wavelengths down the first column, or along the head of the table."""
    rows = _table(path)
    cells = [cell for row in rows for cell in row]
    comma = not any(re.fullmatch(r"[-+]?\d+\.\d+([eE][-+]?\d+)?", cell) for cell in cells) and any(
        re.fullmatch(r"[-+]?\d+,\d+([eE][-+]?\d+)?", cell) for cell in cells
    )
    head = rows[0]
    numbers = [_number(cell, comma) is not None for cell in head]
    if sum(numbers) >= 8 and not all(numbers):
        return _across(rows, numbers, comma)
    return _down(rows, comma)


def _down(rows: list[list[str]], comma: bool) -> list[Curve]:
    """Wavelengths down the first column, a spectrum in each of the others."""
    first = next((i for i, row in enumerate(rows) if all(_number(cell, comma) is not None for cell in row)), None)
    if first is None:
        raise NotASpectrum("no line of numbers")
    width = len(rows[first])
    values: list[list[float]] = []
    for number, row in enumerate(rows[first:], start=first + 1):
        read = [_number(cell, comma) for cell in row]
        if len(row) != width or any(value is None for value in read):
            raise NotASpectrum(f"line {number} has no {width} numbers: {' '.join(row)[:40]!r}")
        values.append([value for value in read if value is not None])
    if width < 2:
        raise NotASpectrum("one column of numbers: a spectrum has its wavelengths and its values")
    table = np.array(values, dtype=np.float64)
    labels = rows[first - 1][1:] if first and len(rows[first - 1]) == width else [""] * (width - 1)
    return [Curve(table[:, 0], table[:, column + 1], label) for column, label in enumerate(labels)]


def _across(rows: list[list[str]], is_wavelength: list[bool], comma: bool) -> list[Curve]:
    """Wavelengths along the head, a spectrum a row; the cells that are none name it."""
    head = rows[0]
    x_L = np.array([_number(cell, comma) for cell, wanted in zip(head, is_wavelength, strict=True) if wanted], float)
    curves = []
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(head):
            raise NotASpectrum(f"line {number} has {len(row)} cells, the head {len(head)}")
        values = [_number(cell, comma) for cell, wanted in zip(row, is_wavelength, strict=True) if wanted]
        if any(value is None for value in values):
            raise NotASpectrum(f"line {number} has a value that is no number")
        named = {
            name.strip().lower(): cell
            for name, cell, wanted in zip(head, row, is_wavelength, strict=True)
            if not wanted
        }
        parts = [named[level] for level in ("treatment", "sample", "angle", "replicate") if level in named]
        curves.append(Curve(x_L, np.array(values, float), "/".join(parts or named.values())))
    return curves


# ---- instruments' formats --------------------------------------------------------------------------------

_X = {"NANOMETERS": "nm", "NM": "nm", "MICROMETERS": "um", "UM": "um", "XNMETR": "nm", "XUMETR": "um", "XARB": ""}
_Y = {
    "ABSORBANCE": "absorbance",
    "YABSRB": "absorbance",
    "YLOGDR": "absorbance",
    "PERCENT": "percent",
    "YPERCNT": "percent",
    "%R": "percent",
    "%T": "percent",
    "REFLECTANCE": "reflectance",
    "YREFLEC": "reflectance",
    "TRANSMITTANCE": "reflectance",
    "YTRANS": "reflectance",
}


def _declared(table: dict[str, str], word: str) -> str:
    """What a file's own word means here; the word itself where it means nothing known."""
    return table.get(word.strip().upper(), word.strip().lower())


def _read_jcamp(path: Path) -> list[Curve]:
    import jcamp

    told = io.StringIO()
    with contextlib.redirect_stdout(told):  # the reader prints what its checks find
        content: dict[str, Any] = jcamp.readfile(str(path))
    if complaint := told.getvalue().strip():
        raise NotASpectrum(f"JCAMP-DX: {complaint.splitlines()[0]}")
    blocks = content.get("children") or [content]
    curves = []
    for number, block in enumerate(blocks):
        if "x" not in block or not len(block["x"]):
            raise NotASpectrum("JCAMP-DX without XYDATA or XYPOINTS")
        x_L = np.asarray(block["x"], float)
        wanted = block.get("npoints")
        if wanted and int(wanted) != len(block["y"]):
            raise NotASpectrum(f"JCAMP-DX: NPOINTS is {wanted}, {len(block['y'])} values stand there")
        declared_x, declared_y = str(block.get("xunits", "")), str(block.get("yunits", ""))
        curves.append(
            Curve(
                x_L,
                np.asarray(block["y"], float),
                str(number) if len(blocks) > 1 else "",
                _declared(_X, declared_x) if declared_x else "",
                _declared(_Y, declared_y) if declared_y else "",
            )
        )
    return curves


def _read_spc(path: Path) -> list[Curve]:
    from spc_io import SPC

    with open(path, "rb") as handle:
        content = SPC.from_bytes_io(handle)
    axis, values = _declared(_X, content.xtype), _declared(_Y, content.ytype)
    return [
        Curve(
            np.asarray(sub.xarray, float),
            np.asarray(sub.yarray, float),
            str(number) if len(content) > 1 else "",
            axis,
            "" if values == "yarb" else values,
        )
        for number, sub in enumerate(content)
    ]


def _guarded(reader: Callable[[Path], list[Curve]], what: str) -> Callable[[Path], list[Curve]]:
    """A library's own reader: whatever it stumbles over says that the file is none of its kind."""

    def read(path: Path) -> list[Curve]:
        try:
            return reader(path)
        except NotASpectrum:
            raise
        except Exception as error:  # foreign bytes raise anything
            raise NotASpectrum(f"not a {what} file ({type(error).__name__}: {error})"[:160]) from error

    return read


READERS: dict[str, Callable[[Path], list[Curve]]] = {
    **dict.fromkeys((".csv", ".tsv", ".txt", ".dat", ".asc"), _guarded(_read_text, "text")),
    **dict.fromkeys((".jdx", ".dx", ".jcm"), _guarded(_read_jcamp, "JCAMP-DX")),
    ".spc": _guarded(_read_spc, "SPC"),
}
