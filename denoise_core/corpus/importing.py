"""A laboratory's own files, looked through: what would be taken into a corpus, renamed, skipped, and why.

Nothing is converted unless told: percent, absorbance, another axis and another grid are named with the option that
converts them. A descending axis is turned. What is skipped is listed; what nobody said is said to be assumed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from denoise_core.corpus.curves import Array
from denoise_core.corpus.noise_sign import Likely, likely_units
from denoise_core.corpus.reflectance import CLIP_MARGIN, MOST_ABSORBANCE
from denoise_core.corpus.spectrum_files import CLUTTER, Curve, NotASpectrum, read_curves
from denoise_core.corpus.study import NAME, STUDY_FILE, Units
from denoise_core.corpus.units import AXES, SAID, UNITS, axis_hint, from_reflectance, to_nm, to_reflectance
from study_core.errors import BadInput

SAME_NM = 1e-3  # wavelengths this close are the same: text rounds them
ONE_ANGLE = "only"  # of files that stand in two levels of folders
MOST_FILES = 6  # named of those that are skipped for one reason


@dataclass(frozen=True)
class Told:
    """What is said about the files; empty: what they say themselves, else reflectance and nm are assumed and said."""

    units: str = ""
    axis: str = ""
    resample: tuple[float, float, float] | None = None  # first, last, step in nm
    by: str = "--units"  # who says the units

    def __post_init__(self) -> None:
        if self.units and self.units not in UNITS:
            raise BadInput(f"no units {self.units!r}", remedy=f"one of {', '.join(UNITS)}")
        if self.axis and self.axis not in AXES:
            raise BadInput(f"no axis {self.axis!r}", remedy=f"one of {', '.join(AXES)}")


@dataclass(frozen=True, eq=False)
class Taken:
    """One capture to be: its place in the corpus, where it comes from, and its spectrum in nm and reflectance."""

    group: str
    source: str
    x_L: Array
    y_L: Array
    notes: tuple[str, ...] = ()
    stated: bool = False  # whether anybody says what its values are


@dataclass
class Survey:
    """What an import would do: captures taken, files skipped with the reason, and what is worth saying once."""

    source: Path
    taken: list[Taken] = field(default_factory=list)
    skipped: list[tuple[str, str, str]] = field(default_factory=list)  # file, why, what is this file's alone
    ignored: list[str] = field(default_factory=list)  # an operating system's own
    renamed: dict[str, str] = field(default_factory=dict)
    stated: bool = False  # whether somebody says what the values are, and noise does not contradict a mere head
    headed: bool = False  # whether every file says it
    units: str = ""  # in words: what they were taken for, and on whose word
    by_noise: Likely | None = None  # what the values in the files are by their noise
    names: dict[str, set[str]] = field(default_factory=dict)  # place in the corpus, whatever its case → as it was named

    @property
    def groups(self) -> dict[str, int]:
        """Captures of each group, sorted by its name."""
        counts: dict[str, int] = {}
        for one in self.taken:
            counts[one.group] = counts.get(one.group, 0) + 1
        return dict(sorted(counts.items()))

    def spectra_of_groups(self) -> list[NDArray[np.float64]]:
        """Captures (B, L) of each group."""
        by_group: dict[str, list[Array]] = {}
        for one in self.taken:
            by_group.setdefault(one.group, []).append(one.y_L)
        return [np.array(found) for found in by_group.values()]

    def lines(self) -> list[str]:
        """For people: groups, wavelengths, values, notes, then every reason for skipping with its first files."""
        told = [f"{self.source}: {len(self.taken)} spectra in {len(self.groups)} groups, {len(self.skipped)} skipped"]
        told += [f"  take   {group}: {count}" for group, count in self.groups.items()]
        told += [f"  rename {old!r} to {new}" for old, new in self.renamed.items()]
        if self.taken:
            x_L, lowest = self.taken[0].x_L, min(float(one.y_L.min()) for one in self.taken)
            highest = max(float(one.y_L.max()) for one in self.taken)
            step = f"{(x_L[-1] - x_L[0]) / (len(x_L) - 1):.4g} nm apart"
            told.append(f"  axis   {len(x_L)} wavelengths from {x_L[0]:g} to {x_L[-1]:g} nm, {step}")
            told.append(f"  values reflectance from {lowest:.4g} to {highest:.4g}: {self.units}")
        told += [f"  note   {note} ({count} spectra)" for note, count in _counted(one.notes for one in self.taken)]
        if self.ignored:
            told.append(f"  ignore {_few(self.ignored)}: an operating system's own")
        reasons: dict[str, list[tuple[str, str]]] = {}
        for name, why, detail in self.skipped:
            reasons.setdefault(why, []).append((name, detail))
        for why, files in reasons.items():
            first = next((f" ({detail})" for _, detail in files if detail), "")
            told.append(f"  skip   {_few([name for name, _ in files])}: {why}{first}")
        return told


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_FILES} more" if len(names) > MOST_FILES else ""
    return f"{', '.join(names[:MOST_FILES])}{more}"


def _counted(notes: Iterable[Sequence[str]]) -> Iterator[tuple[str, int]]:
    counts: dict[str, int] = {}
    for note in (note for one in notes for note in one):
        counts[note] = counts.get(note, 0) + 1
    yield from counts.items()


def survey(source: Path, told: Told) -> Survey:
    """Read every file below `source` (or the one table it is). BadInput where there is nothing to read at all."""
    if not source.exists():
        raise BadInput("no such file or folder", file=source, remedy="check the path")
    found = Survey(source)
    read = list(_read(found))
    why = _implausible([curve for _, _, curve in read], told.units or "reflectance")
    for group, name, curve in read:
        try:
            found.taken.append(_taken(group, name, curve, told, why))
        except NotASpectrum as error:
            found.skipped.append((name, error.why, error.detail))
    _verify_names(found)
    _one_grid(found, told)
    found.stated = found.headed = all(one.stated for one in found.taken)
    found.units = _whose_word(told, found.stated)
    _hold_against_noise(found, told)
    return found


def _hold_against_noise(found: Survey, told: Told) -> None:
    """What the noise says beside the word; where it contradicts, a table's head is no word enough."""
    said: Units = "absorbance" if told.units == "absorbance" else "reflectance"
    said = "absorptance" if told.units == "absorptance" else said  # percent is no other quantity
    found.by_noise = likely_units([from_reflectance(group_BL, said) for group_BL in found.spectra_of_groups()])
    if found.by_noise is None:
        found.units += "; their noise cannot tell"
        return
    likely, errors = found.by_noise
    told_by_noise = f"by their noise they are {likely} (by {errors:.1f} standard errors)"
    if likely == said:
        found.units += f"; {told_by_noise}"
        return
    found.units += f". BUT {told_by_noise}: --units {likely}?"
    if not told.units:
        found.stated = False


