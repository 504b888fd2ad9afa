"""Grouping and spacing of many positions by a k-d tree, against the matrix of all distances.

    OMP_NUM_THREADS=1 python -m benchmarks.ptycho.geometry [--smoke] [--json FILE]

Positions lie on a jittered grid of 8 px. The matrix is asked for the nearest neighbour a thousand rows at a time, as
whole it would need 75 GiB at 10^5 positions; both answers are held against each other.
"""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import parser, report
from ptycho_core.grouping import form_groups, greedy_centres, nearest_spacing

STEP_PX, ROWS = 8.0, 1000


def positions(n: int) -> NDArray[np.float64]:
    """About n whole-pixel positions of a square scan."""
    side = math.isqrt(n)
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side), indexing="ij"), axis=-1).reshape(-1, 2) * STEP_PX
    return np.asarray(np.rint(grid + np.random.default_rng(0).uniform(-0.35, 0.35, grid.shape) * STEP_PX))


def nearest_by_matrix(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Every distance, the smallest of each row kept."""
    nearest = np.empty(len(points))
    for start in range(0, len(points), ROWS):
        rows = points[start : start + ROWS]
        squared = (rows[:, None, 0] - points[None, :, 0]) ** 2 + (rows[:, None, 1] - points[None, :, 1]) ** 2
        squared[np.arange(len(rows)), start + np.arange(len(rows))] = np.inf
        nearest[start : start + ROWS] = np.sqrt(squared.min(axis=1))
    return nearest


def greedy_by_matrix(centres: NDArray[np.float64], spacing: float) -> list[int]:
    """The plain rule: each centre against all that were kept."""
    kept: list[int] = []
    for row in np.lexsort((centres[:, 1], centres[:, 0])):
        if not kept or np.hypot(*(centres[kept] - centres[row]).T).min() >= spacing - 1e-9:
            kept.append(int(row))
    return kept


def measured(n: int) -> dict[str, Any]:
    points = positions(n)
    seconds: dict[str, float] = {}

    def timed(name: str, call: Any) -> Any:
        start = time.process_time()
        result = call()
        seconds[name] = time.process_time() - start
        return result

    tree = timed("nearest, tree", lambda: nearest_spacing(points))
    matrix = timed("nearest, matrix", lambda: nearest_by_matrix(points))
    groups = timed("groups of 4 of 7 neighbours, tree", lambda: form_groups(points, size=4, k=7, seed=123))
    centres = points[groups.rows].mean(axis=1)
    kept = timed("greedy selection at 19.2 px, tree", lambda: greedy_centres(centres, 19.2))
    plain = timed("greedy selection at 19.2 px, all kept", lambda: greedy_by_matrix(centres, 19.2))
    return {
        "positions": len(points), "cpu_seconds": {name: round(value, 4) for name, value in seconds.items()},
        "equal": bool(np.allclose(tree, matrix)) and kept.tolist() == plain, "kept": len(kept),
        "nearest_speedup": round(seconds["nearest, matrix"] / seconds["nearest, tree"], 1),
        "greedy_speedup": round(
            seconds["greedy selection at 19.2 px, all kept"] / seconds["greedy selection at 19.2 px, tree"], 1
        ),
    }  # fmt: skip


if __name__ == "__main__":
    options = parser(__doc__, "5,000 positions instead of 100,000").parse_args()
    report(measured(5_000 if options.smoke else 100_000), options)
