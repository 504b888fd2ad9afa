"""Spectra in text: any usual encoding, separator and decimal mark; one spectrum, pairs of columns, or a table of many.

What cannot be told apart is refused by name: commas that both part columns and mark decimals, points beside commas.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from denoise_core.corpus.curves import Array as Numbers
from denoise_core.corpus.curves import Curve, NotASpectrum, verify_curve
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
_SPREAD = re.compile(r"(std|sd|s\.d\.|stdev|std.?dev|se|sem|err(or)?|var(iance)?|σ)\W*", re.IGNORECASE)
_X_UNITS = re.compile(r"#*\s*x.?(units?|einheit)\b", re.IGNORECASE)  # a line that says it, beside no column
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
    labels = _labels_before(table)
    return _down(table) if labels is None else _tidy(table, labels)


def _table(path: Path) -> _Table:
    lines = [line for line in text_of(path).replace("\0", "").splitlines() if line.strip()]
    if "#DATA" in (bare := [line.strip() for line in lines]):  # PerkinElmer: numbers in its head, units on own lines
        place, units = bare.index("#DATA"), bare.index("#GR") if "#GR" in bare else len(bare)
        lines = [
            "\t".join(bare[units + 1 : units + 3]),
            f"# y units: {' '.join(bare[units + 2 : units + 3])}",
            *lines[place + 1 :],
        ]
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


# ---- labels before the wavelengths -----------------------------------------------------------------------


def _labels_before(table: _Table) -> int | None:
    """How many columns of words (dates, names) stand before the numbers of most lines; None where none do."""
    counts = [next((c for c, cell in enumerate(row) if table.number(cell) is not None), len(row)) for row in table.rows]
    body = [count for row, count in zip(table.rows, counts, strict=True) if len(row) >= count + 2]
    usual = max(set(body), key=body.count, default=0)
    return usual if usual and body.count(usual) >= max(8, len(counts) // 2) else None


def _tidy(table: _Table, labels: int) -> list[Curve]:
    """A line a wavelength, its words before it: those that stay over many lines part the spectra and name them; those
    that change with every line, such as a time of day, are told as not read."""
    first = next(p for p, row in enumerate(table.rows) if any(table.number(cell) is not None for cell in row[labels:]))
    head = [row for row in table.rows[:first] if len(row) > labels]
    names = [*(head[-1] if head else ()), *[""] * labels]
    axis = next((c for c in range(labels, len(names)) if axis_of(names[c]) or _AXIS.match(names[c])), labels)
    last = max(place for place, row in enumerate(table.rows) if len(row) > axis + 1)
    body = table.rows[first : last + 1]
    if short := [place for place, row in enumerate(body) if len(row) < axis + 2]:
        raise _incomplete(first + short[0] + 1, axis + 2, body[short[0]])
    telling = [c for c in range(axis) if len({row[c] for row in body}) * 8 <= len(body)]
    parts: dict[tuple[str, ...], list[list[str]]] = {}
    for row in body:
        parts.setdefault(tuple(row[c] for c in telling), []).append(row[axis:])
    notes = [
        f"column {c + 1} ({names[c] or body[0][c]}) {'parts the spectra' if c in telling else 'not read'}: "
        f"it stands before the wavelengths"
        for c in range(axis)
    ]
    if last + 1 < len(table.rows):
        notes.append(f"lines below the numbers not read: {' '.join(table.rows[last + 1])[:40]!r} and on")
    above = [row[axis:] for row in head if len(row) > axis]
    return [
        replace(curve, levels=levels, label=label or curve.label, notes=(*notes, *curve.notes))
        for words, rows in parts.items()
        for levels, label in [_place({names[c].lower(): word for c, word in zip(telling, words, strict=True)})]
        for curve in _part(_Table([*above, *rows], table.comma, table.comments), "/".join(words))
    ]


def _place(named: Mapping[str, str]) -> tuple[tuple[str, ...], str]:
    """Levels where columns have their names, else a label that is a path."""
    levels = tuple(named[level] for level in LEVELS if level in named)
    return levels, "" if levels else next((word for word in named.values() if re.search(r"[/|]", word)), "")


def _part(table: _Table, words: str) -> list[Curve]:
    try:
        curves = _down(table)
        for curve in curves:
            verify_curve(curve)
    except NotASpectrum as error:  # lines are counted within the part
        raise NotASpectrum(f"of {words or 'all'}: {error.why}", error.detail) from error
    return curves


# ---- wavelengths down the page ---------------------------------------------------------------------------


def _down(table: _Table) -> list[Curve]:
    """Wavelengths down the first column and a spectrum in each of the others, or pairs of columns."""
    first = next((place for place, row in enumerate(table.rows) if table.numeric(row)), None)
    if first is None:
        raise NotASpectrum("no line of numbers that begins with its wavelength")
    end = next((p for p, row in enumerate(table.rows) if p > first and not _STARTS.match(row[0])), len(table.rows))
    below = [number for number, row in enumerate(table.rows[end:], start=end + 1) if table.numeric(row)]
    if below:
        told = " ".join(table.rows[end])[:40]
        raise NotASpectrum(f"line {end + 1} parts two blocks of numbers: {told!r}; give each a file of its own")
    head, body = table.rows[:first], table.rows[first:end]
    width = max(map(len, body))
    if width < 2:
        raise NotASpectrum("one column of numbers: a spectrum has its wavelengths and its values")
    keyed = [row for row in head if _X_UNITS.match(row[0]) and len(row) > 1]
    head = [[*row, *[""] * (width - len(row))][:width] for row in head if row not in keyed]
    values_RW = _values(table, body, first, width)
    axes = _axes(head, values_RW)
    said_x, said_y = _said(table, head, axes[0], table.rows[end:])
    said_x = said_x or next((found for row in keyed if (found := axis_of(" ".join(row[1:])))), "")
    notes = tuple(f"column {c + 1} of {width} not read: it stands before the wavelengths" for c in range(axes[0]))
    spreads = [c for c in range(axes[0] + 1, width) if any(_SPREAD.fullmatch(row[c].strip()) for row in head)]
    notes += tuple(f"column {c + 1} of {width} not read: a spread, no spectrum" for c in spreads)
    if end < len(table.rows):
        notes = (*notes, f"lines below the numbers not read: {' '.join(table.rows[end])[:40]!r} and on")
    if np.isnan(values_RW).any() and len(axes) == 1:
        row = int(np.isnan(values_RW).any(axis=1).argmax())
        raise _incomplete(first + row + 1, width, body[row])
    curves = []
    for column in range(axes[0] + 1, width):
        if column in axes:
            continue
        if column in spreads:
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


def _incomplete(line: int, width: int, row: list[str]) -> NotASpectrum:
    told = " ".join(row)[:40]
    return NotASpectrum(f"line {line} has no {width} numbers: {told!r}; export it again, or leave the file out")


def _values(table: _Table, body: list[list[str]], first: int, width: int) -> Numbers:
    """Numbers (R, W), NaN where a cell is empty; NotASpectrum at a cell that is something else."""
    if (plain_RW := _plain_values(table, body, width)) is not None:
        return plain_RW
    values_RW = np.full((len(body), width), np.nan)
    for place, row in enumerate(body):
        for column, cell in enumerate(row):
            value = table.number(cell)
            if cell and value is None:
                raise _incomplete(first + place + 1, width, row)
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
            raise NotASpectrum(f"line {line} has {len(row)} cells, the head {len(head)}; complete it, or leave it out")
        values = [table.number(row[column]) for column in numbers]
        if any(value is None for value in values):
            raise NotASpectrum(f"line {line} has a value that is no number; complete it, or leave the line out")
        words = [cell for cell, is_x in zip(row, wanted, strict=True) if not is_x]
        levels = tuple(row[names.index(level)] for level in LEVELS if level in names)
        levels = levels or (tuple(words) if 2 <= len(words) <= 3 else ())  # a slash in a cell parts nothing
        label = words[0] if len(words) == 1 else ""
        curves.append(Curve(x_L, np.array(values, float), label, "", levels, said_x, said_y))
    return curves