def _read(found: Survey) -> Iterator[tuple[str, str, Curve]]:
    """(group, file, curve) of everything that can be read; the rest is put down as skipped."""
    source = found.source
    there = sorted(path for path in source.rglob("*") if path.is_symlink() or not path.is_dir())
    for path in there if source.is_dir() else [source]:
        name = path.relative_to(source).as_posix() if source.is_dir() else path.name
        if name == STUDY_FILE:
            continue
        if any(part.lower() in CLUTTER or part.startswith((".", "~$")) for part in name.split("/")):
            found.ignored.append(name)
            continue
        if not path.is_file():
            why = "a link to a folder" if path.is_dir() else "a link that leads nowhere, or no file"
            found.skipped.append((name, f"{why}: put the files themselves there", ""))
            continue
        try:
            for curve in read_curves(path):
                yield _group(found, name, curve), name, curve
        except NotASpectrum as error:
            found.skipped.append((name, error.why, error.detail))


def _whose_word(told: Told, stated: bool) -> str:
    if told.units:
        return f"as {told.by} says"
    if stated:
        return "as the files say"
    return (
        "nobody says so. They lie in [0, 1] as reflectance does; absorbance and 1 - R may lie there too. Say what they "
        "are: --units, or units in study.yaml"
    )


def _implausible(curves: Sequence[Curve], units: str) -> str:
    """Why the values of most files are none of these units; empty where they may be."""
    if not curves:
        return ""
    highest = np.array([curve.y_L.max() for curve in curves])
    lowest = np.array([curve.y_L.min() for curve in curves])
    usual = float(np.median(highest))
    if units == "percent" and usual <= 1 + CLIP_MARGIN:
        return f"values up to {usual:.4g} are no percent; leave --units percent out"
    if units == "absorbance" and usual > MOST_ABSORBANCE:
        return f"values up to {usual:.4g} are no absorbance: percent?"
    outside = (highest > 1 + CLIP_MARGIN) | (lowest < -CLIP_MARGIN)
    if units not in ("reflectance", "absorptance") or outside.mean() <= 0.5:
        return ""
    return _no_fraction(usual, float(np.median(lowest)))


