"""The spectra store: one in-memory array per corpus, read from the seed's layout or from the packed one.

Seed layout: `ROOT/spectra_for_fold/treatment_T/sample_S/ANGLE/rep_NNN.npy` with manifests beside it (ROOT may
also be the folder that holds `treatment_*` itself, as `data/_staging` does). Packed layout: `ROOT/spectra.npy`,
row i the spectrum of row i of `ROOT/manifest.csv`. Both give the same `Corpus`, with the same content hash.

Shapes: N unique captures, L wavelengths, B batch.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from denoise_core.corpus import layout
from denoise_core.corpus.captures import Captures, digest_of, verify_listing
from denoise_core.corpus.dose import verify_dose_features
from denoise_core.corpus.manifest import FIRST_ROW, write_manifest
from denoise_core.corpus.reflectance import NONE_OUTSIDE, Measured, Outside, clip_reflectance, verify_reflectance
from denoise_core.corpus.statistics import LambdaStats, lambda_stats
from denoise_core.corpus.study import PUBLISHED, STUDY_FILE, Study, read_study
from study_core.files import replacing


@dataclass(frozen=True, eq=False)
class Corpus(Captures):
    """Every unique capture of one corpus, in memory and read-only.

    `spectra_NL`: float32 (N, L), reflectance in [0, 1]. `outside`: the measured values that lay just outside [0, 1]
    (detector noise) and were clipped.
    """

    spectra_NL: NDArray[np.float32]
    outside: Outside = NONE_OUTSIDE

    def read(self, rows: ArrayLike) -> NDArray[np.float32]:
        """Spectra at `rows`, float32 (B, L), reflectance in [0, 1]."""
        return self.spectra_NL[np.asarray(rows, dtype=np.int64)]

    @cached_property
    def lambda_stats(self) -> LambdaStats:
        """Variance and precision per wavelength over all N captures, as measured (before clipping)."""
        return lambda_stats(self.measured(), self.wavelength_nm, self.study.roi_nm)

    def measured(self) -> NDArray[np.float32]:
        """A copy of `spectra_NL` as it stands in the files: the few values outside [0, 1] restored, float32 (N, L)."""
        values_NL = self.spectra_NL.copy()
        values_NL.flat[self.outside.index] = self.outside.value
        return values_NL


def corpus_of(
    captures: pd.DataFrame,
    spectra_NL: NDArray[np.float32],
    wavelength_nm: NDArray[Any],
    root: Path = Path("."),
    source: Path | None = None,
    study: Study = PUBLISHED,
) -> Corpus:
    """A validated corpus from arrays. `source` is the file that errors name; rows count as in a manifest.

    BadInput: a capture standing twice, a wrong length, a value that is not finite or outside [0, 1].
    """
    place = source or root
    frame, grid = verify_listing(captures, wavelength_nm, place)
    layout.verify_shape(spectra_NL.shape, len(frame), len(grid), place)
    values = np.array(spectra_NL, dtype=np.float32, order="C")
    verify_reflectance(values, frame["relative_path"].tolist(), place)
    digest = digest_of(frame, grid, study)
    digest.update(values.data)
    outside = clip_reflectance(values)
    values.flags.writeable = False
    return Corpus(Path(root), grid, frame, digest.hexdigest(), study, values, outside)


@dataclass(frozen=True, eq=False)
class Found:
    """Where a corpus's spectra stand, and which file errors name."""

    folder: Path
    packed: bool
    wavelength_nm: NDArray[np.float64]
    captures: pd.DataFrame
    source: Path
    study: Study


def find_corpus(root: Path) -> Found:
    """The listing of a corpus in either layout, its own dose table verified; BadInput names file and row."""
    folder, packed = layout.find_spectra(root)
    study = read_study(layout.study_path(root))
    grid = layout.read_wavelength_grid(root, folder)
    study.verify_grid(grid, folder / layout.GRID_FILE)
    captures, source = layout.read_captures(folder)
    study.verify_rows(captures, source, FIRST_ROW)
    if (path := layout.metadata_path(root, "dose_features.csv")) is not None:
        verify_dose_features(path, study)
    return Found(folder, packed, grid, captures, folder / layout.PACKED_FILE if packed else source, study)


def open_corpus(root: Path) -> Corpus:
    """Open a corpus in either layout; BadInput names file and row of the first thing that cannot be used."""
    found = find_corpus(Path(root))
    if found.packed:
        spectra_NL = layout.load_array(found.source)
    else:
        names = found.captures["relative_path"].tolist()
        spectra_NL = layout.read_capture_files(found.folder, names, len(found.wavelength_nm), found.source)
    corpus = corpus_of(found.captures, spectra_NL, found.wavelength_nm, Path(root), found.source, found.study)
    seen = Measured(found.source)
    seen.see(corpus.spectra_NL, found.captures["relative_path"].tolist())
    seen.verify()
    return corpus


def pack(corpus: Corpus, out: Path) -> Path:
    """Write `corpus` in the packed layout into `out`: two arrays and the manifests instead of N small files.

    Standard manifests and metadata files of the corpus's folder go along, so that `open_corpus(out)` equals it.
    """
    out = Path(out)
    write_manifest(corpus.captures, out / "manifest.csv")
    for name in ("manifest_full", "manifest_train", "validation_panel"):
        _copy(layout.manifest_path(corpus.root, name), out / f"{name}.csv")
    _copy(layout.study_path(corpus.root), out / STUDY_FILE)
    for name in ("dose_features.csv", "dose_sampling_weights.csv", "dose_stats.json"):
        _copy(layout.metadata_path(corpus.root, name), out / "metadata" / name)
    grid = corpus.wavelength_nm.astype(np.float32)
    for name, array in (
        ("wavelength_grid.npy", grid),
        (layout.PACKED_FILE, corpus.measured()),
    ):  # spectra last: complete
        with replacing(out / name) as temporary:
            np.save(temporary, array)
    return out


def _copy(source: Path | None, target: Path) -> None:
    """Copy a file by temporary name and rename; nothing where there is none, or where it stands there already."""
    if source is not None and source.resolve() != target.resolve():
        with replacing(target) as temporary:
            shutil.copyfile(source, temporary)
