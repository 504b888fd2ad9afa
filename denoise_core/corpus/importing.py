"""A laboratory's own files as a corpus: first what would be taken, skipped and why; then, when told, the corpus.

Nothing is converted unless told: percent, absorbance, micrometres and another grid are named with the option that
converts them. A descending axis is turned. What is skipped is listed, and nothing is written past it unsaid.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from denoise_core.corpus.layout import GRID_FILE, PACKED_FILE
from denoise_core.corpus.manifest import COLUMNS, write_manifest
from denoise_core.corpus.spectrum_files import Array, Curve, NotASpectrum, read_curves
from denoise_core.corpus.store import Corpus, open_corpus
from denoise_core.corpus.study import NAME, STUDY_FILE, Study, read_study, write_study
from denoise_core.corpus.usable import verify_grid
from study_core.errors import BadInput

UNITS = ("reflectance", "percent", "absorbance")
AXES = ("nm", "um")
SAME_NM = 1e-3  # wavelengths this close are the same: text rounds them
ONE_ANGLE = "only"  # of files that stand in two levels of folders


@dataclass(frozen=True)
class Told:
    """What is said about the files, because they do not say it: nothing of it is guessed."""

    units: str = "reflectance"
    axis: str = "nm"
    resample: tuple[float, float, float] | None = None  # first, last, step in nm


@dataclass(frozen=True, eq=False)
class Taken:
    """One capture to be: its place in the corpus, where it comes from, and its spectrum."""

    group: str
    source: str
    x_L: Array
    y_L: Array
    notes: tuple[str, ...] = ()


@dataclass
class Survey:
    """What an import would do: captures taken, files skipped with the reason, and what is worth saying once."""

    source: Path
    taken: list[Taken] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)

    @property
    def groups(self) -> dict[str, int]:
        """Captures of each group, sorted by its name."""
        counts: dict[str, int] = {}
        for one in self.taken:
            counts[one.group] = counts.get(one.group, 0) + 1
        return dict(sorted(counts.items()))

    def lines(self, most: int = 6) -> list[str]:
        """For people: groups, then notes, then every reason for skipping with its first files."""
        told = [f"{self.source}: {len(self.taken)} spectra in {len(self.groups)} groups, {len(self.skipped)} skipped"]
        told += [f"  take   {group}: {count}" for group, count in self.groups.items()]
        told += [f"  rename {old!r} to {new}" for old, new in self.renamed.items()]
        notes: dict[str, int] = {}
        for one in self.taken:
            for note in one.notes:
                notes[note] = notes.get(note, 0) + 1
        told += [f"  {note} ({count} spectra)" for note, count in notes.items()]
        reasons: dict[str, list[str]] = {}
        for name, why in self.skipped:
            reasons.setdefault(why, []).append(name)
        for why, names in reasons.items():
            more = f" and {len(names) - most} more" if len(names) > most else ""
            told.append(f"  skip   {', '.join(names[:most])}{more}: {why}")
        return told


def survey(source: Path, told: Told) -> Survey:
    """Read every file below `source` (or the one table it is). BadInput where there is nothing to read at all."""
    if told.units not in UNITS:
        raise BadInput(f"no units {told.units!r}", remedy=f"one of {', '.join(UNITS)}")
    if told.axis not in AXES:
        raise BadInput(f"no axis {told.axis!r}", remedy=f"one of {', '.join(AXES)}")
    if not source.exists():
        raise BadInput("no such file or folder", file=source, remedy="check the path")
    found = Survey(source)
    files = sorted(path for path in source.rglob("*") if path.is_file()) if source.is_dir() else [source]
    for path in files:
        name = path.relative_to(source).as_posix() if source.is_dir() else path.name
        if name == STUDY_FILE:
            continue
        try:
            for curve in read_curves(path):
                found.taken.append(_taken(found, name, curve, told))
        except NotASpectrum as error:
            found.skipped.append((name, str(error)))
    _verify_names(found)
    _one_grid(found, told)
    return found


def _taken(found: Survey, name: str, curve: Curve, told: Told) -> Taken:
    """A curve in its group, in reflectance and nm; NotASpectrum says why not."""
    group = _group(found, name, curve)
    if curve.declared_x and curve.declared_x != told.axis:
        option = f"--axis {curve.declared_x}" if curve.declared_x in AXES else "nothing here converts it"
        raise NotASpectrum(f"the file says that its axis is in {curve.declared_x}; {option}")
    if curve.declared_y and curve.declared_y != told.units:
        option = f"--units {curve.declared_y}" if curve.declared_y in UNITS else "nothing here converts it"
        raise NotASpectrum(f"the file says that its values are {curve.declared_y}; {option}")
    x_L, y_L, notes = curve.x_L, curve.y_L, []
    if told.axis == "um":
        x_L = x_L * 1000.0
        notes.append("micrometres to nm")
    elif x_L.max() < 20.0:
        raise NotASpectrum(f"wavelengths from {x_L.min():g} to {x_L.max():g}: micrometres? --axis um")
    if x_L[0] > x_L[-1]:
        x_L, y_L = x_L[::-1], y_L[::-1]
        notes.append("descending axis turned")
    y_L, said = _reflectance(y_L, told.units)
    return Taken(group, name, x_L, y_L, (*notes, *said))


def _reflectance(y_L: Array, units: str) -> tuple[Array, list[str]]:
    """Values as a fraction, and what was done; NotASpectrum where they are no values of these units."""
    if units == "percent":
        if y_L.max() <= 1.01:
            raise NotASpectrum(f"values up to {y_L.max():g} are no percent; leave --units percent out")
        return y_L / 100.0, ["percent to fraction"]
    if units == "absorbance":
        return 10.0**-y_L, ["absorbance A to reflectance 10^-A"]
    if y_L.max() > 1.01 or y_L.min() < -0.01:
        what = "percent" if 1.5 < y_L.max() <= 120 and y_L.min() > -2 else "not reflectance"
        hint = "--units percent" if what == "percent" and y_L.max() > 5 else "--units percent or absorbance"
        raise NotASpectrum(f"values from {y_L.min():.4g} to {y_L.max():.4g} are no fraction; if you know them: {hint}")
    return y_L, []


def _group(found: Survey, name: str, curve: Curve) -> str:
    """TREATMENT/SAMPLE/ANGLE of a curve: from its label in a table, else from the file's folders."""
    labelled = curve.label.replace("|", "/").split("/") if "/" in curve.label.replace("|", "/") else []
    parts = labelled[:3] if len(labelled) >= 2 else name.split("/")[:-1]
    if len(parts) == 2:
        parts = [*parts, ONE_ANGLE]
    if len(parts) != 3:
        raise NotASpectrum(
            "its place says no group: put it below TREATMENT/SAMPLE/ANGLE/ or TREATMENT/SAMPLE/, or name a table's "
            "columns (or rows, by columns treatment, sample, angle) so"
        )
    return "/".join(_clean(found, part) for part in parts)


