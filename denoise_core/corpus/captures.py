"""The captures of a corpus without their spectra: who they are, what a denoiser may know of them, how rows are found.

Shapes: N unique captures, L wavelengths, M rows of a manifest, B batch, F dose features.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from denoise_core.corpus import layout
from denoise_core.corpus.dose import DoseStats, dose_stats, film_features, verify_dose_stats
from denoise_core.corpus.manifest import COLUMNS, FIRST_ROW, Manifest, manifest_of, read_manifest
from denoise_core.corpus.noise_sign import Likely, likely_units
from denoise_core.corpus.study import PUBLISHED, Study
from study_core.errors import BadInput

_NOISE_GROUPS, _NOISE_CAPTURES = 60, 40  # looked at for what the values are


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
class Captures(ABC):
    """Every unique capture of one corpus; `read` gives spectra.

    `wavelength_nm`: float64 (L,), rising. `captures`: N rows of relative_path, treatment, sample, angle, group_id.
    `sha256`: of both and of the spectra, the same for both layouts and however the spectra are held.
    """

    root: Path
    wavelength_nm: NDArray[np.float64]
    captures: pd.DataFrame
    sha256: str
    study: Study

    def __len__(self) -> int:
        return len(self.captures)

    @abstractmethod
    def read(self, rows: ArrayLike) -> NDArray[np.float32]:
        """Spectra at `rows`, float32 (B, L), reflectance in [0, 1]."""

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
        panel: tuple[str, ...] = ()
        if name == "manifest_train" and (own := layout.manifest_path(self.root, "validation_panel")) is not None:
            panel = read_manifest(own).groups
        return manifest_of(layout.derive_manifest(self.captures, name, self.study, panel))

    def training_beside(self, panel: Manifest) -> Manifest:
        """What there is to train on when `panel` is held out: the corpus's own file, or all but the panel's groups."""
        if layout.manifest_path(self.root, "manifest_train") is not None:
            return self.manifest("manifest_train")
        return manifest_of(layout.derive_manifest(self.captures, "manifest_train", self.study, panel.groups))

    @cached_property
    def dose_stats(self) -> DoseStats:
        """FiLM feature statistics of the dosed captures; BadInput where the corpus's own file says otherwise."""
        stats = dose_stats(self._features, self._treatment.tolist(), self.study)
        if (path := layout.metadata_path(self.root, "dose_stats.json")) is not None:
            verify_dose_stats(stats, path)
        return stats

    @cached_property
    def by_noise(self) -> Likely | None:
        """What the values are by the noise of some groups' captures, evenly drawn; None where it cannot tell."""
        starts = np.linspace(0, self.group_codes.max(), min(_NOISE_GROUPS, int(self.group_codes.max()) + 1)).astype(int)
        return likely_units([self.read(np.flatnonzero(self.group_codes == g)[:_NOISE_CAPTURES]) for g in starts])

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
        return film_features(self._treatment.tolist(), self.captures["angle"].tolist(), self.study)


def verify_listing(
    captures: pd.DataFrame, wavelength_nm: NDArray[Any], source: Path
) -> tuple[pd.DataFrame, NDArray[np.float64]]:
    """(the five columns of every capture, the grid as read-only float64); BadInput where a capture stands twice."""
    frame = captures[list(COLUMNS)].reset_index(drop=True)
    twice = frame["relative_path"].duplicated().to_numpy()
    if twice.any():
        row = int(twice.argmax())
        raise BadInput(
            f"duplicate capture {frame['relative_path'].iloc[row]}",
            file=source,
            row=row + FIRST_ROW,
            remedy="manifest.csv lists every capture once (manifest_full.csv may repeat them)",
        )
    grid = np.asarray(wavelength_nm, dtype=np.float64)
    grid.flags.writeable = False
    return frame, grid


def digest_of(frame: pd.DataFrame, wavelength_nm: NDArray[np.float64], study: Study) -> hashlib._Hash:
    """The start of a corpus's content hash; the spectra as measured follow, row by row, as float32.

    A study of its own counts with what a result follows from; the published one is in no hash.
    """
    digest = hashlib.sha256(frame.to_csv(index=False, lineterminator="\n").encode())
    if study != PUBLISHED:
        digest.update(study.identity().encode())
    digest.update(wavelength_nm.tobytes())
    return digest
