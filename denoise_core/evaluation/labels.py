"""Labels of rows: which rows are whose."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.str_]


def each(label_M: Labels) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Label and its row numbers, in the order of first appearance."""
    names, first, inverse = np.unique(label_M, return_index=True, return_inverse=True)
    for position in np.argsort(first):
        yield str(names[position]), np.flatnonzero(inverse == position)
