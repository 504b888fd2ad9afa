"""The spectra store: one in-memory array per corpus, read from the seed's layout or from the packed one.

Seed layout: `ROOT/spectra_for_fold/treatment_T/sample_S/ANGLE/rep_NNN.npy` with manifests beside it (ROOT may
also be the folder that holds `treatment_*` itself, as `data/_staging` does). Packed layout: `ROOT/spectra.npy`,
row i the spectrum of row i of `ROOT/manifest.csv`. Both give the same `Corpus`, with the same content hash.

Shapes: N unique captures, L wavelengths, M rows of a manifest, B batch, F dose features.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from denoise_core.corpus import layout
from denoise_core.corpus.dose import (
    DoseStats,
    dose_stats,
    film_features,
    verify_dose_features,
    verify_dose_stats,
)
from denoise_core.corpus.files import replacing
from denoise_core.corpus.manifest import COLUMNS, FIRST_ROW, Manifest, manifest_of, read_manifest, write_manifest
from denoise_core.corpus.statistics import LambdaStats, lambda_stats
from denoise_core.errors import BadInput


@dataclass(frozen=True, eq=False)
class Context:
    """What a denoiser may know of a capture besides its spectrum.

    `treatment`: (B,) str, e.g. "treatment_5". `features_BF`: float32 (B, 8), raw dose features in
    `plans.FILM_FEATURES` order; the controls' UVA_over_UVB is NaN until `DoseStats.standardise`.
    """

    treatment: NDArray[np.str_]
    features_BF: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.treatment)

    def take(self, index: slice | NDArray[Any] | Sequence[int]) -> Context:
        """The context of a subset of the batch, by any NumPy index of one dimension."""
        return Context(self.treatment[index], self.features_BF[index])


@dataclass(frozen=True, eq=False)
class Corpus:
    """Every unique capture of one corpus, in memory and read-only.

    `wavelength_nm`: float64 (L,), rising. `spectra_NL`: float32 (N, L), reflectance in [0, 1].
    `captures`: N rows of relative_path, treatment, sample, angle, group_id. `sha256`: of all three, the same for
    both layouts. `outside`: the measured values that lay just outside [0, 1] (detector noise) and were clipped.
    """

    root: Path
    wavelength_nm: NDArray[np.float64]
    spectra_NL: NDArray[np.float32]
    captures: pd.DataFrame
    sha256: str
    outside: layout.Outside = layout.NONE_OUTSIDE

    def __len__(self) -> int:
        return len(self.spectra_NL)

    def rows(self, manifest: Manifest) -> NDArray[np.int64]:
        """Index into `spectra_NL` of every row, int64 (M,); BadInput (file, row) for a capture not in this corpus."""
        index = self._index.get_indexer(pd.Index(manifest.frame["relative_path"]))
        if (index < 0).any():
            row = int((index < 0).argmax())
            raise BadInput(
                f"capture {manifest.frame['relative_path'].iloc[row]} is not in the corpus {self.root}",
                file=manifest.path or "manifest",
                row=row + FIRST_ROW,
                remedy="point the corpus at the folder this manifest belongs to, or remove the row",
            )
        return index.astype(np.int64)

    def context(self, rows: ArrayLike) -> Context:
        """Treatment and raw dose features of the captures at `rows` (B,)."""
        index = np.asarray(rows, dtype=np.int64)
        return Context(self._treatment[index], self._features[index])

    def groups(self, rows: ArrayLike) -> NDArray[np.str_]:
        """group_id of every row, str (M,)."""
        return self._group[np.asarray(rows, dtype=np.int64)]

    def manifest(self, name: str) -> Manifest:
        """A standard manifest: `manifest`, `manifest_full`, `manifest_train`, `validation_panel` or `staging`.

        Read from the corpus's folder where the file exists; else derived from the captures (there is no way to
        derive `staging`: BadInput).
        """
        if (path := layout.manifest_path(self.root, name)) is not None:
            return read_manifest(path)
        return manifest_of(layout.derive_manifest(self.captures, name))

    @cached_property
    def dose_stats(self) -> DoseStats:
        """FiLM feature statistics of the dosed captures; BadInput where the corpus's own file says otherwise."""
        stats = dose_stats(self._features, self._treatment.tolist())
        if (path := layout.metadata_path(self.root, "dose_stats.json")) is not None:
            verify_dose_stats(stats, path)
        return stats

    @cached_property
    def lambda_stats(self) -> LambdaStats:
        """Variance and precision per wavelength over all N captures, as measured (before clipping)."""
        return lambda_stats(self.measured(), self.wavelength_nm)

    def measured(self) -> NDArray[np.float32]:
        """A copy of `spectra_NL` as it stands in the files: the few values outside [0, 1] restored, float32 (N, L)."""
        values_NL = self.spectra_NL.copy()
        values_NL.flat[self.outside.index] = self.outside.value
        return values_NL

    @cached_property
    def group_codes(self) -> NDArray[np.int64]:
        """Number (N,) of each capture's group: its place in the sorted `group_id`s."""
        return np.unique(self._group, return_inverse=True)[1].astype(np.int64)

    @cached_property
    def _index(self) -> pd.Index[Any]:
        index: pd.Index[Any] = pd.Index(self.captures["relative_path"])
        return index

    @cached_property
    def _treatment(self) -> NDArray[np.str_]:
        return self.captures["treatment"].to_numpy(dtype=np.str_)

    @cached_property
    def _group(self) -> NDArray[np.str_]:
        return self.captures["group_id"].to_numpy(dtype=np.str_)

    @cached_property
    def _features(self) -> NDArray[np.float32]:
        return film_features(self._treatment.tolist(), self.captures["angle"].tolist())