def _clean(found: Survey, part: str) -> str:
    """A name that a folder of a corpus may have."""
    part = part.strip()
    if re.fullmatch(NAME, part):
        return part
    clean = re.sub(r"[^\w.+-]+", "_", part).lstrip(".+-")
    if not clean:
        raise NotASpectrum(f"{part!r} is no name")
    found.renamed[part] = clean
    return clean


def _verify_names(found: Survey) -> None:
    """BadInput where two names would become one."""
    by_new: dict[str, str] = {}
    for old, new in found.renamed.items():
        if (other := by_new.setdefault(new, old)) != old:
            raise BadInput(f"{old!r} and {other!r} would both become {new}", file=found.source, remedy="rename one")
    for one in found.taken:
        parts = set(one.source.split("/")) & set(by_new)
        for part in parts:
            raise BadInput(
                f"{by_new[part]!r} would become {part}, which is there already", file=found.source, remedy="rename one"
            )


def _one_grid(found: Survey, told: Told) -> None:
    """All captures on one grid: resampled where told, else those on another grid than most are skipped."""
    if not found.taken:
        return
    if told.resample is not None:
        first, last, step = told.resample
        if not step > 0 or not last > first:
            raise BadInput(f"--resample {first:g}:{last:g}:{step:g} is no rising range", remedy="as in 300:600:1")
        grid = np.arange(first, last + step / 2, step)
        kept = []
        for one in found.taken:
            if one.x_L[0] > grid[0] + SAME_NM or one.x_L[-1] < grid[-1] - SAME_NM:
                why = (
                    f"measured from {one.x_L[0]:g} to {one.x_L[-1]:g} nm: nothing is extrapolated to {first:g}-{last:g}"
                )
                found.skipped.append((one.source, why))
                continue
            y_L = np.interp(grid, one.x_L, one.y_L)
            kept.append(Taken(one.group, one.source, grid, y_L, (*one.notes, "resampled, linearly")))
        found.taken = kept
        return
    usual = _usual_grid(found.taken)
    kept = []
    for one in found.taken:
        if len(one.x_L) == len(usual) and np.allclose(one.x_L, usual, rtol=0, atol=SAME_NM):
            kept.append(one)
        else:
            ends = f"{len(one.x_L)} wavelengths from {one.x_L[0]:g} to {one.x_L[-1]:g} nm"
            most = f"most have {len(usual)} from {usual[0]:g} to {usual[-1]:g}"
            found.skipped.append((one.source, f"{ends}, {most}; --resample FIRST:LAST:STEP"))
    found.taken = kept


