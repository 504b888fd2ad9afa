"""Training: it learns, repeats bit for bit, resumes to the same bits, stops, and refuses copied noise."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptycho_core.bundle import read_bundle
from ptycho_core.check_loss import check_loss
from ptycho_core.contract import read_dataset
from ptycho_core.inference import explained, stitch
from ptycho_core.jobs.train import Train, Trained, train
from ptycho_core.layout import Layout
from ptycho_core.metrics.align import align, phase_and_amplitude
from ptycho_core.metrics.masked import lit_mask
from ptycho_core.metrics.msssim import ms_ssim
from ptycho_core.npz import read_arrays
from ptycho_core.recipes import Recipe
from ptycho_core.training import learning_rate
from study_core.errors import BadInput, NonFiniteLoss, TrainingInterrupted
from study_core.files import read_json, write_json
from study_core.job import Content


@dataclass
class Folder:
    """A job's surroundings; `stop` is asked before each iteration."""

    folder: Path
    stop: Callable[[], bool] = lambda: False
    adjustments: dict[str, Any] = field(
        default_factory=lambda: {
            "batch_halvings": 0,
            "lr_factor": 1.0,
            "grad_clip": None,
        }
    )
    told: list[dict[str, Any]] = field(default_factory=list)

    def should_stop(self) -> bool:
        return self.stop()

    def progress(self, **fields: Any) -> None:
        self.told.append(fields)


def request(layout: Layout, recipe: Recipe, view: str = "dense", dose: float = 1e4, truth: bool = False) -> Train:
    return Train(
        recipe=recipe, device="cpu",
        train=Content.of(layout.dataset(dose, view, "train")), test=Content.of(layout.dataset(dose, view, "test")),
        truth=Content.of(layout.truth_train(dose)) if truth else None,
    )  # fmt: skip


QUICK = Recipe(iterations=12, width=8, batch_patterns=8, state_every=5)
TINY: dict[str, Any] = {"iterations": 2, "width": 8, "batch_patterns": 4}


def test_a_job_delivers_a_bundle_its_history_and_its_figures(smoke_hub: Layout, tmp_path: Path):
    context = Folder(tmp_path)
    receipt = train(request(smoke_hub, QUICK), context)
    assert receipt.iterations_completed == 12
    assert receipt.deviance_ratio_test < receipt.deviance_ratio_flat
    assert receipt.loss_kind == "poisson_nll_heldout"
    with open(receipt.history.path) as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["iteration"]) for row in rows] == list(range(1, 13))
    assert [row["iteration"] for row in rows if row["validation_deviance_ratio"]] == ["5", "10"]
    record = read_json(receipt.record.path)
    assert record["truth_used"] == "none"
    assert record["backend"] == "pytorch"
    network = read_bundle(receipt.bundle.path)
    test = read_dataset(smoke_hub.dataset(1e4, "dense", "test"))
    assert explained(stitch(network, test).image, test) == pytest.approx(receipt.deviance_ratio_test, rel=1e-6)
    assert context.told[0] == {"done": 1, "total": 12, "loss": pytest.approx(float(rows[0]["nll"]))}
    assert not (tmp_path / "state.pt").exists()
    again = Folder(tmp_path)
    assert train(request(smoke_hub, QUICK), again) == receipt
    assert again.told == []


def test_two_runs_are_equal_and_a_stopped_one_too(smoke_hub: Layout, tmp_path: Path):
    whole = train(request(smoke_hub, QUICK), Folder(tmp_path / "whole"))
    again = train(request(smoke_hub, QUICK), Folder(tmp_path / "again"))
    assert again.bundle.sha256 == whole.bundle.sha256
    stopped = Folder(tmp_path / "stopped")
    stopped.stop = lambda: len(stopped.told) == 7
    with pytest.raises(TrainingInterrupted, match="stopped after 7 of 12"):
        train(request(smoke_hub, QUICK), stopped)
    killed = Folder(tmp_path / "stopped")

    def kill() -> bool:
        if len(killed.told) == 4:  # after iteration 11; the state of iteration 10 is on disk
            raise KeyboardInterrupt
        return False

    killed.stop = kill
    with pytest.raises(KeyboardInterrupt):
        train(request(smoke_hub, QUICK), killed)
    resumed = train(request(smoke_hub, QUICK), Folder(tmp_path / "stopped"))
    assert resumed.bundle.sha256 == whole.bundle.sha256
    assert resumed.history.path.read_bytes() == whole.history.path.read_bytes()


