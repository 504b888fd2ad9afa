"""Spectra in text: any usual encoding, separator and decimal mark; one spectrum, pairs of columns, or a table of many.

What cannot be told apart is refused by name: commas that both part columns and mark decimals, points beside commas.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from denoise_core.corpus.curves import Array as Numbers
from denoise_core.corpus.curves import Curve, NotASpectrum
from denoise_core.corpus.units import axis_of, values_of

LEVELS = ("treatment", "sample", "angle")
_EXPONENT = r"([eEdD][-+]?\d+)?"
_POINT = re.compile(rf"[-+]?(\d+\.\d*|\.\d+|\d{{1,3}}(,\d{{3}})+\.\d+){_EXPONENT}")
_COMMA = re.compile(rf"[-+]?(\d+,\d*|,\d+|\d{{1,3}}(\.\d{{3}})+,\d+){_EXPONENT}")
_NUMBER = re.compile(rf"[-+]?(\d+\.?\d*|\.\d+){_EXPONENT}")
_THOUSANDS = re.compile(r"(?<=\d)['’\s\u00a0\u2009\u202f](?=\d{3})")
_STARTS = re.compile(r"\s*\"?[-+−]?[.,]?\d")
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_AXIS = re.compile(r"wave|wellen|lambda|λ", re.IGNORECASE)
_SAYS_VALUES = re.compile(r"(y.?(axis|units?|mode|format|einheit)|ordinate|photometric.?mode)\W+(.+)", re.IGNORECASE)


def text_of(path: Path) -> str:
    """A file's text by its byte order mark, else as UTF-16 where every other byte is zero, else UTF-8, else cp1252."""
    return _decoded(path.read_bytes()).lstrip("\ufeff")


def _decoded(data: bytes) -> str:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data.decode(encoding)
    if data[:400].count(0) * 3 > len(data[:400]):
        return data.decode("utf-16-be" if data[:400:2].count(0) > data[1:400:2].count(0) else "utf-16-le")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


@dataclass(frozen=True)
class _Table:
    """Cells of a file's lines, `comma`: whether it marks decimals; comments stand apart."""

    rows: list[list[str]]
    comma: bool
    comments: list[str]

    def number(self, cell: str) -> float | None:
        return _number(cell, self.comma)

    def wavelength(self, cell: str) -> float | None:
        """The wavelength that a head names: `300`, `300 nm`, or `X300` as R writes it; `X1` is a column's number."""
        return self.number(re.sub(r"^(X|wl_?|λ)(?=\d{3})|\s*nm$", "", cell))

    def numeric(self, row: Sequence[str]) -> bool:
        """Whether a line holds numbers alone, its first cell one of them."""
        return self.number(row[0]) is not None and all(not cell or self.number(cell) is not None for cell in row)


def read_text(path: Path) -> list[Curve]:
    """Every spectrum of a text file. NotASpectrum says why there is none."""
    table = _table(path)
    for place, row in enumerate(table.rows):
        if table.numeric(row):
            break
        wanted = [table.wavelength(cell) is not None for cell in row]
        if sum(wanted) >= 8:
            return _across(table, place, wanted)
    return _down(table)


def _table(path: Path) -> _Table:
    lines = [line for line in text_of(path).replace("\0", "").splitlines() if line.strip()]
    comments = [line.lstrip(" #%;!/") for line in lines if line.lstrip().startswith("#")]
    lines = [line for line in lines if not line.lstrip().startswith("#") and not re.fullmatch(r"sep=.", line.strip())]
    if not lines:
        raise NotASpectrum("the file is empty")
    body = [line for line in lines if _STARTS.match(line)] or lines
    mark = _separator(body)
    cells = csv.reader(lines, delimiter=mark) if mark else (line.split() for line in lines)
    rows = [_without_tail([cell.strip() for cell in row]) for row in cells]
    return _Table([row for row in rows if row], _decimals(rows), comments)


def _separator(lines: list[str]) -> str:
    """What parts the columns: a semicolon, a tab or a bar where most lines have one, else a comma, else blanks."""
    for mark in (";", "\t", "|"):
        if sum(mark in line for line in lines) * 2 > len(lines):
            return mark
    quoted = sum(line.count('"') >= 4 for line in lines) * 2 > len(lines)
    if not quoted and _commas_do_both(lines):
        raise NotASpectrum("commas both part the columns and mark decimals: export with semicolons or tabs", lines[0])
    if any(re.search(r'\d"?,\s*"?-?[\d.]', line) for line in lines) and not _comma_is_decimal(lines):
        return ","
    return ""


