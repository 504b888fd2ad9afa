"""A corpus that stays on disk: listed and verified once, read a batch at a time, in memory that does not grow with it.

For denoising, where nothing needs two batches at once. Same content hash, same checks, same values as `open_corpus`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from denoise_core.corpus import layout
from denoise_core.corpus.captures import Captures, digest_of, verify_listing
from denoise_core.corpus.reflectance import Measured, clip_reflectance, verify_reflectance
from denoise_core.corpus.store import find_corpus

CHUNK = 4096  # spectra: ten megabytes


@dataclass(frozen=True, eq=False)
class Stream(Captures):
    """Captures whose spectra stand in `folder`: files of one spectrum, or the packed array."""

    folder: Path
    packed: bool
    source: Path

    def read(self, rows: ArrayLike) -> NDArray[np.float32]:
        """Spectra at `rows`, float32 (B, L), reflectance in [0, 1]. BadInput (file, row) for one gone since opening."""
        values_BL = self._raw(np.asarray(rows, dtype=np.int64))
        clip_reflectance(values_BL)
        return values_BL

    def _raw(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        if self.packed:  # mapped anew each time: pages that were read would else count as this process's memory
            mapped = layout.load_array(self.folder / layout.PACKED_FILE, mapped=True)
            return np.array(mapped[rows], dtype=np.float32, order="C")
        names = self.captures["relative_path"].iloc[rows].tolist()
        return layout.read_capture_files(self.folder, names, len(self.wavelength_nm), self.source, rows)


def open_stream(root: Path) -> Stream:
    """List and verify the corpus at `root` without keeping its spectra; BadInput as `open_corpus` would raise it."""
    found = find_corpus(Path(root))
    frame, grid = verify_listing(found.captures, found.wavelength_nm, found.source)
    if found.packed:
        shape = layout.load_array(found.folder / layout.PACKED_FILE, mapped=True).shape
        layout.verify_shape(shape, len(frame), len(grid), found.source)
    stream = Stream(Path(root), grid, frame, "", found.study, found.folder, found.packed, found.source)
    digest, seen = digest_of(frame, grid, found.study), Measured(found.source)
    for first in range(0, len(frame), CHUNK):
        rows = np.arange(first, min(first + CHUNK, len(frame)))
        values_BL = stream._raw(rows)
        names = frame["relative_path"].iloc[rows].tolist()
        verify_reflectance(values_BL, names, found.source, first)
        digest.update(values_BL.data)
        clip_reflectance(values_BL)
        seen.see(values_BL, names, first)
    seen.verify()
    return Stream(stream.root, grid, frame, digest.hexdigest(), found.study, found.folder, found.packed, found.source)