def test_jobs_are_pure_in_either_order(smoke_hub: Layout, tmp_path: Path):
    """No global state: another gridsize before or after a training changes nothing of it."""
    one, four = Recipe(gridsize=1, **TINY), Recipe(gridsize=2, **TINY)

    def run(name: str, recipe: Recipe) -> Trained:
        return train(request(smoke_hub, recipe), Folder(tmp_path / name))

    first = {"one": run("a", one), "four": run("b", four)}
    second = {"four": run("c", four), "one": run("d", one)}
    assert {name: done.bundle.sha256 for name, done in first.items()} == {
        name: done.bundle.sha256 for name, done in second.items()
    }
    assert first["one"].bundle.sha256 != first["four"].bundle.sha256


def test_seed_and_recipe_change_the_result(smoke_hub: Layout, tmp_path: Path):
    base = Recipe(**TINY)
    bundles = {
        name: train(request(smoke_hub, base.model_copy(update=change)), Folder(tmp_path / name)).bundle.sha256
        for name, change in {"as is": {}, "seed": {"seed": 1}, "thinning": {"thinning": 0.5}}.items()
    }
    assert len(set(bundles.values())) == 3


def test_training_cannot_open_the_truth(smoke_hub: Layout, tmp_path: Path):
    """With truth.npz unreadable a training ends with the same hash; only the Baseline has its train half."""
    quick = Recipe(**TINY)
    before = train(request(smoke_hub, quick), Folder(tmp_path / "before"))
    closed = {path: path.read_bytes() for path in (smoke_hub.truth(1e4),)}
    try:
        for path in closed:
            path.unlink()  # a mode of 000 does not stop root
        after = train(request(smoke_hub, quick), Folder(tmp_path / "after"))
        supervised = Recipe(arm="baseline", gridsize=1, thinning=1, **TINY)
        train(request(smoke_hub, supervised, "baseline", truth=True), Folder(tmp_path / "supervised"))
    finally:
        for path, content in closed.items():
            path.write_bytes(content)
    assert after.bundle.sha256 == before.bundle.sha256
    assert not any("truth" in str(path) for _, path in _paths(request(smoke_hub, quick)))


def _paths(given: Train) -> list[tuple[str, Path]]:
    return [(name, content.path) for name in ("train", "test", "truth") if (content := getattr(given, name))]


def test_arms_and_truth_do_not_mix(smoke_hub: Layout, tmp_path: Path):
    with pytest.raises(BadInput, match="must not see a truth"):
        train(request(smoke_hub, QUICK, truth=True), Folder(tmp_path))
    supervised = Recipe(arm="baseline", gridsize=1, iterations=2)
    with pytest.raises(BadInput, match="needs the train half's truth"):
        train(request(smoke_hub, supervised, "baseline"), Folder(tmp_path))
    with pytest.raises(BadInput, match="groups of 1, gridsize 2 needs 4"):
        train(request(smoke_hub, QUICK, "baseline"), Folder(tmp_path))
    other = request(smoke_hub, supervised, "baseline")
    test_truth = other.model_copy(update={"truth": other.train})
    with pytest.raises(BadInput, match="holds no objectTruth"):
        train(test_truth, Folder(tmp_path))


def test_a_loss_that_is_no_number_keeps_the_last_state(smoke_hub: Layout, tmp_path: Path):
    hot = QUICK.model_copy(update={"lr": 1e30, "warmup": 0, "clip": 1e30, "bf16": False})
    with pytest.raises(NonFiniteLoss, match="at iteration"):
        train(request(smoke_hub, hot), Folder(tmp_path))
    cooled = Folder(tmp_path / "cooled", adjustments={"lr_factor": 1e-33, "grad_clip": 1.0, "batch_halvings": 1})
    receipt = train(request(smoke_hub, hot), cooled)
    assert receipt.iterations_completed == 12
    recipe = read_json(receipt.record.path)["recipe"]
    assert (recipe["lr"], recipe["batch_patterns"]) == (pytest.approx(1e-3), 4)


