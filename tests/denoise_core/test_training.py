"""Training stops, dies and goes on: the weights at the end are the same bits."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from denoise_core.corpus.manifest import Manifest, manifest_of
from denoise_core.corpus.store import Corpus, open_corpus
from denoise_core.model.checkpoints import load_model
from denoise_core.optimising import adjusted, learning_rate
from denoise_core.plans import DataPlan, ModelPlan, OptimiserPlan, TrainingPlan
from denoise_core.training import Hooks, TrainingInputs, TrainingReceipt, train
from denoise_core.training_files import GpuUse
from study_core.errors import BadInput, NonFiniteLoss, TrainingInterrupted


@pytest.fixture(scope="module")
def inputs(mini_corpus_root: Path) -> TrainingInputs:
    """Six groups of two treatments to train, two to validate: seconds for a network of 8 channels."""
    corpus = open_corpus(mini_corpus_root)
    groups = corpus.manifest("manifest").groups
    chosen = [group for group in groups if group.startswith(("treatment_1/", "treatment_3/sample_B"))]
    return TrainingInputs(corpus, _rows(corpus, chosen[:6]), _rows(corpus, chosen[6:8]))


def _rows(corpus: Corpus, groups: list[str]) -> Manifest:
    frame = corpus.manifest("manifest").frame
    return manifest_of(frame[frame["group_id"].isin(groups)].reset_index(drop=True))


@pytest.fixture(scope="module")
def plan() -> TrainingPlan:
    return TrainingPlan(
        name="tiny",
        model=ModelPlan(d_model=8, n_layers=1, d_state=4, film_hidden_dim=4, head="residual", base="lmmse"),
        data=DataPlan(),
        optimiser=OptimiserPlan(
            epochs=4,
            early_stop_patience=9,
            bs=16,
            steps_per_epoch=3,
            lr=1e-3,
            lr_min=1e-4,
            warmup_epochs=1,
            ema_decay=0.9,
        ),
    )


def run(plan: TrainingPlan, inputs: TrainingInputs, folder: Path, **hooks: Any) -> TrainingReceipt:
    log = folder / plan.files.audit_log
    log.parent.mkdir(parents=True, exist_ok=True)
    log.touch()
    return train(plan, inputs, folder, hooks=Hooks(**hooks))


def stop_after(steps: int) -> Callable[[], bool]:
    left = iter([False] * steps + [True] * 10_000)
    return lambda: next(left)


def weights(receipt: TrainingReceipt) -> dict[str, torch.Tensor]:
    state = torch.load(Path(receipt.checkpoint).parent / "state.pt", weights_only=True)
    return {**state["model_state"], **{f"average.{name}": value for name, value in state["average"].items()}}


@pytest.fixture(scope="module")
def uninterrupted(
    plan: TrainingPlan, inputs: TrainingInputs, tmp_path_factory: pytest.TempPathFactory
) -> TrainingReceipt:
    return run(plan, inputs, tmp_path_factory.mktemp("whole"))


def test_five_interruptions_end_in_the_same_bits(
    plan: TrainingPlan, inputs: TrainingInputs, uninterrupted: TrainingReceipt, tmp_path: Path
) -> None:
    for steps in (1, 2, 4, 5, 3):  # inside the first epoch, at its end, and in the middle of later ones
        with pytest.raises(TrainingInterrupted):
            run(plan, inputs, tmp_path, should_stop=stop_after(steps))
    receipt = run(plan, inputs, tmp_path)
    ours, theirs = weights(receipt), weights(uninterrupted)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert receipt.sha256 == uninterrupted.sha256
    metrics = pd.read_csv(receipt.metrics_csv)
    assert metrics["epoch"].tolist() == [0, 1, 2, 3, 4]
    pd.testing.assert_frame_equal(metrics, pd.read_csv(uninterrupted.metrics_csv))


def test_weights_moved_and_average_lags(uninterrupted: TrainingReceipt) -> None:
    """The comparison above would hold for a training that does nothing."""
    state = torch.load(Path(uninterrupted.checkpoint).parent / "state.pt", weights_only=True)
    raw, average = state["model_state"], state["average"]
    assert raw["output_proj.weight"].abs().max() > 0
    assert not torch.equal(raw["output_proj.weight"], average["output_proj.weight"])


def test_finished_training_runs_no_epoch_again(
    plan: TrainingPlan, inputs: TrainingInputs, uninterrupted: TrainingReceipt
) -> None:
    folder = Path(uninterrupted.checkpoint).parents[2]
    again = run(plan, inputs, folder, should_stop=lambda: pytest.fail("a finished training took a step"))
    assert again.sha256 == uninterrupted.sha256


def test_epoch_zero_is_a_candidate(plan: TrainingPlan, inputs: TrainingInputs, tmp_path: Path) -> None:
    """A rate that ruins the network leaves the untrained one, which is its base, as the best."""
    rate = {"lr": 3.0, "lr_min": 3.0, "epochs": 1, "warmup_epochs": 0}
    plain = {"dip_loss": False, "curvature_weight_roi": 0.0}  # nothing that could become NaN on the way
    ruinous = plan.model_copy(
        update={
            "loss": plan.loss.model_copy(update=plain),
            "optimiser": plan.optimiser.model_copy(update=rate),
        }
    )
    receipt = run(ruinous, inputs, tmp_path)
    assert receipt.best_epoch == 0
    assert not receipt.beats_base
    assert load_model(Path(receipt.checkpoint)).model.output_proj.weight.abs().max() == 0


def test_an_epoch_chosen_elsewhere_is_kept_alone_and_is_the_one_of_the_whole_training(
    plan: TrainingPlan, inputs: TrainingInputs, uninterrupted: TrainingReceipt, tmp_path: Path
) -> None:
    metrics = pd.read_csv(uninterrupted.metrics_csv)
    wanted = next(epoch for epoch in (1, 2) if epoch != uninterrupted.best_epoch)  # not what validation would take
    receipt = run(plan, replace(inputs, epoch=wanted), tmp_path)
    assert (receipt.best_epoch, receipt.epochs_run) == (wanted, wanted)
    assert [Path(path).name for path in receipt.top] == [f"mamba_tiny_uv_epoch_{wanted:04d}.pt"]
    pd.testing.assert_frame_equal(
        pd.read_csv(receipt.metrics_csv).drop(columns="best_epoch"),
        metrics[: wanted + 1].drop(columns="best_epoch"),
    )
    assert load_model(Path(receipt.checkpoint)).epoch == wanted


def test_patience_does_not_end_a_training_before_the_epoch_chosen_elsewhere(
    plan: TrainingPlan, inputs: TrainingInputs, tmp_path: Path
) -> None:
    impatient = plan.model_copy(
        update={"optimiser": plan.optimiser.model_copy(update={"early_stop_patience": 1, "min_improvement_deg": 99.0})}
    )
    assert run(impatient, inputs, tmp_path / "own").epochs_run < 3
    assert run(impatient, replace(inputs, epoch=3), tmp_path / "chosen").best_epoch == 3


def test_epoch_zero_may_be_chosen_elsewhere_and_one_past_the_plan_may_not(
    plan: TrainingPlan, inputs: TrainingInputs, tmp_path: Path
) -> None:
    assert run(plan, replace(inputs, epoch=0), tmp_path).epochs_run == 0
    with pytest.raises(BadInput, match="epochs 0 to 4"):
        run(plan, replace(inputs, epoch=5), tmp_path / "past")


def test_training_refuses_to_start_without_an_audit_log(
    plan: TrainingPlan, inputs: TrainingInputs, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match="does not start without one"):
        train(plan, inputs, tmp_path)


def test_state_of_another_plan_is_never_continued(
    plan: TrainingPlan, inputs: TrainingInputs, uninterrupted: TrainingReceipt, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(Path(uninterrupted.checkpoint).parents[2], folder)
    other = plan.model_copy(update={"optimiser": plan.optimiser.model_copy(update={"lr": 2e-3})})
    with pytest.raises(BadInput, match="another training"):
        run(other, inputs, folder)


def test_validation_group_in_training_is_refused(plan: TrainingPlan, inputs: TrainingInputs, tmp_path: Path) -> None:
    leaked = TrainingInputs(inputs.corpus, inputs.train, inputs.train)
    with pytest.raises(BadInput):
        run(plan, leaked, tmp_path)


def test_non_finite_loss_keeps_the_last_good_state(plan: TrainingPlan, inputs: TrainingInputs, tmp_path: Path) -> None:
    sick = plan.model_copy(
        update={"optimiser": plan.optimiser.model_copy(update={"lr": 1e30, "lr_min": 1e30, "warmup_epochs": 0})}
    )
    with pytest.raises(NonFiniteLoss) as caught:
        run(sick, inputs, tmp_path)
    assert caught.value.job_cause == "nan_loss"
    best = tmp_path / plan.files.checkpoint_dir / "mamba_tiny_uv_best.pt"
    assert all(torch.isfinite(value).all() for value in load_model(best).model.state_dict().values())


def test_remedies_keep_the_effective_batch(plan: TrainingPlan) -> None:
    options = adjusted(plan.optimiser, {"batch_halvings": 2, "lr_factor": 0.5, "grad_clip": 1.0})
    assert options.bs * options.grad_accum == plan.optimiser.bs * plan.optimiser.grad_accum
    assert (options.bs, options.grad_accum, options.steps_per_epoch) == (4, 4, 12)
    assert options.lr == plan.optimiser.lr / 2
    assert options.grad_clip == 1.0


def test_schedule_warms_up_then_falls_to_the_minimum() -> None:
    options = OptimiserPlan()
    rates = [learning_rate(progress, options) for progress in range(options.epochs + 1)]
    assert rates[5] == max(rates) == options.lr
    assert all(a < b for a, b in pairwise(rates[:6]))
    assert all(a > b for a, b in pairwise(rates[5:]))
    assert rates[-1] == pytest.approx(options.lr_min)


def test_gpu_use_of_an_epoch_is_the_mean_of_its_samples() -> None:
    told, read_out = iter((10.0, 30.0)), threading.Event()

    def read(_: torch.device) -> float:
        value = next(told, None)
        if value is None:
            read_out.set()
            raise RuntimeError("this driver tells no more")
        return value

    use = GpuUse(torch.device("cuda"), read, every_s=0.001)
    assert read_out.wait(10)
    assert use.take() == 20.0
    assert use.take() is None  # unknown, not zero
    use.close()
    told = iter((10.0,))
    assert GpuUse(torch.device("cpu"), read).take() is None
