"""What was looked through, as a corpus: its study, and the packed folder, written whole or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

from denoise_core.corpus.importing import Survey
from denoise_core.corpus.layout import GRID_FILE, PACKED_FILE
from denoise_core.corpus.manifest import COLUMNS, write_manifest
from denoise_core.corpus.store import open_corpus
from denoise_core.corpus.study import STUDY_FILE, Study, read_study, write_study
from denoise_core.corpus.usable import verify_grid, verify_study
from study_core.errors import BadInput


def study_beside(source: Path, given: Path | None) -> Study | None:
    """The study that is given, else the one that lies in the source; None where there is none."""
    own = source / STUDY_FILE
    path = given or (own if source.is_dir() and own.exists() else None)
    return None if path is None else read_study(path, of="files")


def study_for(found: Survey, name: str, described: Study | None, panel: Sequence[str]) -> Study:
    """The study of an import: the one described, else names alone; its panel as said, or as chosen.

    Chosen: of each treatment the last sample's first angle, so that the panel has every treatment. BadInput for a panel
    group that the files have not.
    """
    groups = list(found.groups)
    chosen = tuple(panel)
    if absent := [group for group in chosen if group not in groups]:
        remedy = f"TREATMENT/SAMPLE/ANGLE as listed: {', '.join(groups[:3])} …"
        raise BadInput(f"--panel {absent[0]}: no such group", file=found.source, remedy=remedy)
    if described is not None:
        return described.model_copy(update={"units": "reflectance", **({"panel": chosen} if chosen else {})})
    treatments = sorted({group.split("/")[0] for group in groups})
    if not chosen:
        of = {treatment: [group for group in groups if group.split("/")[0] == treatment] for treatment in treatments}
        last = {t: max(group.split("/")[1] for group in mine) for t, mine in of.items()}
        chosen = tuple(next(g for g in of[t] if g.split("/")[1] == last[t]) for t in treatments)
    return Study.model_validate({"name": name, "treatments": treatments, "panel": chosen})


def verify_import(found: Survey, study: Study, out: Path) -> str:
    """Make what would be written, elsewhere: why no run can use it, or empty. BadInput as opening says."""
    with tempfile.TemporaryDirectory() as elsewhere:
        return _made(found, study, Path(elsewhere) / out.name, out)


def write_corpus(found: Survey, study: Study, out: Path) -> str:
    """Write a packed corpus into the new folder `out`, whole or not at all: why no run can use it, or empty.

    BadInput as opening says, or where something is there already.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadInput("is there already", file=out, remedy="name a new folder; nothing is overwritten")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as temporary:
        new = Path(temporary) / out.name
        lacks = _made(found, study, new, out)
        new.rename(out)
    return lacks


def _made(found: Survey, study: Study, new: Path, out: Path) -> str:
    """Write the corpus to `new`, to be `out`, and open it: BadInput where it cannot be opened, or is of a grid that no
    method trains on; else why no run can use it, or empty."""
    with _told_of(new, out):
        _write(found, study, new)
        verify_grid(open_corpus(new))
    try:
        verify_study(new)
    except BadInput as error:
        return f"{error.what}; {error.remedy}"
    return ""


@contextmanager
def _told_of(temporary: Path, out: Path) -> Iterator[None]:
    """What is refused is told of the folder that was asked for."""
    try:
        yield
    except BadInput as error:
        place = str(error.file or "").replace(str(temporary), str(out))
        raise BadInput(error.what, file=place, row=error.row, remedy=error.remedy) from error


def _write(found: Survey, study: Study, new: Path) -> None:
    if not found.taken:
        raise BadInput("no spectrum to take", file=found.source, remedy="see what was skipped and why")
    rows, spectra, numbers = [], [], dict[str, int]()
    for one in sorted(found.taken, key=lambda one: (one.group, one.source)):
        number = numbers[one.group] = numbers.get(one.group, -1) + 1
        rows.append((f"{one.group}/rep_{number:03d}.npy", *one.group.split("/"), one.group, one.source))
        spectra.append(one.y_L)
    new.mkdir()
    (new / STUDY_FILE).write_text(write_study(study), encoding="utf-8")
    write_manifest(pd.DataFrame(rows, columns=[*COLUMNS, "source_path"]), new / "manifest.csv")
    np.save(new / GRID_FILE, found.taken[0].x_L.astype(np.float32))
    np.save(new / PACKED_FILE, np.stack(spectra).astype(np.float32))
