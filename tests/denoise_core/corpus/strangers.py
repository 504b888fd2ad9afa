"""Corpora of other laboratories: their own names, samples, grids and doses, cut from the synthetic one's spectra."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from denoise_core.corpus.store import Corpus

Spectra = np.ndarray[Any, np.dtype[np.float32]]


def borrowed(
    mini: Corpus, treatments: Mapping[str, int], samples: int, captures: Sequence[int], every: int = 1
) -> Iterator[tuple[str, str, str, Spectra]]:
    """(treatment, sample, angle, spectra) of each group: their names, the synthetic corpus's spectra.

    `treatments`: name → number of the synthetic treatment. `captures`: how many, group by group in turn. `every`: takes
    every second point of the grid, say.
    """
    number = 0
    for treatment, source in treatments.items():
        frame = mini.captures[mini.captures["treatment"] == f"treatment_{source}"]
        for index, sample in enumerate(sorted(set(frame["sample"]))[:samples]):
            for angle, theirs in (("6Oclock", "left"), ("12Oclock", "right")):
                rows = np.flatnonzero(mini.captures["group_id"] == f"treatment_{source}/{sample}/{angle}")
                count = captures[number % len(captures)]
                number += 1
                yield treatment, f"plate{index + 1}", theirs, mini.spectra_NL[rows[:count], ::every]


def write_tree(
    root: Path, groups: Iterator[tuple[str, str, str, Spectra]], grid: Any, study: Mapping[str, Any]
) -> Path:
    """A corpus as folders: no manifest, their `study.yaml`."""
    for treatment, sample, angle, spectra in groups:
        folder = root / treatment / sample / angle
        folder.mkdir(parents=True)
        for number, spectrum in enumerate(spectra):
            np.save(folder / f"scan_{number:03d}.npy", spectrum)
    np.save(root / "wavelength_grid.npy", np.asarray(grid, dtype=np.float32))
    (root / "study.yaml").write_text(yaml.safe_dump(dict(study)), encoding="utf-8")
    return root


def write_files(
    root: Path, groups: Iterator[tuple[str, str, str, Spectra]], grid: Any, line: str = "{:g};{:.6f}", head: str = ""
) -> Path:
    """One text file a spectrum, a line a wavelength; decimal commas where `line` parts its columns by a semicolon."""
    for treatment, sample, angle, spectra in groups:
        folder = root / treatment / sample / angle
        folder.mkdir(parents=True)
        for number, spectrum in enumerate(spectra):
            rows = [line.format(x, y) for x, y in zip(np.asarray(grid).tolist(), spectrum.tolist(), strict=True)]
            text = head + "\n".join(row.replace(".", ",") if ";" in line else row for row in rows) + "\n"
            (folder / f"scan_{number:03d}.csv").write_text(text, encoding="utf-8")
    return root
