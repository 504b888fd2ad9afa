"""The study as data: the initiative's constants, round trip, and every rule that a design can break."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from ptycho_core.design import MetricsDesign, ScanDesign, StudyDesign, get_study_design
from ptycho_core.layout import Layout, claim_hub, open_hub
from study_core.errors import BadInput


def test_study_design_constants():
    design = get_study_design()
    assert design.doses == (1e3, 1e4, 1e5)
    assert design.gridsizes == (1, 2)
    assert (design.neighbors, design.N, design.views) == (7, 128, {"dense": 0.7, "sparse": 0.2})
    assert (design.split_axis, design.guard_px) == ("y", 128)
    seeds = design.seeds
    assert (seeds.simulation, seeds.grouping, seeds.subsampling, seeds.training) == (42, 123, 456, (0, 1, 2))
    assert design.metrics == MetricsDesign(ms_ssim_sigma=1.0, emphasize_phase=True, frc_threshold=0.5)
    assert design.metrics.report_amplitude


@pytest.mark.parametrize(("size", "dense", "sparse"), [("full", 38.4, 102.4), ("mini", 19.2, 51.2)])
def test_spacing_is_derived(size: Any, dense: float, sparse: float):
    design = get_study_design(size)
    assert design.spacing("dense") == pytest.approx(dense, abs=1e-12)
    assert design.spacing("sparse") == pytest.approx(sparse, abs=1e-12)
    assert "spacing" not in design.to_dict()


@pytest.mark.parametrize("size", ["full", "cluster64", "mini", "smoke"])
def test_study_design_to_dict(size: Any):
    design = get_study_design(size)
    again = StudyDesign.model_validate(design.to_dict())
    assert again == design
    assert again.sha256() == design.sha256()


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"neighbors": 3}, "neighbors: got 3, expected >= C = 4"),
    ({"views": {"dense": 1.0}}, "0 <= f < 1"),
    ({"views": {"dense": -0.1}}, "0 <= f < 1"),
    ({"views": {}}, "views"),
    ({"views": {"Dense2": 0.5}}, "letters a-z"),
    ({"doses": ()}, "doses: got [], expected at least one"),
    ({"doses": (1e3, float("nan"))}, "finite and above 0"),
    ({"doses": (1e3, -1.0)}, "finite and above 0"),
    ({"doses": (1000.0, 1000.5)}, "unique as whole photons"),
    ({"N": 31, "guard_px": 128}, "even and >= 32"),
    ({"guard_px": 127}, "guard_px: got 127, expected >= N = 128"),
    ({"N": 64, "guard_px": 64, "metrics": {"ms_ssim_levels": 4}}, "metrics.ms_ssim_levels: got 4"),
    ({"seeds": {"training": (1, 1)}}, "seeds.training"),
    ({"base": {"tile": True}}, "base"),
]


@pytest.mark.parametrize(("change", "told"), BROKEN)
def test_study_design_validation(change: dict[str, Any], told: str):
    with pytest.raises(ValidationError) as caught:
        StudyDesign.model_validate(change)
    assert told in str(caught.value)


def test_the_data_of_a_dose_do_not_depend_on_how_they_are_judged():
    one = get_study_design("mini")
    other = one.model_copy(update={"metrics": MetricsDesign(ms_ssim_sigma=2.0), "iterations": 7, "doses": (1e4, 5e4)})
    assert one.sha256() != other.sha256()
    assert one.for_data(1e4).sha256() == other.for_data(1e4).sha256()
    moved = one.model_copy(update={"scan": ScanDesign(half_rows=192, cols=384, step_px=7)})
    assert moved.for_data(1e4).sha256() != one.for_data(1e4).sha256()


def test_a_hub_holds_one_study(tmp_path):
    claim_hub(tmp_path, get_study_design("mini"))
    claim_hub(tmp_path, get_study_design("mini"))
    assert open_hub(tmp_path) == get_study_design("mini")
    with pytest.raises(BadInput, match="holds another study"):
        claim_hub(tmp_path, get_study_design("smoke"))


def test_no_two_cells_share_a_folder(tmp_path):
    layout = Layout(tmp_path)
    folders = [
        layout.training(dose, view, gridsize, seed=seed, arm=arm)
        for dose in (1e3, 1e4)
        for view, gridsize in (("baseline", 1), ("dense", 2), ("sparse", 2))
        for seed in (0, 1)
        for arm in ("pinn", "baseline")
    ]
    assert len(set(folders)) == len(folders)