def corpus_of(
    captures: pd.DataFrame,
    spectra_NL: NDArray[np.float32],
    wavelength_nm: NDArray[Any],
    root: Path = Path("."),
    source: Path | None = None,
) -> Corpus:
    """A validated corpus from arrays. `source` is the file that errors name; rows count as in a manifest.

    BadInput: a capture standing twice, a wrong length, a value that is not finite or outside [0, 1].
    """
    frame = captures[list(COLUMNS)].reset_index(drop=True)
    place = source or root
    twice = frame["relative_path"].duplicated().to_numpy()
    if twice.any():
        row = int(twice.argmax())
        raise BadInput(
            f"duplicate capture {frame['relative_path'].iloc[row]}",
            file=place,
            row=row + FIRST_ROW,
            remedy="manifest.csv lists every capture once (manifest_full.csv may repeat them)",
        )
    grid = np.asarray(wavelength_nm, dtype=np.float64)
    if spectra_NL.shape != (len(frame), len(grid)):
        raise BadInput(
            f"spectra of shape {spectra_NL.shape}, expected {(len(frame), len(grid))} (captures, wavelengths)",
            file=place,
            remedy="spectra, manifest and wavelength grid must belong together",
        )
    values = np.array(spectra_NL, dtype=np.float32, order="C")
    layout.verify_reflectance(values, frame["relative_path"].tolist(), place)
    digest = hashlib.sha256(frame.to_csv(index=False, lineterminator="\n").encode())
    digest.update(grid.tobytes())
    digest.update(values.data)
    outside = layout.clip_reflectance(values)
    values.flags.writeable = False
    grid.flags.writeable = False
    return Corpus(Path(root), grid, values, frame, digest.hexdigest(), outside)


def open_corpus(root: Path) -> Corpus:
    """Open a corpus in either layout; BadInput names file and row of the first thing that cannot be used."""
    root = Path(root)
    folder, packed = layout.find_spectra(root)
    grid = layout.read_wavelength_grid(root, folder)
    captures, source = layout.read_captures(folder)
    if packed:
        spectra_NL = layout.load_array(folder / "spectra.npy")
        source = folder / "spectra.npy"
    else:
        spectra_NL = layout.read_capture_files(folder, captures["relative_path"].tolist(), len(grid), source)
    if (path := layout.metadata_path(root, "dose_features.csv")) is not None:
        verify_dose_features(path)
    return corpus_of(captures, spectra_NL, grid, root, source)


def pack(corpus: Corpus, out: Path) -> Path:
    """Write `corpus` in the packed layout into `out`: two arrays and the manifests instead of N small files.

    Standard manifests and metadata files of the corpus's folder go along, so that `open_corpus(out)` equals it.
    """
    out = Path(out)
    write_manifest(corpus.captures, out / "manifest.csv")
    for name in ("manifest_full", "manifest_train", "validation_panel"):
        _copy(layout.manifest_path(corpus.root, name), out / f"{name}.csv")
    for name in ("dose_features.csv", "dose_sampling_weights.csv", "dose_stats.json"):
        _copy(layout.metadata_path(corpus.root, name), out / "metadata" / name)
    grid = corpus.wavelength_nm.astype(np.float32)
    for name, array in (("wavelength_grid.npy", grid), ("spectra.npy", corpus.measured())):  # spectra last: complete
        with replacing(out / name) as temporary:
            np.save(temporary, array)
    return out


def _copy(source: Path | None, target: Path) -> None:
    """Copy a file by temporary name and rename; nothing where there is none, or where it stands there already."""
    if source is not None and source.resolve() != target.resolve():
        with replacing(target) as temporary:
            shutil.copyfile(source, temporary)