def _no_fraction(highest: float, lowest: float) -> str:
    if lowest < -2 or highest > 120:
        return "values are no fraction, no percent and no absorbance: counts? Divide by the white reference first"
    return "values are no fraction; if you know them: --units percent" + (" or absorbance" if highest <= 5 else "")


def _taken(group: str, name: str, curve: Curve, told: Told, why: str) -> Taken:
    """A curve in its group, in reflectance and nm; NotASpectrum says why not."""
    if otherwise := [*_axis_otherwise(curve, told), *_values_otherwise(curve, told)]:
        raise NotASpectrum("; ".join(otherwise))
    x_L, y_L, notes = _in_nm(curve, told)
    lowest, highest = float(y_L.min()), float(y_L.max())
    detail = f"from {lowest:.4g} to {highest:.4g}"
    units = told.units or "reflectance"
    if curve.declared_y and curve.declared_y != units:
        notes.append(f"the file says that its values are {curve.declared_y}, {told.by} says {units}")
    if why:
        raise NotASpectrum(why, detail)
    y_L = to_reflectance(y_L, units)
    if y_L.min() < -CLIP_MARGIN or y_L.max() > 1 + CLIP_MARGIN:
        raise NotASpectrum("values outside [0, 1], unlike most files", detail)
    said = (SAID[units],) if units in SAID else ()
    return Taken(group, name, x_L, y_L, (*curve.notes, *notes, *said), bool(told.units or curve.declared_y))


def _axis_otherwise(curve: Curve, told: Told) -> list[str]:
    """Why the axis is not what was said, or is surely no nm; empty where it may be."""
    axis = told.axis or "nm"
    if curve.declared_x and curve.declared_x != axis:
        option = f"--axis {curve.declared_x}" if curve.declared_x in AXES else "nothing here converts it"
        return [f"the file says that its axis is in {curve.declared_x}; {option}"]
    hint = axis_hint(curve.x_L) if axis == "nm" and not curve.declared_x else ""
    return [hint] if hint else []


def _values_otherwise(curve: Curve, told: Told) -> list[str]:
    """Why the values are not what was said; empty where they may be, or where they are said to be it all the same."""
    theirs = f"the file says that its values are {curve.declared_y}"
    if curve.declared_y in ("", told.units or "reflectance"):
        return []
    if curve.declared_y in UNITS:
        return [f"{theirs}; --units {curve.declared_y}"]
    if told.units:
        return []
    return [f"{theirs}; nothing here converts it. If they are reflectance all the same, say --units"]


def _in_nm(curve: Curve, told: Told) -> tuple[Array, Array, list[str]]:
    """Wavelengths in nm, rising, with their values, and what was done."""
    axis = told.axis or "nm"
    x_L, y_L, notes = to_nm(curve.x_L, axis), curve.y_L, []
    if axis != "nm":
        notes.append(f"axis from {axis} to nm")
    elif x_L[0] > x_L[-1]:
        notes.append("descending axis turned")
    return (x_L[::-1], y_L[::-1], notes) if x_L[0] > x_L[-1] else (x_L, y_L, notes)


