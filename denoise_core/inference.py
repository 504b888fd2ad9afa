"""Batches in, spectra out: any denoiser over any number of captures, in memory that does not grow with them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from denoise_core.corpus.captures import Captures
from denoise_core.corpus.manifest import Manifest, write_manifest
from denoise_core.evaluation.predictions import denoised_name
from denoise_core.model.denoiser import Denoiser
from study_core.errors import BadInput
from study_core.files import replacing

LAYOUTS = ("packed", "files")
Rows = NDArray[np.int64]
Spectra = NDArray[np.float32]


def batches(denoiser: Denoiser, corpus: Captures, rows: Rows, batch_size: int = 128) -> Iterator[tuple[slice, Spectra]]:
    """Denoised spectra of `rows`, a batch at a time: (its slice of `rows`, float32 (B, L))."""
    for first in range(0, len(rows), batch_size):
        part = slice(first, min(first + batch_size, len(rows)))
        yield part, denoiser.denoise(corpus.read(rows[part]), corpus.context(rows[part]))


def denoise_rows(denoiser: Denoiser, corpus: Captures, rows: Rows, batch_size: int = 128) -> Spectra:
    """Denoised spectra of `rows`, float32 (M, L)."""
    out_ML = np.empty((len(rows), len(corpus.wavelength_nm)), dtype=np.float32)
    for part, values in batches(denoiser, corpus, rows, batch_size):
        out_ML[part] = values
    return out_ML


def denoise_manifest(
    corpus: Captures,
    manifest: Manifest,
    denoiser: Denoiser,
    out_dir: Path,
    *,
    layout: str = "packed",
    batch_size: int = 128,
) -> Path:
    """Write the denoised spectra of a manifest; rows that stand twice are computed and written once.

    `files`: `<relative_path stem>_denoised.npy` a capture. `packed`: `denoised.npy` (M, L) float32 with `manifest.csv`,
    row for row, written batch by batch (a memory map's pages would count as memory). Every file lands whole.
    """
    if layout not in LAYOUTS:
        raise BadInput(f"no layout {layout!r}", remedy=f"one of {', '.join(LAYOUTS)}")
    unique = manifest.unique()
    rows = corpus.rows(unique)
    if layout == "files":
        names = [out_dir / denoised_name(relative) for relative in unique.frame["relative_path"]]
        for part, values in batches(denoiser, corpus, rows, batch_size):
            for path, spectrum in zip(names[part], values, strict=True):
                with replacing(path) as temporary, open(temporary, "wb") as handle:
                    np.save(handle, spectrum)
        return out_dir
    shape = (len(rows), len(corpus.wavelength_nm))
    header = {"descr": np.dtype(np.float32).str, "fortran_order": False, "shape": shape}
    with replacing(out_dir / "denoised.npy") as temporary, open(temporary, "wb") as handle:
        np.lib.format.write_array_header_1_0(handle, header)
        for _, values in batches(denoiser, corpus, rows, batch_size):
            handle.write(np.ascontiguousarray(values, dtype=np.float32).data)
    write_manifest(unique.frame, out_dir / "manifest.csv")
    return out_dir
