"""Archives of arrays that somebody else may have made: no pickle, bounded, and nothing in them but arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from study_core.bundles import bounded
from study_core.errors import BadInput


def read_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Every array of an .npz. Raises one of UNREADABLE, BadInput included, where it is none or too large."""
    with np.load(path, allow_pickle=False) as archive:
        bounded(archive.zip, path)
        arrays = {name: archive[name] for name in archive.files}
    if odd := [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]:
        raise BadInput(f"{odd[0]} is no array", file=path, remedy="store plain arrays")
    return arrays
