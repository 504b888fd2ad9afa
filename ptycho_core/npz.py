"""Arrays with JSON metadata in one .npz: no pickle, whole or absent, equal content gives equal bytes.

Keys of a dataset (`train.npz`, `test.npz`, `<view>_<split>.npz`); n patterns of N x N pixels, object frame H x W:

| key | dtype, shape | what |
| --- | --- | --- |
| diffraction | float32 (n, N, N) | amplitude sqrt(counts)/s, DC at the centre |
| xcoords, ycoords | float64 (n,) | patch centres in object pixels, whole numbers |
| probeGuess | complex64 (N, N) | the known probe, sum of abs² = 1 |
| objectGuess | complex64 (H, W) | the flat start: 1+0j everywhere |
| scan_index | int64 (n,) | rows of the raw scan, increasing |
| groups | int64 (g, C) | views only: rows of this file |
| metadata | uint8 | JSON: see `contract.Metadata` |

`truth.npz`: objectTruth complex64 (H, W), train_pixels and test_pixels bool (H, W): the rectangles that the patches of
a half cover. `truth_train.npz`: objectTruth alone, NaN outside the train half's rectangle.
`simulated_raw.npz`: counts (uint16 or uint32) of every position, with xcoords, ycoords as they were drawn.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from study_core.bundles import bounded
from study_core.errors import UNREADABLE, BadInput
from study_core.files import encode, replacing

Arrays = Mapping[str, NDArray[Any]]
METADATA = "metadata"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # a zip entry has a time stamp: the earliest there is, so that equal content is equal


def write_arrays(path: Path, arrays: Arrays, metadata: Mapping[str, Any] | None = None) -> Path:
    """Replace `path` by the arrays, and by `metadata` as the JSON bytes of the key of that name.

    Deflated at level 1: amplitudes of photon counts have few distinct values and shrink to a fraction.
    """
    everything = dict(arrays)
    if metadata is not None:
        everything[METADATA] = np.frombuffer(encode(metadata), dtype=np.uint8)
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, array in everything.items():
            entry = zipfile.ZipInfo(f"{name}.npy", _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry._compresslevel = 1  # type: ignore[attr-defined]  # open() takes none, and writestr would copy
            with archive.open(entry, "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.asarray(array), allow_pickle=False)
    return path


def read_arrays(
    path: Path, *, remedy: str = "run with fresh to make it again"
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """(every array but the metadata, the metadata; empty where there is none).

    `remedy` is the next step where the file is no readable .npz: who made it decides that.

    Raises:
        BadInput: no such file, not an .npz, cut short, an array of Python objects, metadata that is not JSON.
    """
    arrays: dict[str, NDArray[Any]] = {}
    try:
        with np.load(path, allow_pickle=False) as archive:
            bounded(archive.zip, path)
            for name in archive.files:
                arrays[name] = _one(path, archive, name)
    except FileNotFoundError:
        raise BadInput("no such file", file=path, remedy="check the path, or run the phase that writes it") from None
    except BadInput:
        raise
    except UNREADABLE as error:
        why = str(error) if zipfile.is_zipfile(path) else "no zip archive of arrays, or cut short"
        raise BadInput(f"cannot be read as .npz ({why})", file=path, remedy=remedy) from None
    raw = arrays.pop(METADATA, None)
    return arrays, {} if raw is None else _metadata(path, raw)


def _one(path: Path, archive: Any, name: str) -> NDArray[Any]:
    try:
        array: NDArray[Any] = archive[name]
    except ValueError as error:
        if "pickle" in str(error).lower():
            raise BadInput(f"key {name} holds Python objects", file=path, remedy="store plain arrays") from None
        raise
    if not isinstance(array, np.ndarray):  # numpy hands over the bytes of a member that is no array
        raise BadInput(f"key {name} is no array", file=path, remedy="store plain arrays")
    return array


def _metadata(path: Path, raw: NDArray[Any]) -> dict[str, Any]:
    try:
        metadata = json.loads(raw.astype(np.uint8, copy=False).tobytes())
    except (ValueError, TypeError):
        raise BadInput("metadata is not JSON", file=path, remedy="run generate again") from None
    if not isinstance(metadata, dict):
        raise BadInput("metadata is no JSON object", file=path, remedy="run generate again")
    return metadata
