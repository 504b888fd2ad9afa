"""From design to validated halves and views, by stages that can be replaced; skips are results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptycho_core.contract import read_dataset
from ptycho_core.design import ScanDesign, StudyDesign
from ptycho_core.generation import Stages, generate_dose, simulate
from ptycho_core.jobs.generate import Generate, generate
from ptycho_core.layout import Layout
from ptycho_core.npz import read_arrays
from ptycho_core.views import generate_overlap_views
from study_core.errors import BadInput
from study_core.files import read_json, sha256_of


class Folder:
    """A job's surroundings."""

    adjustments: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, folder: Path) -> None:
        self.folder, self.told = folder, list[dict[str, Any]]()

    def should_stop(self) -> bool:
        return False

    def progress(self, **fields: Any) -> None:
        self.told.append(fields)


@pytest.fixture
def tiny(smoke: StudyDesign) -> StudyDesign:
    return smoke.model_copy(update={"scan": ScanDesign(half_rows=64, cols=96, step_px=8), "min_groups": 4})


def test_a_dose_is_written_whole_and_equal_twice(tmp_path: Path, tiny: StudyDesign):
    first, second = (generate_dose(tiny, 1e4, Layout(tmp_path / name)) for name in ("a", "b"))
    assert first == second
    layout = Layout(tmp_path / "a")
    assert first["sha256"]["truth"] == sha256_of(layout.truth(1e4))
    assert [line.split(":")[0] for line in layout.generate_log(1e4).read_text().splitlines()] == [
        "base", "scan", "simulate", "canonicalise", "split and validate", "split and validate",
    ]  # fmt: skip
    raw = read_arrays(layout.raw(1e4))[0]
    whole = read_arrays(layout.canonical(1e4))[0]
    assert (whole["ycoords"] == np.rint(raw["ycoords"])).all()
    assert (raw["ycoords"] != np.rint(raw["ycoords"])).any()
    train, test = (read_dataset(layout.dataset(1e4, "baseline", split)) for split in ("train", "test"))
    assert (train.counts() == raw["counts"][train.scan_index]).all()
    assert train.y.max() + 32 <= train.metadata.split_row <= test.y.min() - 32


def test_the_halves_of_the_truth_share_no_pixel(smoke_hub: Layout):
    truth, _ = read_arrays(smoke_hub.truth(1e4))
    assert not (truth["train_pixels"] & truth["test_pixels"]).any()
    half, _ = read_arrays(smoke_hub.truth_train(1e4))
    known = np.isfinite(half["objectTruth"])
    assert (known == truth["train_pixels"]).all()
    assert (half["objectTruth"][known] == truth["objectTruth"][known]).all()


def test_stages_can_be_replaced(tmp_path: Path, tiny: StudyDesign):
    seen: list[str] = []

    def counted(*given: Any) -> Any:
        seen.append("simulate")
        return simulate(*given)

    def refused(data: Any, **what: Any) -> None:
        seen.append(f"validate {what['split']}")
        raise BadInput("not today")

    with pytest.raises(BadInput, match="not today"):
        generate_dose(tiny, 1e4, Layout(tmp_path), stages=Stages(simulate=counted, validate=refused))
    assert seen == ["simulate", "validate train"]
    assert not Layout(tmp_path).dataset(1e4, "baseline", "train").exists()


def test_fewer_images_are_a_fixed_draw(tmp_path: Path, tiny: StudyDesign):
    few = tiny.model_copy(update={"n_images": 20})
    generate_dose(few, 1e4, Layout(tmp_path))
    train = read_dataset(Layout(tmp_path).dataset(1e4, "baseline", "train"))
    assert len(train.y) == 20
    assert (np.diff(train.scan_index) > 0).all()


def test_views_and_their_records(smoke_hub: Layout):
    bundle = read_json(smoke_hub.metrics_bundle(1e4, "dense"))
    assert set(bundle) == {"train", "test"}
    assert bundle == read_json(smoke_hub.metrics_copy(1e4, "dense"))
    for split in ("train", "test"):
        assert (smoke_hub.hub / bundle[split]["output_path"]).exists()
        statistics = read_json(smoke_hub.hub / bundle[split]["spacing_stats_path"])
        assert statistics["threshold"] == pytest.approx(19.2)
        assert statistics["n_accepted"] + statistics["n_rejected"] == statistics["n_groups_candidate"] == 512
    all_, dense = (read_dataset(smoke_hub.dataset(1e4, view, "test")) for view in ("baseline", "dense"))
    rows = np.searchsorted(all_.scan_index, dense.scan_index)
    assert (all_.diffraction[rows] == dense.diffraction).all()
    assert (all_.y[rows] == dense.y).all()


def test_a_thin_view_is_a_skip_with_its_reason(tmp_path: Path, tiny: StudyDesign):
    thin = tiny.model_copy(update={"min_groups": 12})
    layout = Layout(tmp_path)
    generate_dose(thin, 1e4, layout)
    skips = generate_overlap_views(thin, layout, doses=(1e4,))
    sparse = [skip for skip in skips if skip["view"] == "sparse"]
    assert [skip["split"] for skip in sparse] == ["train", "test"]
    assert sparse[0]["n_accepted"] < sparse[0]["min_groups"] == 12
    assert "51.2 px apart in the train half, 12 are needed" in sparse[0]["reason"]
    assert not layout.dataset(1e4, "sparse", "train").exists()
    assert read_json(layout.skip(1e4, "sparse", "train")) == sparse[0]
    enough = thin.model_copy(update={"min_groups": 1})
    generate_dose(enough, 1e4, layout)
    assert generate_overlap_views(enough, layout, doses=(1e4,)) == []
    assert not layout.skip(1e4, "sparse", "train").exists()


def test_the_geometry_of_the_fly64_scan_skips_the_sparse_view(smoke: StudyDesign):
    from ptycho_core.scan import grid_scan
    from ptycho_core.views import candidates, select

    fly = StudyDesign(scan=ScanDesign(half_rows=83, cols=165, step_px=1.63))
    scan = grid_scan(fly)
    points = np.rint(np.stack([scan.y, scan.x], axis=1))[scan.rows("train")]
    groups = candidates(points, fly)
    accepted = {view: select(points, groups, view, fly, 83.0).statistics["n_accepted"] for view in fly.views}
    assert accepted["sparse"] < fly.min_groups
    assert accepted["dense"] < 20


def test_missing_dataset_names_the_phase(tmp_path: Path, tiny: StudyDesign):
    with pytest.raises(BadInput, match="run generate for this dose first"):
        generate_overlap_views(tiny, Layout(tmp_path))


def test_the_job_delivers_by_name(tmp_path: Path, tiny: StudyDesign):
    context = Folder(tmp_path)
    receipt = generate(Generate(design=tiny.for_data(1e4), dose=1e4), context)
    assert {"baseline_train", "baseline_test", "dense_train", "dense_test"} <= set(receipt.datasets)
    assert receipt.entry == read_json(Layout(tmp_path).run_manifest)["dose_10000"]
    assert receipt.truth.checked() == Layout(tmp_path).truth(1e4)
    assert context.told[-1] == {"done": 2, "total": 2, "stage": "done"}
    assert all(sha256_of(content.path) == content.sha256 for content in receipt.records.values())
