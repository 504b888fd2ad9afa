"""A plan of the study made definite, and receipts brought into its hub, without Prefect or a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptycho_core.design import get_study_design
from ptycho_core.evaluation.thresholds import MINI
from ptycho_core.layout import open_hub
from ptycho_core.matrix import build_training_jobs
from study_core.errors import BadInput
from study_core.files import read_json
from study_core.job import Content
from tasks.ptycho import steps
from tasks.ptycho.parameters import DoseOverlapPlan


@pytest.fixture(autouse=True)
def artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GATED_ARTIFACTS", str(tmp_path))
    return tmp_path


class Folder:
    """A job's surroundings."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.adjustments = folder, dict[str, Any]()

    def should_stop(self) -> bool:
        return False

    def progress(self, **fields: Any) -> None:
        pass


def plan(**fields: Any) -> DoseOverlapPlan:
    return DoseOverlapPlan.model_validate(fields)


def test_the_default_is_the_mini_study_of_one_dose(artifacts: Path) -> None:
    study = steps.open_study(plan())
    assert study.design.doses == (1e4,)
    assert study.design.scan == get_study_design("mini").scan
    assert study.thresholds == MINI
    assert study.layout.hub == artifacts.resolve() / "fly64" / study.design.sha256()[:12]
    assert open_hub(study.layout.hub) == study.design


def test_equal_plans_share_a_hub_and_its_data() -> None:
    one, same = steps.open_study(plan()), steps.open_study(plan(label="again", gates={"over_flat_min": 0.3}))
    assert one.layout == same.layout
    assert same.thresholds.over_flat_min == 0.3
    three = steps.open_study(plan(doses=[1e5, 1e3, 1e4, 1e4]))
    assert three.design.doses == (1e3, 1e4, 1e5)
    assert three.layout != one.layout
    first, other = (steps.generation(study, 1e4).spec for study in (one, three))
    assert first.arguments == other.arguments, "a study of more doses makes no patterns anew"


def test_what_a_plan_changes() -> None:
    study = steps.open_study(plan(size="smoke", training={"seeds": [3, 4], "iterations": 9}, iterative={"epochs": 5}))
    assert study.design.seeds.training == (3, 4)
    assert (study.design.iterations, study.design.epochs) == (9, 5)
    assert study.thresholds.cells == {}, "nobody has set floors for another training"
    fresh = steps.open_study(plan(base={"seed": 2024}))
    assert fresh.design.seeds.object == 2024
    assert fresh.thresholds == MINI


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"doses": [1e3, -1]}, "finite and above 0"),
        ({"gates": {"over_flatt_min": 1}}, "no option over_flatt_min"),
        ({"base": {"npz": "none.npz"}}, "no such file"),
        ({"training": {"seeds": [1, 1]}}, "seeds.training"),
    ],
)
def test_bad_plans(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        steps.open_study(plan(**fields))


def test_a_base_file_that_cannot_be_used_is_refused_before_a_job_is_made(tmp_path: Path) -> None:
    np.savez(tmp_path / "dark.npz", probeGuess=np.zeros((64, 64), complex), objectGuess=np.ones((400, 330), complex))
    with pytest.raises(BadInput, match=r"dark\.npz: key probeGuess is zero everywhere"):
        steps.open_study(plan(size="smoke", base={"npz": str(tmp_path / "dark.npz")}))


def test_a_generated_dose_lands_in_the_hub(tmp_path: Path) -> None:
    study = steps.open_study(plan(size="smoke"))
    ask = steps.generation(study, 1e4)
    done = ask.function(ask.request, Folder(tmp_path / "job"))
    steps.place_generated(study, done)
    layout = study.layout
    for view in ("baseline", "dense", "sparse"):
        assert layout.dataset(1e4, view, "test").exists()
    assert layout.metrics_copy(1e4, "dense").exists()
    assert read_json(layout.run_manifest)["dose_10000"]["sha256"]["truth"] == Content.of(layout.truth(1e4)).sha256
    jobs = build_training_jobs(study.design, layout.hub, arms=("pinn", "baseline"))
    asks = [steps.training(study, job) for job in jobs]
    assert [one.name for one in asks] == [
        "train-10000-baseline-gs1", "train-10000-baseline-gs1-supervised", "train-10000-dense-gs2",
        "train-10000-sparse-gs2",
    ]  # fmt: skip
    for one, job in zip(asks, jobs, strict=True):
        inputs = one.spec.inputs
        assert ("truth" in inputs) == (job.arm == "baseline")
        assert Content.of(layout.truth(1e4)).sha256 not in inputs.values(), "no training is given the test half's truth"


def test_a_view_that_is_skipped_now_leaves_no_older_file(tmp_path: Path) -> None:
    study = steps.open_study(plan(size="smoke"))
    ask = steps.generation(study, 1e4)
    done = ask.function(ask.request, Folder(tmp_path / "job"))
    steps.place_generated(study, done)
    thin = done.model_copy(
        update={"datasets": {name: value for name, value in done.datasets.items() if "sparse" not in name}}
    )
    steps.place_generated(study, thin)
    assert not study.layout.dataset(1e4, "sparse", "train").exists()
    assert study.layout.dataset(1e4, "dense", "train").exists()
