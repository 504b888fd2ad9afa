"""Every rule of the dataset contract: the file as generated passes, each broken rule has its line."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ptycho_core.contract import read_dataset, validate_dataset_contract
from ptycho_core.design import StudyDesign
from ptycho_core.layout import Layout
from ptycho_core.npz import read_arrays, write_arrays
from study_core.errors import BadInput

Data = dict[str, Any]


@pytest.fixture
def whole(smoke_hub: Layout) -> Data:
    arrays, metadata = read_arrays(smoke_hub.dataset(1e4, "baseline", "test"))
    return {**arrays, "metadata": np.frombuffer(json.dumps(metadata).encode(), np.uint8)}


@pytest.fixture
def view(smoke_hub: Layout) -> Data:
    arrays, metadata = read_arrays(smoke_hub.dataset(1e4, "dense", "test"))
    return {**arrays, "metadata": metadata}


def check(data: Data, design: StudyDesign, view: str | None = None, **options: Any) -> None:
    gridsize = 1 if view is None else 2
    validate_dataset_contract(
        data, **{"split": "test", "view": view, "gridsize": gridsize, "design": design, **options}
    )


def test_what_generate_writes_keeps_the_contract(whole: Data, view: Data, smoke: StudyDesign):
    check(whole, smoke)
    check(view, smoke, "dense")


@pytest.mark.parametrize(
    "key", ["diffraction", "xcoords", "ycoords", "probeGuess", "objectGuess", "scan_index", "metadata"]
)
def test_missing_key(whole: Data, smoke: StudyDesign, key: str):
    del whole[key]
    with pytest.raises(BadInput, match=f"key {key} is missing"):
        check(whole, smoke)


def test_missing_groups(view: Data, smoke: StudyDesign):
    del view["groups"]
    with pytest.raises(BadInput, match="key groups is missing"):
        check(view, smoke, "dense")


def with_value(data: Data, key: str, row: int, value: object) -> None:
    data[key] = data[key].copy()
    data[key].flat[row] = value


def metadata_of(data: Data, **changes: object) -> None:
    data["metadata"] = {**json.loads(data["metadata"].tobytes()), **changes}


BROKEN: list[tuple[str, Callable[[Data], None], str]] = [
    ("dtype", lambda d: d.update(diffraction=d["diffraction"].astype(np.float64)), "got float64 with 3 axes"),
    ("shape", lambda d: d.update(xcoords=d["xcoords"][:-1]), "511 rows for 512 patterns"),
    ("NaN", lambda d: with_value(d, "diffraction", 4096 * 7, np.nan), "row 7: key diffraction holds NaN"),
    ("negative", lambda d: with_value(d, "diffraction", 0, -1e-3), "diffraction is negative"),
    ("counts", lambda d: d.update(diffraction=d["diffraction"] * 300), "looks like counts"),
    ("intensity", lambda d: d.update(diffraction=d["diffraction"] ** 2), "looks like intensity"),
    ("other dose", lambda d: metadata_of(d, s=json.loads(d["metadata"].tobytes())["s"] * 2), "mean total is"),
    ("truth", lambda d: with_value(d, "objectGuess", 5, 0.9 + 0.1j), "not flat"),
    ("half pixel", lambda d: with_value(d, "ycoords", 3, 300.5), "row 3: key ycoords: 300.5 is not a whole pixel"),
    ("outside", lambda d: with_value(d, "xcoords", 2, 9.0), "row 2: key xcoords: the patch at 9 leaves"),
    ("probe", lambda d: d.update(probeGuess=d["probeGuess"] * 2), "sum of abs² is 4"),
    ("order", lambda d: d.update(scan_index=d["scan_index"][::-1]), "does not increase"),
    ("cut", lambda d: metadata_of(d, split_row=300), "crosses the cut at row 300"),
    ("guard", lambda d: metadata_of(d, guard_px=63), "guard 63 px < N = 64"),
    ("split", lambda d: metadata_of(d, split="train"), "holds split train"),
    ("design", lambda d: metadata_of(d, design_sha256="0" * 64), "another study design"),
    ("metadata", lambda d: metadata_of(d, dose="many"), "metadata: dose"),
]


@pytest.mark.parametrize(("broken", "told"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_broken_rule(whole: Data, smoke: StudyDesign, broken: Callable[[Data], None], told: str):
    broken(whole)
    with pytest.raises(BadInput, match=told):
        check(whole, smoke)


def test_only_generate_and_the_baseline_may_carry_a_truth(whole: Data, smoke: StudyDesign):
    with_value(whole, "objectGuess", 5, 0.9 + 0.1j)
    check(whole, smoke, truth_allowed=True)


def test_overlap_across_the_cut_of_the_other_half(smoke_hub: Layout, smoke: StudyDesign):
    arrays, metadata = read_arrays(smoke_hub.dataset(1e4, "baseline", "train"))
    with pytest.raises(BadInput, match=r"row 0: the test patch at y .* crosses the cut"):
        check({**arrays, "metadata": {**metadata, "split": "test"}}, smoke)


GROUPS: list[tuple[str, Callable[[Data], None], str]] = [
    ("spacing", lambda d: d.update(groups=np.concatenate([d["groups"], d["groups"][:1]])), "group centres 0 px apart"),
    ("range", lambda d: with_value(d, "groups", 3, 999), "row 0: a group names a row outside 0..236"),
    ("sorted", lambda d: d.update(groups=d["groups"][:, ::-1]), "unsorted or repeats"),
    ("union", lambda d: d.update(groups=d["groups"][1:]), "patterns are in no group"),
    ("size", lambda d: d.update(groups=d["groups"][:, :3]), r"expected int64 \(g, 4\)"),
]


@pytest.mark.parametrize(("broken", "told"), [row[1:] for row in GROUPS], ids=[row[0] for row in GROUPS])
def test_broken_groups(view: Data, smoke: StudyDesign, broken: Callable[[Data], None], told: str):
    broken(view)
    with pytest.raises(BadInput, match=told):
        check(view, smoke, "dense")


def test_fewer_neighbours_than_members(view: Data, smoke: StudyDesign):
    few = smoke.model_copy(update={"neighbors": 3})
    with pytest.raises(BadInput, match="K = 3 < C = 4"):
        check(view, few, "dense")


def test_the_view_of_a_wider_spacing_is_not_this_one(view: Data, smoke: StudyDesign):
    with pytest.raises(BadInput, match=r"the view sparse needs 51\.2"):
        check({**view, "metadata": {**view["metadata"], "view": "sparse"}}, smoke, "sparse")


def test_pickled_object_is_refused(whole: Data, tmp_path):
    path = tmp_path / "evil.npz"
    np.savez(path, **{**whole, "objectGuess": np.array([{"a": 1}], dtype=object)}, allow_pickle=True)
    with pytest.raises(BadInput, match=r"evil.npz: key objectGuess holds Python objects"):
        read_dataset(path)


def test_equal_arrays_are_equal_bytes_and_come_back(whole: Data, tmp_path):
    one, other = (write_arrays(tmp_path / name, {"a": whole["diffraction"]}, {"x": 1}) for name in ("a.npz", "b.npz"))
    assert one.read_bytes() == other.read_bytes()
    arrays, metadata = read_arrays(one)
    assert metadata == {"x": 1}
    assert (arrays["a"] == whole["diffraction"]).all()


@pytest.mark.parametrize("damage", [lambda raw: raw[: len(raw) // 2], lambda raw: b"no zip", lambda raw: b""])
def test_damaged_file_is_named(tmp_path, damage: Callable[[bytes], bytes]):
    path = write_arrays(tmp_path / "a.npz", {"a": np.arange(1000)})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(BadInput, match=r"a\.npz: cannot be read"):
        read_arrays(path)
    with pytest.raises(BadInput, match="no such file"):
        read_arrays(tmp_path / "none.npz")