def _commas_do_both(lines: list[str]) -> bool:
    """Whether every line is three or four whole numbers: `300,5,0,23`, or `300,0,23` where they begin with 0 or 1."""
    cells = [line.strip().split(",") for line in lines]
    if not all(3 <= len(row) <= 4 and all(re.fullmatch(r"-?\d+", cell) for cell in row) for row in cells):
        return False
    return any(len(row) == 4 for row in cells) or len({row[1] for row in cells}) <= 2


def _comma_is_decimal(lines: list[str]) -> bool:
    """Whether commas stand in numbers that blanks part: `300,5 0,23`."""
    one = rf"-?\d+(,\d+)?{_EXPONENT}"
    return all(re.fullmatch(rf"\s*{one}(\s+{one})+\s*", line) for line in lines)


def _decimals(rows: list[list[str]]) -> bool:
    """Whether a comma marks decimals; NotASpectrum where points do so as well."""
    with_mark = [[cell for cell in row if "," in cell or "." in cell] for row in rows if len(row) > 1]
    if not any("," in cell for row in with_mark for cell in row):  # a lone number in a head is no measurement
        return False
    cells = [cell for row in with_mark for cell in map(_bare, row) if _STARTS.match(cell)]
    point = next((cell for cell in cells if "." in cell and _POINT.fullmatch(cell)), None)
    comma = next((cell for cell in cells if _COMMA.fullmatch(cell)), None)
    if comma is not None and point is not None:
        raise NotASpectrum("commas and points both mark decimals: export with one of them", f"{point} and {comma}")
    return comma is not None


def _without_tail(row: list[str]) -> list[str]:
    """A line without the empty cells at its end, which many instruments write."""
    while row and not row[-1]:
        row = row[:-1]
    return row


def _bare(cell: str) -> str:
    """A number without what only people need: quotes, blanks and apostrophes between thousands, a long minus."""
    return _THOUSANDS.sub("", cell.strip().strip('"').strip()).replace("−", "-")


def _number(cell: str, comma: bool) -> float | None:
    """A cell's number, its thousands' marks left out; None where it is none (`1_000`, `nan` and `inf` are none)."""
    text = _bare(cell)
    if (_COMMA if comma else _POINT).fullmatch(text):
        text = text.replace(".", "").replace(",", ".") if comma else text.replace(",", "")
    return float(text.replace("d", "e").replace("D", "e")) if _NUMBER.fullmatch(text) else None


# ---- wavelengths down the page ---------------------------------------------------------------------------


def _down(table: _Table) -> list[Curve]:
    """Wavelengths down the first column and a spectrum in each of the others, or pairs of columns."""
    first = next((place for place, row in enumerate(table.rows) if table.numeric(row)), None)
    if first is None:
        raise NotASpectrum("no line of numbers that begins with its wavelength")
    end = next((p for p, row in enumerate(table.rows) if p > first and not _STARTS.match(row[0])), len(table.rows))
    below = [number for number, row in enumerate(table.rows[end:], start=end + 1) if table.numeric(row)]
    if below:
        raise NotASpectrum(f"line {end + 1} parts two blocks of numbers: {' '.join(table.rows[end])[:40]!r}")
    head, body = table.rows[:first], table.rows[first:end]
    width = max(map(len, body))
    if width < 2:
        raise NotASpectrum("one column of numbers: a spectrum has its wavelengths and its values")
    head = [[*row, *[""] * (width - len(row))][:width] for row in head]
    values_RW = _values(table, body, first, width)
    axes = _axes(head, values_RW)
    said_x, said_y = _said(table, head, axes[0], table.rows[end:])
    notes = tuple(f"column {c + 1} of {width} not read: it stands before the wavelengths" for c in range(axes[0]))
    if end < len(table.rows):
        notes = (*notes, f"lines below the numbers not read: {' '.join(table.rows[end])[:40]!r} and on")
    if np.isnan(values_RW).any() and len(axes) == 1:
        row = int(np.isnan(values_RW).any(axis=1).argmax())
        raise NotASpectrum(f"line {first + row + 1} has no {width} numbers: {' '.join(body[row])[:40]!r}")
    curves = []
    for column in range(axes[0] + 1, width):
        if column in axes:
            continue
        axis = max(one for one in axes if one < column)
        pair_R2 = values_RW[:, [axis, column]]
        whole_R = ~np.isnan(pair_R2).all(axis=1)
        named = _label(head, column) or (_label(head[:-1], axis) if len(axes) > 1 else "")
        (x_L, y_L), values = pair_R2[whole_R].T, _said_of(head, column) or said_y
        curves.append(Curve(x_L, y_L, named, declared_x=said_x, declared_y=values, notes=notes))
    if not curves:
        raise NotASpectrum("no column of values beside the wavelengths")
    return curves


