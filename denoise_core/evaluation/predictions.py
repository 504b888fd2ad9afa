"""Predictions from disk: a folder of `…_denoised.npy`, `denoised.npy` with its manifest, or `denoised.npz`.

Nothing that is read can run code: numpy's own pickles are refused, except the list of path
names in a packed file, which is read by an unpickler that knows numpy arrays of strings only.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from denoise_core.corpus.manifest import FIRST_ROW, Manifest, read_manifest
from study_core.bundles import bounded
from study_core.errors import UNREADABLE, BadInput
from study_core.files import replacing

Floats = NDArray[np.float64]

PACKED, _ARRAY = "denoised.npz", "denoised.npy"
_EXTRA = "denoise the panel alone: what is judged is the panel, whole and nothing else"
_SAFE = {
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}


def denoised_name(relative_path: str) -> str:
    """`a/b/rep_000.npy` → `a/b/rep_000_denoised.npy`: the published name of a denoised capture."""
    return relative_path.removesuffix(".npy") + "_denoised.npy"


def write_packed(path: Path, panel: Manifest, predictions_ML: ArrayLike) -> Path:
    """The panel's predictions as one file, float32, each capture once; `read_predictions` reads it."""
    unique_M = ~panel.frame["relative_path"].duplicated().to_numpy()
    names = panel.frame["relative_path"].to_numpy(dtype=str)[unique_M]
    with replacing(path) as temporary:
        np.savez(temporary, relative_path=names, denoised=np.asarray(predictions_ML, np.float32)[unique_M])
    return path


def read_packed(path: Path, panel: Manifest) -> NDArray[np.float32]:
    """What `write_packed` wrote, a row a panel row, whatever its values are: a diverged model's spectra, too."""
    with np.load(path, allow_pickle=False) as packed:
        at = {str(name): row for row, name in enumerate(packed["relative_path"])}
        return np.asarray(packed["denoised"][[at[name] for name in panel.frame["relative_path"]]])


def read_predictions(path: Path, panel: Manifest, *, points: int = 601) -> Floats:
    """One spectrum a panel row, float64 (M, points), in the panel's order.

    `path`: a folder as `denoise` leaves it, either layout: the panel's sub-folders with `STEM_denoised.npy` in them, or
    `denoised.npy` (K, points) beside the `manifest.csv` that names its rows; or a packed file `denoised.npz`, arrays
    `relative_path` (K,) and `denoised` (K, points), or the folder that holds one.
    Raises BadInput naming file and row where a spectrum is missing, is of no panel row, has another length, is not
    finite, or where two of one capture differ or are more than the panel's own twin rows.
    """
    path = Path(path)
    if path.is_dir() and (path / _ARRAY).exists():
        return _from_array(path, panel, points)
    if path.is_dir() and not (path / PACKED).exists():
        return _from_folder(path, panel, points)
    return _from_packed(path / PACKED if path.is_dir() else path, panel, points)


def _from_folder(folder: Path, panel: Manifest, points: int) -> Floats:
    read: dict[str, Floats] = {}
    names: dict[str, str] = {}
    for row, relative in enumerate(panel.frame["relative_path"], start=FIRST_ROW):
        if relative in read:
            continue
        file = folder / denoised_name(relative)
        names[denoised_name(relative)] = relative
        try:
            spectrum = np.load(file, allow_pickle=False)
        except FileNotFoundError as error:
            raise BadInput(
                "no prediction for this panel row", file=file, row=row, remedy="denoise the whole panel first"
            ) from error
        except UNREADABLE as error:
            raise BadInput(f"not a numpy array ({error})", file=file, row=row, remedy="write it again") from error
        read[relative] = _checked(spectrum, file, row, points)
    for file in sorted(folder.rglob(denoised_name("*.npy"))):
        if file.relative_to(folder).as_posix() not in names:
            raise BadInput("a prediction of no panel row", file=file, remedy=_EXTRA)
    return np.stack([read[relative] for relative in panel.frame["relative_path"]])


def _from_array(folder: Path, panel: Manifest, points: int) -> Floats:
    """The packed layout of `denoise`."""
    file, listing = folder / _ARRAY, read_manifest(folder / "manifest.csv")
    try:
        spectra = np.load(file, allow_pickle=False, mmap_mode="r")
    except UNREADABLE as error:
        raise BadInput(f"not a numpy array ({error})", file=file, remedy="denoise again") from error
    return _in_order(listing.frame["relative_path"].to_numpy(), spectra, file, panel, points)


def _from_packed(file: Path, panel: Manifest, points: int) -> Floats:
    try:
        with zipfile.ZipFile(file) as archive:
            bounded(archive, file)
            names = _string_array(archive.read("relative_path.npy"))
            spectra = np.load(io.BytesIO(archive.read("denoised.npy")), allow_pickle=False)
    except FileNotFoundError as error:
        raise BadInput("no such file", file=file, remedy="give a folder of predictions or a packed file") from error
    except UNREADABLE as error:
        raise BadInput(
            f"not a packed file of predictions ({error})",
            file=file,
            remedy="give an .npz of the arrays relative_path and denoised",
        ) from error
    return _in_order(names, spectra, file, panel, points)


def _in_order(names: NDArray[Any], spectra: NDArray[Any], file: Path, panel: Manifest, points: int) -> Floats:
    """Named spectra in the panel's order; each panel capture once, and nothing else."""
    if spectra.ndim != 2 or len(names) != len(spectra):
        raise BadInput(f"{len(names)} paths but spectra of shape {spectra.shape}", file=file, remedy="pack it again")
    place: dict[str, int] = {}
    known, times = Counter(panel.frame["relative_path"]), Counter[str]()
    for index, name in enumerate(map(str, names)):
        if (first := place.setdefault(name, index)) != index and not np.array_equal(spectra[first], spectra[index]):
            raise BadInput(f"two different predictions of {name}", file=file, row=index, remedy="keep one of them")
        if name not in known:
            raise BadInput(f"a prediction of no panel row: {name}", file=file, row=index, remedy=_EXTRA)
        times[name] += 1
        if times[name] > known[name]:
            raise BadInput(
                f"prediction number {times[name]} of {name}, which the panel has {known[name]} x",
                file=file,
                row=index,
                remedy=_EXTRA,
            )
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