def test_a_damaged_bundle_is_trained_again(smoke_hub: Layout, tmp_path: Path):
    quick = Recipe(**TINY)
    first = train(request(smoke_hub, quick), Folder(tmp_path))
    first.bundle.path.write_bytes(b"half")
    assert train(request(smoke_hub, quick), Folder(tmp_path)).bundle.sha256 == first.bundle.sha256
    write_json(first.record.path, {"belongs_to": "another"})
    assert train(request(smoke_hub, quick), Folder(tmp_path)).bundle.sha256 == first.bundle.sha256


def test_learning_rate():
    recipe = Recipe(iterations=300)
    assert learning_rate(recipe, 0) == pytest.approx(2e-3 / 30)
    assert learning_rate(recipe, 29) == pytest.approx(2e-3)
    assert learning_rate(recipe, 299) == pytest.approx(2e-5, rel=0.02)


@dataclass
class Scores:
    """A training's receipt, and how its image of the dense test view compares with the truth."""

    receipt: Trained
    phase_ms_ssim: float
    phase_mae: float
    amplitude_mae: float


def measured(layout: Layout, recipe: Recipe, folder: Path, dose: float) -> Scores:
    receipt = train(request(layout, recipe, dose=dose), Folder(folder))
    test = read_dataset(layout.dataset(dose, "dense", "test"))
    truth, mask = read_arrays(layout.truth(dose))[0]["objectTruth"], lit_mask(test)
    aligned = align(stitch(read_bundle(receipt.bundle.path), test).image, truth, mask)
    phase, wanted, amplitude, transmission = phase_and_amplitude(aligned.image, truth, mask)
    wrapped = np.angle(np.exp(1j * (phase - wanted)))[mask]
    return Scores(
        receipt, ms_ssim(phase, wanted, mask),
        float(np.abs(wrapped).mean()), float(np.abs(amplitude - transmission)[mask].mean()),
    )  # fmt: skip


@pytest.mark.slow
def test_forty_iterations_see_the_object(mini_hub: Layout, tmp_path: Path):
    found = measured(mini_hub, Recipe(iterations=40), tmp_path, 1e4)
    assert found.phase_ms_ssim == pytest.approx(0.664, abs=0.08)
    assert found.phase_mae == pytest.approx(0.182, abs=0.03)
    assert found.receipt.deviance_ratio_test == pytest.approx(1.213, abs=0.05)
    assert found.receipt.deviance_ratio_flat == pytest.approx(2.002, abs=0.002)


@pytest.mark.slow
def test_the_recipe_reaches_its_measured_quality(mini_hub: Layout, tmp_path: Path):
    found = measured(mini_hub, Recipe(), tmp_path, 1e4)
    assert found.phase_ms_ssim == pytest.approx(0.752, abs=0.04)
    assert found.phase_mae == pytest.approx(0.149, abs=0.015)
    assert found.amplitude_mae == pytest.approx(0.026, abs=0.005)
    assert found.receipt.deviance_ratio_test == pytest.approx(1.111, abs=0.03)


@pytest.mark.slow
def test_without_thinning_noise_is_copied_and_the_patch_ratio_says_so(mini_hub: Layout, tmp_path: Path):
    found = measured(mini_hub, Recipe(iterations=150, thinning=1.0), tmp_path, 1e3)
    assert found.receipt.deviance_ratio_patch == pytest.approx(0.721, abs=0.03)
    assert found.receipt.deviance_ratio_test > 0.95
    result = {**found.receipt.model_dump(), "status": "success"}
    cell = {"dose": 1e3, "view": "dense", "gridsize": 2}
    manifest = {"jobs": [{**cell, "seed": 0, "arm": "pinn", "result": result}]}
    check = check_loss(manifest, manifest, **cell)
    assert not check.passed
    assert "noise was copied" in check.line