def _values(table: _Table, body: list[list[str]], first: int, width: int) -> Numbers:
    """Numbers (R, W), NaN where a cell is empty; NotASpectrum at a cell that is something else."""
    if (plain_RW := _plain_values(table, body, width)) is not None:
        return plain_RW
    values_RW = np.full((len(body), width), np.nan)
    for place, row in enumerate(body):
        for column, cell in enumerate(row):
            value = table.number(cell)
            if cell and value is None:
                told = " ".join(row)[:40]
                raise NotASpectrum(f"line {first + place + 1} has no {width} numbers: {told!r}")
            values_RW[place, column] = np.nan if value is None else value
    return values_RW


def _plain_values(table: _Table, body: list[list[str]], width: int) -> Numbers | None:
    """The same at once, where every cell is there and no number has more to it than its decimals."""
    cells = [cell for row in body for cell in row]
    text = " ".join(cells)
    if len(cells) != len(body) * width or not re.fullmatch(r"[-+\d,eE ]*" if table.comma else r"[-+\d.eE ]*", text):
        return None
    try:
        return np.array(text.replace(",", ".").split(" "), dtype=np.float64).reshape(len(body), width)
    except ValueError:
        return None


def _axes(head: list[list[str]], values_RW: Numbers) -> list[int]:
    """Columns of wavelengths: those whose heads say so, else the first and those that repeat it."""
    columns = range(values_RW.shape[1])
    said = [c for c in columns if any(axis_of(row[c]) or _AXIS.match(row[c]) for row in head)]
    return said or [c for c in columns if np.array_equal(values_RW[:, c], values_RW[:, 0])]


def _label(head: list[list[str]], column: int) -> str:
    """The cell that names a column: the lowest that is no unit."""
    cells = [row[column] for row in reversed(head) if row[column]]
    return next((cell for cell in cells if not _is_unit(cell)), "")


def _is_unit(cell: str) -> bool:
    """Whether a head says what is measured rather than whose it is: words alone, no number and no path."""
    return not re.search(r"[\d/\\]", cell) and bool(values_of(cell) or axis_of(cell))


def _said(table: _Table, head: list[list[str]], axis: int, below: Sequence[list[str]] = ()) -> tuple[str, str]:
    """What a file says of its axis, and in lines of their own of all its values."""
    said_x = next((found for row in reversed(head) if row and (found := axis_of(row[axis]))), "")
    lines = [*table.comments, *(" ".join(row) for row in [*head, *below])]
    keys = [told[3] for line in lines if (told := _SAYS_VALUES.search(line))]
    return said_x, next((found for text in keys if (found := values_of(text))), "")


def _said_of(head: list[list[str]], column: int) -> str:
    """What the head of a column says that its values are."""
    cells = [row[column] for row in reversed(head) if _is_unit(row[column])]
    return next((found for cell in cells if (found := values_of(cell))), "")


# ---- wavelengths along the head --------------------------------------------------------------------------


def _across(table: _Table, place: int, wanted: list[bool]) -> list[Curve]:
    """Wavelengths along a head, a spectrum a row; the cells that are none name it."""
    head, numbers = table.rows[place], [column for column, is_x in enumerate(wanted) if is_x]
    names = [cell.strip().lower() for cell in head]
    x_L = np.array([table.wavelength(head[column]) for column in numbers], float)
    said_x, said_y = _said(table, table.rows[:place], 0)
    curves = []
    for line, row in enumerate(table.rows[place + 1 :], start=place + 2):
        if len(row) != len(head):
            raise NotASpectrum(f"line {line} has {len(row)} cells, the head {len(head)}")
        values = [table.number(row[column]) for column in numbers]
        if any(value is None for value in values):
            raise NotASpectrum(f"line {line} has a value that is no number")
        words = [cell for cell, is_x in zip(row, wanted, strict=True) if not is_x]
        levels = tuple(row[names.index(level)] for level in LEVELS if level in names)
        levels = levels or (tuple(words) if 2 <= len(words) <= 3 else ())  # a slash in a cell parts nothing
        label = words[0] if len(words) == 1 else ""
        curves.append(Curve(x_L, np.array(values, float), label, "", levels, said_x, said_y))
    return curves
