"""Named plans: the seed's two recipes to the letter, what measurement recommends, and a mini of each for a laptop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from denoise_core.evaluation.thresholds import GATES
from denoise_core.plans import DataPlan, FilePlan, LossPlan, ModelPlan, OptimiserPlan, TrainingPlan
from study_core.errors import BadInput
from study_core.plan import changed

# A correction above 6 nm: the dips stay the filter's, and what is left to learn is learned better. Chosen on held-out
# groups among 0, 3, 6, 12 and 25 nm (benchmarks/quality.md).
_HEAD = ModelPlan(head="residual", base="f", residual_sigma_nm=6.0)


def track_h(fold: int = 3) -> TrainingPlan:
    """A fold of the runbook, flag by flag, with the files of the fold that its page prints.

    The flags say nothing of the head: ours corrects filter F, as every new training does.
    """
    name = f"Track_H_fold_{fold:02d}"
    return TrainingPlan(
        name="track_h",
        model=_HEAD,
        data=DataPlan(val_noise2noise=True),
        optimiser=OptimiserPlan(epochs=200, early_stop_patience=21, tta_reverse=True),
        files=FilePlan(
            train_manifest=f"manifests/fold_{fold:02d}/train_manifest.csv",
            val_manifest=f"manifests/fold_{fold:02d}/val_manifest.csv",
            log_dir=f"logs/{name}",
            checkpoint_dir=f"checkpoints/{name}",
            audit_log=f"logs/{name}/auditing_manifest.log",
            speed_log_json=f"artifacts/cross_validation/fold_{fold:02d}_speed.json",
        ),
    )


def act_of_god_seed() -> TrainingPlan:
    """The warm-start plan's recipe to the letter, the published model's sigmoid head included."""
    return TrainingPlan(
        name="act_of_god_seed",
        model=ModelPlan(head="sigmoid", base="capture"),
        optimiser=OptimiserPlan(epochs=400, early_stop_patience=30),
        files=FilePlan(init_checkpoint="checkpoints/prod/Track_H_fold_02/mamba_tiny_uv_best.pt"),
    )


def act_of_god() -> TrainingPlan:
    """What measurement recommends: the residual head on filter F, judged in dB, on less noisy targets.

    The head and its base decide (46-50 dB from scratch, 52.8-53.9 from the capture, 56.3 from F on held-out groups of
    the real corpus). Next to them count, in dB at the mini's size: the correction's finest scale (6 nm for all:
    +.08), the mean of a group's other captures as target (+.09 over a pair), no jitter (+.06), perhaps log-MSE for
    Charbonnier (+.04). Mixing, cutout, the dip loss and the preprocessing make no difference that three seeds would
    show; of equals the plan has the simplest, and mixing, which helped where models were freer.
    """
    return TrainingPlan(
        name="act_of_god",
        model=_HEAD,
        loss=LossPlan(charbonnier_weight=0.0, log_mse_weight=1.0, derivative_weight=0.0, deriv_weight_roi=0.0,
                      curvature_weight_roi=0.0, dip_loss=False),
        data=DataPlan(noise2noise_pairwise=False, jitter=False, cutout=False, mixing=True),
        optimiser=OptimiserPlan(epochs=400, early_stop_patience=30, min_improvement_deg=0.0005),
    )  # fmt: skip


def mini(plan: TrainingPlan, *, epochs: int, steps: int, lr: float) -> TrainingPlan:
    """The same plan small enough for two CPU cores and about a minute."""
    return plan.model_copy(
        update={
            "name": f"{plan.name}_mini",
            "model": plan.model.model_copy(update={"d_model": 32, "n_layers": 2, "d_state": 8, "film_hidden_dim": 16}),
            "optimiser": plan.optimiser.model_copy(
                update={
                    "epochs": epochs,
                    "early_stop_patience": 3,
                    "steps_per_epoch": steps,
                    "bs": 64,
                    "lr": lr,
                    "lr_min": lr / 10,
                    "warmup_epochs": 1,
                    "ema_decay": 0.98,
                }
            ),
        }
    )


_PLANS: dict[str, Callable[[], TrainingPlan]] = {
    "track_h": track_h,
    "track_h_mini": lambda: mini(track_h(), epochs=4, steps=15, lr=1e-3),
    "act_of_god_seed": act_of_god_seed,
    "act_of_god_seed_mini": lambda: mini(act_of_god_seed(), epochs=6, steps=20, lr=3e-3),
    "act_of_god": act_of_god,
    "act_of_god_mini": lambda: mini(act_of_god(), epochs=6, steps=15, lr=1e-3),
}


def named(name: str) -> TrainingPlan:
    """A plan by its name; BadInput lists the names."""
    if name not in _PLANS:
        raise BadInput(f"no plan {name!r}", remedy=f"one of {', '.join(_PLANS)}")
    return _PLANS[name]()


DEFAULT = "act_of_god_mini"  # of the command line: what every machine can train


def completed(content: Mapping[str, Any]) -> TrainingPlan:
    """A plan of a few options: the others are those of the plan that its `name` says, or of the command's default.

    BadInput for an option that no plan has.
    """
    name = content.get("name")
    return changed(named(name if name in _PLANS else DEFAULT), content)


def fitted(plan: TrainingPlan, wavelength_nm: Sequence[float], roi_nm: tuple[float, float]) -> TrainingPlan:
    """The plan for a corpus's own grid and ROI: what it leaves at the published values follows the corpus.

    BadInput where the plan asks for another number of points than the grid has, or for an ROI without any.
    """
    points, published, loss = len(wavelength_nm), ModelPlan().sequence_length, LossPlan()
    if plan.model.sequence_length not in (points, published):
        raise BadInput(
            f"model.sequence_length is {plan.model.sequence_length}, the corpus has {points} wavelengths",
            remedy="leave it out of the plan: it follows the corpus",
        )
    roi = (plan.loss.deriv_roi_min, plan.loss.deriv_roi_max)
    if roi == (loss.deriv_roi_min, loss.deriv_roi_max):
        roi = roi_nm
    if not any(roi[0] <= wavelength <= roi[1] for wavelength in wavelength_nm):
        raise BadInput(
            f"loss.deriv_roi_min and deriv_roi_max: no wavelength of the corpus lies in {roi[0]:g}-{roi[1]:g} nm",
            remedy="leave them out of the plan: they follow the study's roi_nm",
        )
    return changed(
        plan,
        {"model": {"sequence_length": points}, "loss": {"deriv_roi_min": roi[0], "deriv_roi_max": roi[1]}},
    )


def difference(plan: TrainingPlan, seed: TrainingPlan) -> list[str]:
    """`section.option: seed → plan`, a line for each option that differs."""
    ours, theirs = plan.model_dump(), seed.model_dump()
    return [
        f"{section}.{option}: {theirs[section][option]} → {value}"
        for section, options in ours.items()
        if isinstance(options, dict)
        for option, value in options.items()
        if theirs[section][option] != value
    ]


# ---- Act B -----------------------------------------------------------------------------------------------

_SEED_LOSS = LossPlan()  # the defaults are the seed's weights
_CONSISTENCY = 1.0  # Charbonnier's own weight: a scatter of replicates counts like an error of that size
_LOO = ("data.noise2noise_pairwise", "targets less noisy: the mean of the other captures")
_DOUBLED = {
    "aggregate": {"loss.charbonnier_weight": "Charbonnier doubled"},
    "skill": {"loss.charbonnier_weight": "Charbonnier doubled"},
    "roi": {
        "loss.dip_weight": "dip loss doubled",
        "loss.derivative_weight": "derivative doubled",
        "loss.deriv_weight_roi": "derivative inside the ROI doubled",
        "loss.curvature_weight_roi": "curvature doubled",
    },
}
_SET: dict[str, dict[str, tuple[str, Any]]] = {
    "aggregate": {_LOO[0]: (_LOO[1], False)},
    "skill": {_LOO[0]: (_LOO[1], False)},
    "tail": {"data.group_weights": ("groups sampled by their own error", "own_error")},
    "roi": {"loss.dip_loss": ("dips judged", True)},
    "downstream": {"loss.consistency_weight": ("replicates denoised alike", _CONSISTENCY)},
}


def rebalance(plan: TrainingPlan, failed_gates: Sequence[str]) -> tuple[TrainingPlan, list[dict[str, Any]]]:
    """The plan rebalanced by what failed, and a row {gate, option, before, after, why} for every option changed.

    Each option changes once, however many gates ask for it; every gate that asked has its row. A term that the plan
    left out comes in at the seed's weight instead of twice nothing. Gate 0 (integrity) is about data, not about
    losses: it changes nothing. BadInput for a gate that does not exist.
    """
    if unknown := set(failed_gates) - set(GATES):
        raise BadInput(f"no gate {sorted(unknown)[0]!r}", remedy=f"one of {', '.join(GATES)}")
    before = plan.model_dump()
    after = plan.model_dump()
    table: list[dict[str, Any]] = []
    for gate in (gate for gate in GATES if gate in failed_gates):
        wanted = {option: _doubled(plan.loss, option, why) for option, why in _DOUBLED.get(gate, {}).items()}
        for option, (why, value) in {**_SET.get(gate, {}), **wanted}.items():
            section, name = option.split(".")
            old = before[section][name]
            after[section][name] = value
            if old != value:
                table.append({"gate": gate, "option": option, "before": old, "after": value, "why": why})
    return TrainingPlan.model_validate(after), table


def _doubled(loss: LossPlan, option: str, why: str) -> tuple[str, float]:
    """Why and the new weight: twice the old one, or the seed's where the term is off."""
    name = option.split(".")[1]
    weight: float = getattr(loss, name)
    off = not weight or (name == "dip_weight" and not loss.dip_loss)
    seed: float = getattr(_SEED_LOSS, name)
    return (
        (f"{why.removesuffix(' doubled')} at the seed's weight: the plan left it out", seed)
        if off
        else (why, 2 * weight)
    )


def act_b_stage1(plan: TrainingPlan) -> TrainingPlan:
    """Stage 1: the calibrator head alone, backbone frozen, a quarter of the epochs and at most 50."""
    return _stage(plan, "act_b_stage1", freeze_backbone=True, epochs=min(max(2, plan.optimiser.epochs // 4), 50))


def act_b_stage2(plan: TrainingPlan) -> TrainingPlan:
    """Stage 2: everything, at a tenth of the rate."""
    rate = plan.optimiser
    return _stage(plan, "act_b_stage2", lr=rate.lr / 10, lr_min=rate.lr_min / 10, freeze_backbone=False)


def _stage(plan: TrainingPlan, name: str, **options: Any) -> TrainingPlan:
    return plan.model_copy(
        update={
            "name": f"{plan.name}_{name}",
            "model": plan.model.model_copy(update={"calibrator": True}),
            "optimiser": plan.optimiser.model_copy(update=options),
            "files": plan.files.model_copy(
                update={
                    "log_dir": f"logs/{name}",
                    "checkpoint_dir": f"checkpoints/{name}",
                    "audit_log": f"logs/{name}/auditing_manifest.log",
                }
            ),
        }
    )
