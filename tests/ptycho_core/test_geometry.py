"""Scan, groups and views against specified counts: numpy's streams are pinned, so they are exact."""

from __future__ import annotations

import numpy as np
import pytest

from ptycho_core.design import ScanDesign, Split, StudyDesign, get_study_design
from ptycho_core.grouping import (
    compute_spacing_matrix,
    disc_overlap,
    form_groups,
    greedy_centres,
    nearest_spacing,
    point_mask,
)
from ptycho_core.scan import frame, grid_scan
from ptycho_core.views import candidates, select
from study_core.errors import BadInput


def scan_of(n: int, half_rows: float, cols: float, step: float) -> StudyDesign:
    return StudyDesign(N=n, guard_px=n, scan=ScanDesign(half_rows=half_rows, cols=cols, step_px=step))


def halves(design: StudyDesign) -> dict[Split, np.ndarray]:
    scan = grid_scan(design)
    points = np.rint(np.stack([scan.y, scan.x], axis=1))
    return {"train": points[scan.rows("train")], "test": points[scan.rows("test")]}


def test_mini_scan(mini: StudyDesign):
    scan, parts = grid_scan(mini), halves(mini)
    assert frame(mini) == (516, 452)
    assert (len(scan.y), len(parts["train"]), len(parts["test"])) == (2688, 1152, 1152)
    assert parts["test"][0].tolist() == [296, 39]
    assert (parts["train"][:, 0].min(), parts["train"][:, 0].max()) == (35, 225)
    assert (parts["test"][:, 0].min(), parts["test"][:, 0].max()) == (291, 481)
    assert not (scan.in_train & scan.in_test).any()


COUNTS = [
    # n, half, cols, step, positions, (train, test), dense (groups, images) train, test, sparse train, test
    ((64, 192, 384, 8), 2688, (1152, 1152), ((145, 548), (142, 545)), ((29, 116), (27, 108))),
    ((64, 128, 256, 8), 1280, (512, 512), ((63, 236), (63, 237)), ((12, 48), (12, 48))),
    ((64, 256, 512, 8), 4608, (2048, 2048), ((252, 949), (255, 966)), ((49, 196), (49, 196))),
    ((64, 320, 640, 8), 7040, (3200, 3200), ((395, 1503), (397, 1507)), ((73, 292), (75, 300))),
    ((64, 320, 640, 6), 12519, (5689, 5671), ((432, 1723), (431, 1720)), ((77, 308), (78, 312))),
    ((128, 640, 1280, 16), 7040, (3200, 3200), ((399, 1524), (400, 1525)), ((73, 292), (73, 292))),
]


@pytest.mark.parametrize(("geometry", "positions", "split", "dense", "sparse"), COUNTS)
def test_group_and_image_counts(geometry, positions, split, dense, sparse):
    design = scan_of(*geometry)
    parts = halves(design)
    assert len(grid_scan(design).y) == positions
    assert tuple(len(part) for part in parts.values()) == split
    for view, expected in (("dense", dense), ("sparse", sparse)):
        for part, (groups, images) in zip(parts.values(), expected, strict=True):
            statistics = select(part, candidates(part, design), view, design, 41.5).statistics
            assert (statistics["n_accepted"], statistics["n_images"]) == (groups, images)


def test_mini_view_statistics(mini: StudyDesign):
    test = halves(mini)["test"]
    groups = candidates(test, mini)
    dense, sparse = (select(test, groups, view, mini, 41.51) for view in ("dense", "sparse"))
    assert dense.groups[0].tolist() == [22, 25, 26, 71]
    for selection, spacing in (
        (dense.statistics, (19.21, 20.41, 20.27, 23.77)),
        (sparse.statistics, (51.27, 52.81, 52.15, 56.95)),
    ):
        found = [selection[f"{name}_spacing"] for name in ("min", "mean", "median", "max")]
        assert found == pytest.approx(spacing, abs=0.006)
    assert dense.statistics["packing_estimate"] == pytest.approx(232.3, abs=0.05)
    assert sparse.statistics["packing_estimate"] == pytest.approx(32.3, abs=0.05)
    assert dense.statistics["point_mask_accepted"] == sparse.statistics["point_mask_accepted"] == 0
    for selection, (within, images, centres) in ((dense, (0.596, 0.614, 0.401)), (sparse, (0.574, 0.291, 0.0))):
        overlap = selection.statistics["overlap"]
        assert overlap["within_group"] == pytest.approx(within, abs=0.001)
        assert overlap["image_knn6"] == pytest.approx(images, abs=0.001)
        assert overlap["group_centre_nn"] == pytest.approx(centres, abs=0.001)
    assert sum(dense.statistics["histogram"]["counts"]) == 142


