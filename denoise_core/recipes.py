"""Named plans: the seed's two recipes to the letter, what measurement recommends, and a mini of each for a laptop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from denoise_core.errors import BadInput
from denoise_core.plans import DataPlan, FilePlan, LossPlan, ModelPlan, OptimiserPlan, TrainingPlan


def track_h() -> TrainingPlan:
    """A fold of the runbook, flag by flag. The flags say nothing of the head: ours corrects filter F."""
    name = "logs/Track_H_fold_02", "checkpoints/Track_H_fold_02"
    return TrainingPlan(
        name="track_h",
        model=ModelPlan(head="residual", base="f"),
        data=DataPlan(val_noise2noise=True),
        optimiser=OptimiserPlan(epochs=200, early_stop_patience=21, tta_reverse=True),
        files=FilePlan(
            train_manifest="manifests/fold_02/train_manifest.csv",
            val_manifest="manifests/fold_02/val_manifest.csv",
            log_dir=name[0],
            checkpoint_dir=name[1],
            audit_log=f"{name[0]}/auditing_manifest.log",
            speed_log_json="artifacts/cross_validation/fold_02_speed.json",
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
    """What measurement recommends: the residual head on filter F, judged in dB, without noise added to its input."""
    return TrainingPlan(
        name="act_of_god",
        model=ModelPlan(head="residual", base="f"),
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
                    "early_stop_patience": epochs,
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
    "act_of_god_seed_mini": lambda: mini(act_of_god_seed(), epochs=8, steps=20, lr=3e-3),
    "act_of_god": act_of_god,
    "act_of_god_mini": lambda: mini(act_of_god(), epochs=8, steps=20, lr=1e-3),
}


def named(name: str) -> TrainingPlan:
    """A plan by its name; BadInput lists the names."""
    if name not in _PLANS:
        raise BadInput(f"no plan {name!r}", remedy=f"one of {', '.join(_PLANS)}")
    return _PLANS[name]()


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

_CONSISTENCY = 1.0  # weight of the replicate term; in units of reflectance² its value is far below the others


def rebalance(plan: TrainingPlan, failed_gates: Sequence[str]) -> tuple[TrainingPlan, list[dict[str, Any]]]:
    """Losses rebalanced by what failed, and the table of what was changed for which gate."""
    loss, data = plan.loss, plan.data
    changes: dict[str, dict[str, tuple[str, Any]]] = {
        "aggregate": {
            "loss.charbonnier_weight": ("Charbonnier doubled", _doubled(loss.charbonnier_weight)),
            "data.noise2noise_pairwise": ("targets less noisy: leave-one-out means", False),
        },
        "tail": {"data.group_weights": ("groups sampled by their own error", "own_error")},
        "roi": {
            "loss.dip_loss": ("dips judged", True),
            "loss.dip_weight": ("dip loss doubled", _doubled(loss.dip_weight)),
            "loss.derivative_weight": ("derivative doubled", _doubled(loss.derivative_weight)),
            "loss.deriv_weight_roi": ("derivative doubled", _doubled(loss.deriv_weight_roi)),
            "loss.curvature_weight_roi": ("curvature doubled", _doubled(loss.curvature_weight_roi)),
        },
        "downstream": {"loss.consistency_weight": ("replicates denoised alike", _CONSISTENCY)},
    }
    changes["skill"] = changes["aggregate"]
    table: list[dict[str, Any]] = []
    content = plan.model_dump()
    for gate in failed_gates:
        for option, (why, value) in changes.get(gate, {}).items():
            section, name = option.split(".")
            table.append({"gate": gate, "option": option, "before": content[section][name], "after": value, "why": why})
            content[section][name] = value
    content["data"] = {**data.model_dump(), **content["data"]}
    return TrainingPlan.model_validate(content), table


def _doubled(weight: float) -> float:
    """Twice the weight; a term that the plan left out comes in at 1."""
    return 2 * weight if weight else 1.0


def act_b_stage1(plan: TrainingPlan) -> TrainingPlan:
    """Stage 1: the calibrator head alone, backbone frozen, a quarter of the epochs."""
    return _stage(plan, "act_b_stage1", freeze_backbone=True, epochs=max(1, plan.optimiser.epochs // 4))


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
