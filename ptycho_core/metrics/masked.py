"""Where a view saw the object: the pixels inside the probe's disc of at least one image. One mask for every arm."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ptycho_core.contract import Dataset
from ptycho_core.probes import probe_facts

_ROUNDING = 1e-9
Mask = NDArray[np.bool_]


def probe_disc(probe: NDArray[np.complexfloating], energy: float = 0.9) -> Mask:
    """Pixels (N, N) around the probe's centre of mass that hold the share `energy` of it."""
    facts = probe_facts(probe, energy)
    y, x = np.mgrid[: len(probe), : len(probe)]
    r2 = (y - facts.centre_y) ** 2 + (x - facts.centre_x) ** 2
    return np.asarray(r2 <= (facts.d90 / 2) ** 2 + _ROUNDING)


def lit_mask(data: Dataset, energy: float = 0.9) -> Mask:
    """Lit pixels (H, W) of the frame, by every pattern of the dataset."""
    disc, half = probe_disc(data.probe, energy), data.probe.shape[0] // 2
    lit = np.zeros(data.flat.shape, dtype=bool)
    for y, x in zip(data.y, data.x, strict=True):
        lit[y - half : y + half, x - half : x + half] |= disc
    return lit


def bounding_box(mask: Mask) -> tuple[slice, slice]:
    """The smallest rectangle that holds every lit pixel; of an empty mask an empty one."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