def test_lattice():
    side = np.arange(4) * 10.0
    lattice = np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2)
    spacings = (10, 10.0001, 19.2, 20, 20.01, 51.2)
    assert [len(greedy_centres(lattice, spacing)) for spacing in spacings] == [16, 8, 4, 4, 4, 1]


def test_greedy_selection_is_the_plain_rule():
    rng = np.random.default_rng(0)
    centres = rng.uniform(0, 200, (300, 2))
    kept: list[int] = []
    for row in np.lexsort((centres[:, 1], centres[:, 0])):
        if all(np.hypot(*(centres[row] - centres[other])) >= 19.2 for other in kept):
            kept.append(int(row))
    assert greedy_centres(centres, 19.2).tolist() == kept
    assert nearest_spacing(centres[kept]).min() >= 19.2


def test_tree_and_matrix_agree():
    points = np.random.default_rng(1).uniform(0, 100, (200, 2))
    distances, nearest = compute_spacing_matrix(points)
    assert distances.shape == (200, 200)
    np.testing.assert_allclose(nearest, nearest_spacing(points))
    assert (point_mask(points, 5.0) == (nearest >= 5.0)).all()
    assert nearest_spacing(points[:1]).tolist() == [np.inf]
    with pytest.raises(BadInput, match="use nearest_spacing"):
        compute_spacing_matrix(np.zeros((20_001, 2)))


def test_groups_are_subsets_of_neighbourhoods():
    points = np.random.default_rng(2).uniform(0, 100, (80, 2))
    drawn = form_groups(points, size=4, k=7, seed=123)
    assert drawn.branch == "standard"
    assert drawn.rows.shape == (80, 4)
    assert (np.diff(drawn.rows, axis=1) > 0).all()
    near = np.argsort(compute_spacing_matrix(points)[0], axis=1)[:, 1:8]
    assert all(set(group) <= set(around) for group, around in zip(drawn.rows, near, strict=True))
    again = form_groups(points, size=4, k=7, seed=123)
    assert (again.rows == drawn.rows).all()


def test_more_groups_than_positions_are_drawn_from_all_subsets():
    lone = form_groups(np.random.default_rng(3).uniform(0, 9, (8, 2)), size=4, k=7, seed=1, n_groups=35)
    assert lone.branch == "k_choose_c"
    assert len(np.unique(lone.rows, axis=0)) == 35
    with pytest.raises(BadInput, match="K = 3"):
        form_groups(np.zeros((9, 2)), size=4, k=3, seed=1)
    with pytest.raises(BadInput, match="subsets exist"):
        form_groups(np.random.default_rng(3).uniform(0, 9, (8, 2)), size=4, k=7, seed=1, n_groups=10_000)


def test_disc_overlap():
    found = disc_overlap(np.array([0, 0.25, 0.5, 0.75, 1, 2]) * 40, 40)
    assert found == pytest.approx([1, 0.685, 0.391, 0.144, 0, 0], abs=0.0005)


def test_jitter_never_leaves_the_field():
    design = get_study_design("smoke").model_copy(
        update={"scan": ScanDesign(half_rows=128, cols=256, step_px=8, jitter=2)}
    )
    scan, (height, width) = grid_scan(design), frame(design)
    half = design.N // 2
    assert np.rint(scan.y).min() >= half
    assert np.rint(scan.y).max() <= height - half
    assert np.rint(scan.x).max() <= width - half
