"""Where the probe stands: a jittered grid over two halves and the guard between them, or a file's own positions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ptycho_core.design import Split, StudyDesign
from study_core.errors import BadInput

MARGIN_PX = 2  # pixels between the outermost patch and the frame: iterative codes want some


@dataclass(frozen=True)
class Scan:
    """Positions as drawn, px of the object frame, and which half each belongs to."""

    y: NDArray[np.float64]
    x: NDArray[np.float64]
    split_row: int
    """Row of the frame that no patch of either half crosses: train patches end before it, test patches begin there."""
    in_train: NDArray[np.bool_]
    in_test: NDArray[np.bool_]

    def rows(self, split: Split) -> NDArray[np.int64]:
        """Rows of a half, increasing."""
        return np.flatnonzero(self.in_train if split == "train" else self.in_test).astype(np.int64)


def frame(design: StudyDesign) -> tuple[int, int]:
    """(H, W) of the object that holds every patch of the design's scan."""
    border = design.N + 2 * MARGIN_PX
    scan = design.scan
    return int(np.ceil(2 * scan.half_rows + design.guard_px)) + border, int(np.ceil(scan.cols)) + border


def grid_scan(design: StudyDesign) -> Scan:
    """The design's scan: a square grid at half-step offsets, each position shifted by up to `jitter` steps."""
    scan, border = design.scan, design.N / 2 + MARGIN_PX
    height = 2 * scan.half_rows + design.guard_px
    ys, xs = np.arange(scan.step_px / 2, height, scan.step_px), np.arange(scan.step_px / 2, scan.cols, scan.step_px)
    grid = np.stack(np.meshgrid(ys, xs, indexing="ij"), axis=-1).reshape(-1, 2)
    rng = np.random.default_rng(design.seeds.simulation)
    placed = np.clip(grid + rng.uniform(-scan.jitter, scan.jitter, grid.shape) * scan.step_px, 0, [height, scan.cols])
    rows = np.rint(placed[:, 0] + border) - border
    in_train, in_test = rows < scan.half_rows, rows >= scan.half_rows + design.guard_px
    split_row = int(scan.half_rows + border + design.guard_px / 2)
    return Scan(placed[:, 0] + border, placed[:, 1] + border, split_row, in_train, in_test)


def file_scan(y: NDArray[np.float64], x: NDArray[np.float64], design: StudyDesign) -> Scan:
    """A file's positions, cut at the middle row: a half holds the positions whose guard does not reach the other.

    Raises:
        BadInput: a half is left empty.
    """
    rounded = np.rint(y)
    split_row = round(float(rounded.min() + rounded.max()) / 2)
    in_train = rounded + design.guard_px / 2 <= split_row
    in_test = rounded - design.guard_px / 2 >= split_row
    if not (in_train.any() and in_test.any()):
        what = f"the scan spans {np.ptp(rounded):.0f} px in y; with a guard of {design.guard_px} px a half is empty"
        raise BadInput(what, remedy="use the design's scan (leave --scan out)")
    return Scan(y.astype(np.float64), x.astype(np.float64), split_row, in_train, in_test)
