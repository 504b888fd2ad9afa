"""Predictions from disk: a folder of `…_denoised.npy`, or one packed `denoised.npz`.

Nothing that is read can run code: numpy's own pickles are refused, except the list of path
names in a packed file, which is read by an unpickler that knows numpy arrays of strings only.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from denoise_core.corpus.manifest import FIRST_ROW, Manifest
from denoise_core.evaluation.outputs import denoised_name
from study_core.errors import BadInput

Floats = NDArray[np.float64]

_PACKED = "denoised.npz"
_SAFE = {
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}


def read_predictions(path: Path, panel: Manifest, *, points: int = 601) -> Floats:
    """One spectrum a panel row, float64 (M, points), in the panel's order.

    `path`: a folder with the panel's sub-folders and `STEM_denoised.npy` in them, a folder that
    holds `denoised.npz`, or such a file: arrays `relative_path` (K,) and `denoised` (K, points).
    Raises BadInput naming file and panel row where a spectrum is missing, has another length, or is not finite.
    """
    path = Path(path)
    if path.is_dir() and not (path / _PACKED).exists():
        return _from_folder(path, panel, points)
    return _from_packed(path / _PACKED if path.is_dir() else path, panel, points)


def _from_folder(folder: Path, panel: Manifest, points: int) -> Floats:
    read: dict[str, Floats] = {}
    for row, relative in enumerate(panel.frame["relative_path"], start=FIRST_ROW):
        if relative in read:
            continue
        file = folder / denoised_name(relative)
        try:
            spectrum = np.load(file, allow_pickle=False)
        except FileNotFoundError as error:
            raise BadInput(
                "no prediction for this panel row", file=file, row=row, remedy="denoise the whole panel first"
            ) from error
        except (OSError, ValueError, EOFError) as error:
            raise BadInput(f"not a numpy array ({error})", file=file, row=row, remedy="write it again") from error
        read[relative] = _checked(spectrum, file, row, points)
    return np.stack([read[relative] for relative in panel.frame["relative_path"]])


def _from_packed(file: Path, panel: Manifest, points: int) -> Floats:
    try:
        with zipfile.ZipFile(file) as archive:
            names = _string_array(archive.read("relative_path.npy"))
            spectra = np.load(io.BytesIO(archive.read("denoised.npy")), allow_pickle=False)
    except FileNotFoundError as error:
        raise BadInput("no such file", file=file, remedy="give a folder of predictions or a packed file") from error
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, pickle.UnpicklingError) as error:
        raise BadInput(
            f"not a packed file of predictions ({error})",
            file=file,
            remedy="give an .npz of the arrays relative_path and denoised",
        ) from error
    if len(names) != len(spectra):
        raise BadInput(f"{len(names)} paths but {len(spectra)} spectra", file=file, remedy="pack it again")
    place = {str(name): index for index, name in enumerate(names)}
    found = np.empty((len(panel), points))
    for row, relative in enumerate(panel.frame["relative_path"]):
        if relative not in place:
            raise BadInput(
                f"no prediction of {relative}", file=file, row=row + FIRST_ROW, remedy="denoise the whole panel first"
            )
        found[row] = _checked(spectra[place[relative]], file, row + FIRST_ROW, points)
    return found


def _checked(spectrum: NDArray[Any], file: Path, row: int, points: int) -> Floats:
    if spectrum.shape != (points,) or spectrum.dtype.kind != "f":
        raise BadInput(
            f"a prediction of shape {spectrum.shape} and type {spectrum.dtype}, expected ({points},) floats",
            file=file,
            row=row,
            remedy="predict on the corpus's wavelength grid",
        )
    if not np.isfinite(spectrum).all():
        first = int(np.flatnonzero(~np.isfinite(spectrum))[0])
        raise BadInput(
            f"the prediction is not finite ({spectrum[first]} at sample {first})",
            file=file,
            row=row,
            remedy="a model that gives NaN cannot be audited: look for a diverged training",
        )
    return spectrum.astype(np.float64)


def _string_array(data: bytes) -> NDArray[Any]:
    """A 1-D array of strings from .npy bytes; numpy stores Python strings as a pickle, which is read restrictedly."""
    stream = io.BytesIO(data)
    major = np.lib.format.read_magic(stream)[0]
    header = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
    _, _, dtype = header(stream)
    if not dtype.hasobject:
        return np.asarray(np.load(io.BytesIO(data), allow_pickle=False))
    array = _StringsOnly(stream).load()
    if not isinstance(array, np.ndarray) or not all(isinstance(item, str) for item in array.ravel()):
        raise pickle.UnpicklingError("relative_path holds something that is no string")
    return array


class _StringsOnly(pickle.Unpickler):
    """Resolves what an object array of strings needs, and nothing that could run code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _SAFE:
            raise pickle.UnpicklingError(f"relative_path asks for {module}.{name}")
        return super().find_class(module, name)