def _group(found: Survey, name: str, curve: Curve) -> str:
    """TREATMENT/SAMPLE/ANGLE of a curve: by a table's own columns, its label, the file's folders, the trace's title."""
    label, title = (re.split(r"[/\\|]", text) for text in (curve.label, curve.title))
    folders = name.split("/")[:-1]
    candidates = (
        curve.levels if len(curve.levels) >= 2 else (),
        label[:3] if 3 <= len(label) <= 4 else (),
        folders if 2 <= len(folders) <= 3 else (),
        label if len(label) == 2 else (),
        title[:3] if 2 <= len(title) <= 4 else (),
    )
    parts = next((list(one) for one in candidates if one), None)
    if parts is None:
        raise NotASpectrum(
            "its place says no group: put it below TREATMENT/SAMPLE/ANGLE/ or TREATMENT/SAMPLE/, or name a table's "
            "columns (or rows, by columns treatment, sample, angle) so"
        )
    parts = parts if len(parts) == 3 else [*parts, ONE_ANGLE]
    clean = [_clean(found, part) for part in parts]
    for depth in (1, 2, 3):
        place = "/".join(clean[:depth]).casefold()
        found.names.setdefault(place, set()).add("/".join(parts[:depth]))
    return "/".join(clean)


def _clean(found: Survey, part: str) -> str:
    """A name that a folder of a corpus may have."""
    clean = re.sub(r"[^\w.+-]+", "_", unicodedata.normalize("NFC", part).strip()).lstrip(".+-")
    if not clean or not re.fullmatch(NAME, clean):
        raise NotASpectrum(f"{part!r} is no name")
    if clean != part:
        found.renamed[part] = clean
    return clean


def _verify_names(found: Survey) -> None:
    """BadInput where two names would become one, or are one to a disk that knows no case."""
    for names in found.names.values():
        if len(names) > 1:
            first, second = sorted(names)[:2]
            same = "differ only in case" if first.casefold() == second.casefold() else "would become one name"
            raise BadInput(f"{first!r} and {second!r} {same}", file=found.source, remedy="rename one")


def _one_grid(found: Survey, told: Told) -> None:
    """All captures on one grid: resampled where told, else those on another grid than most are skipped."""
    if not found.taken:
        return
    if told.resample is not None:
        _resample(found, *told.resample)
        return
    usual = _usual_grid(found.taken)
    kept = []
    for one in found.taken:
        if len(one.x_L) == len(usual) and np.allclose(one.x_L, usual, rtol=0, atol=SAME_NM):
            kept.append(one)
        else:
            ends = f"{len(one.x_L)} wavelengths from {one.x_L[0]:g} to {one.x_L[-1]:g} nm"
            most = f"most have {len(usual)} from {usual[0]:g} to {usual[-1]:g}"
            found.skipped.append((one.source, f"{ends}, {most}; --resample FIRST:LAST:STEP", ""))
    found.taken = kept


def _resample(found: Survey, first: float, last: float, step: float) -> None:
    if not step > 0 or not last > first:
        raise BadInput(f"--resample {first:g}:{last:g}:{step:g} is no rising range", remedy="as in 300:600:1")
    grid = np.arange(first, last + step / 2, step)
    kept = []
    for one in found.taken:
        if one.x_L[0] > grid[0] + SAME_NM or one.x_L[-1] < grid[-1] - SAME_NM:
            why = f"measured from {one.x_L[0]:g} to {one.x_L[-1]:g} nm: nothing is extrapolated to {first:g}-{last:g}"
            found.skipped.append((one.source, why, ""))
            continue
        y_L = np.interp(grid, one.x_L, one.y_L)
        kept.append(replace(one, x_L=grid, y_L=y_L, notes=(*one.notes, "resampled, linearly")))
    found.taken = kept


def _usual_grid(taken: Sequence[Taken]) -> Array:
    counts: dict[tuple[int, float, float], list[Any]] = {}
    for one in taken:
        key = (len(one.x_L), round(float(one.x_L[0]), 2), round(float(one.x_L[-1]), 2))
        counts.setdefault(key, [0, one.x_L])[0] += 1
    grid: NDArray[np.float64] = max(counts.values(), key=lambda entry: entry[0])[1]
    return grid
