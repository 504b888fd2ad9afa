"""Which patterns are seen together: nearest neighbours, their subsets, and centres a minimum distance apart.

Points are (n, 2): y, x in px. Every distance question is asked of a k-d tree; the full matrix is kept for small sets.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from study_core.errors import BadInput

Points = NDArray[np.float64]
Branch = Literal["standard", "k_choose_c"]
EPSILON = 1e-9
"""px: distances that are equal on paper may differ by this much."""
_MATRIX_LIMIT = 20_000


@dataclass(frozen=True)
class Groups:
    """Rows (g, C) of the points, each row sorted, and how they were drawn."""

    rows: NDArray[np.int64]
    branch: Branch


def compute_spacing_matrix(points: Points) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(distances (n, n), nearest neighbour's distance (n,), infinite for a lone point).

    Raises:
        BadInput: more points than a matrix should hold; `nearest_spacing` asks a tree.
    """
    if len(points) > _MATRIX_LIMIT:
        raise BadInput(f"{len(points)} points make a matrix of {len(points) ** 2 * 8 / 2**30:.0f} GiB",
                       remedy="use nearest_spacing")  # fmt: skip
    distances = np.hypot(points[:, None, 0] - points[None, :, 0], points[:, None, 1] - points[None, :, 1])
    others = distances.copy()
    np.fill_diagonal(others, np.inf)
    return distances, others.min(axis=1, initial=np.inf)


def nearest_spacing(points: Points) -> NDArray[np.float64]:
    """Distance of each point to its nearest other, (n,); infinite for a lone point."""
    if len(points) < 2:
        return np.full(len(points), np.inf)
    return np.asarray(cKDTree(points).query(points, k=2)[0])[:, 1]


def neighbours(points: Points, k: int) -> NDArray[np.int64]:
    """The k nearest others of every point, nearest first, (n, k).

    Raises:
        BadInput: fewer than k others.
    """
    if len(points) <= k:
        raise BadInput(f"{len(points)} positions, too few for {k} neighbours", remedy="use a larger scan")
    found = np.asarray(cKDTree(points).query(points, k=k + 1)[1], dtype=np.int64)
    own = found == np.arange(len(points))[:, None]
    own[~own.any(axis=1), -1] = True  # more than k points at one place: it is not among its own nearest
    kept: NDArray[np.int64] = found[~own].reshape(len(points), k)
    return kept


def form_groups(points: Points, *, size: int, k: int, seed: int, n_groups: int = 0) -> Groups:
    """Groups of `size` near positions. One position: a group each.

    Up to one group per position (`standard`) is one random subset of each position's k neighbours. More (`k_choose_c`)
    are drawn without replacement from all subsets of all neighbourhoods.

    Raises:
        BadInput: k < size, too few positions, or more groups wanted than there are subsets.
    """
    n = len(points)
    wanted = n_groups or n
    if size == 1:
        return Groups(np.arange(n, dtype=np.int64)[:, None], "standard")
    if k < size:
        raise BadInput(f"K = {k} neighbours cannot fill a group of C = {size}", remedy="raise neighbors")
    near = neighbours(points, k)
    rng = np.random.default_rng(seed)
    if wanted <= n:
        seeds = np.arange(n) if wanted == n else np.sort(rng.choice(n, wanted, replace=False))
        rows = np.array([rng.choice(near[one], size, replace=False) for one in seeds], dtype=np.int64)
        return Groups(np.sort(rows, axis=1), "standard")
    subsets = np.array(list(itertools.combinations(range(k), size)))
    pool = np.unique(np.sort(near[:, subsets].reshape(-1, size), axis=1), axis=0)
    if wanted > len(pool):
        raise BadInput(f"{wanted} groups wanted, {len(pool)} subsets exist", remedy="lower n_groups or raise neighbors")
    return Groups(pool[np.sort(rng.choice(len(pool), wanted, replace=False))], "k_choose_c")


def greedy_centres(centres: Points, spacing: float) -> NDArray[np.int64]:
    """Rows of the centres that are kept: by y, then x, each that is `spacing` or more from all kept before it.

    Each kept centre blocks its surroundings in one query of a tree, so the cost grows with the kept, not with pairs.
    """
    if spacing <= 0 or not len(centres):
        return np.arange(len(centres), dtype=np.int64)
    tree = cKDTree(centres)
    blocked = np.zeros(len(centres), dtype=bool)
    kept = []
    for row in np.lexsort((centres[:, 1], centres[:, 0])):
        if blocked[row]:
            continue
        kept.append(row)
        blocked[tree.query_ball_point(centres[row], spacing - EPSILON)] = True
    return np.array(kept, dtype=np.int64)


def point_mask(points: Points, spacing: float) -> NDArray[np.bool_]:
    """The initiative's literal rule, reported and not used: a position whose nearest other is `spacing` away or more.

    It asks for a sparser scan than any that has neighbours to group, and so accepts none of a dense one.
    """
    return nearest_spacing(points) >= spacing - EPSILON


def packing_estimate(points: Points, spacing: float) -> float:
    """Bounding box over the area of a disc of diameter `spacing`: the size of answer to expect, no bound."""
    height, width = np.ptp(points, axis=0) if len(points) else (0.0, 0.0)
    return float(height * width / (math.pi * (spacing / 2) ** 2)) if spacing > 0 else math.inf


def disc_overlap(distances: NDArray[np.float64], diameter: float) -> NDArray[np.float64]:
    """Share of a disc that an equal disc covers whose centre is `distances` away: 1 at 0, 0 from `diameter` on."""
    x = np.clip(distances / diameter, 0, 1)
    return np.asarray(2 / math.pi * (np.arccos(x) - x * np.sqrt(1 - x * x)))


@dataclass(frozen=True)
class Overlap:
    """Mean overlap of the probe's disc, measured: between members of a group, between an image and its six nearest
    images, between a group's centre and the nearest other."""

    within_group: float
    image_knn6: float
    group_centre_nn: float


def measured_overlap(images: Points, groups: NDArray[np.int64], diameter: float) -> Overlap:
    """Of a view: `images` (m, 2), `groups` rows of them (g, C)."""
    members = images[groups]
    pairs = list(itertools.combinations(range(groups.shape[1]), 2))
    spans = [np.hypot(*(members[:, one] - members[:, other]).T) for one, other in pairs]
    within = float(disc_overlap(np.concatenate(spans), diameter).mean()) if spans else 1.0
    k = min(6, len(images) - 1)
    near = np.asarray(cKDTree(images).query(images, k=k + 1)[0])[:, 1:] if k > 0 else np.full((1, 1), np.inf)
    between = float(disc_overlap(nearest_spacing(members.mean(axis=1)), diameter).mean())
    return Overlap(within, float(disc_overlap(near, diameter).mean()), between)