def _usual_grid(taken: Sequence[Taken]) -> Array:
    counts: dict[tuple[int, float, float], list[Any]] = {}
    for one in taken:
        key = (len(one.x_L), round(float(one.x_L[0]), 2), round(float(one.x_L[-1]), 2))
        counts.setdefault(key, [0, one.x_L])[0] += 1
    grid: NDArray[np.float64] = max(counts.values(), key=lambda entry: entry[0])[1]
    return grid


def study_for(found: Survey, name: str, given: Path | None, panel: Sequence[str]) -> Study:
    """The study of an import: the file given (or in the source), else names alone; its panel as said or as chosen.

    Chosen: of each treatment the last sample's first angle, so that the panel has every treatment.
    """
    own = found.source / STUDY_FILE if found.source.is_dir() else None
    path = given or (own if own is not None and own.exists() else None)
    groups = list(found.groups)
    chosen = tuple(panel)
    if path is not None:
        study = read_study(path)
        return study.model_copy(update={"panel": chosen}) if chosen else study
    treatments = sorted({group.split("/")[0] for group in groups})
    if not chosen:
        of = {treatment: [group for group in groups if group.split("/")[0] == treatment] for treatment in treatments}
        last = {t: max(group.split("/")[1] for group in mine) for t, mine in of.items()}
        chosen = tuple(next(g for g in of[t] if g.split("/")[1] == last[t]) for t in treatments)
    return Study.model_validate({"name": name, "treatments": treatments, "panel": chosen})


def write_corpus(found: Survey, study: Study, out: Path) -> Corpus:
    """Write a packed corpus into the new folder `out`, whole or not at all, and open it. BadInput as opening says."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadInput("is there already", file=out, remedy="name a new folder; nothing is overwritten")
    if not found.taken:
        raise BadInput("no spectrum to take", file=found.source, remedy="see what was skipped and why")
    rows, spectra, numbers = [], [], dict[str, int]()
    for one in sorted(found.taken, key=lambda one: (one.group, one.source)):
        number = numbers[one.group] = numbers.get(one.group, -1) + 1
        rows.append((f"{one.group}/rep_{number:03d}.npy", *one.group.split("/"), one.group, one.source))
        spectra.append(one.y_L)
    frame = pd.DataFrame(rows, columns=[*COLUMNS, "source_path"])
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as temporary:
        new = Path(temporary) / out.name
        new.mkdir()
        (new / STUDY_FILE).write_text(write_study(study), encoding="utf-8")
        write_manifest(frame, new / "manifest.csv")
        np.save(new / GRID_FILE, found.taken[0].x_L.astype(np.float32))
        np.save(new / PACKED_FILE, np.stack(spectra).astype(np.float32))
        try:
            opened = open_corpus(new)
            verify_grid(opened)
        except BadInput as error:
            place = str(error.file or "").replace(str(new), str(out))
            raise BadInput(error.what, file=place, row=error.row, remedy=error.remedy) from error
        new.rename(out)
    return open_corpus(out)
