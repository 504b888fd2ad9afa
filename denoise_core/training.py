"""The training loop: one flat function, resumable at any epoch.

Names: x input captures, B batch, L wavelengths, F dose features, N all captures of the corpus.
An epoch is the unit of durability. Its end writes the whole state (weights, average, optimiser, random streams,
history); a run that is stopped or killed anywhere starts again at the last epoch's end and, on the CPU, ends with
the same bits as one that never stopped.
"""

from __future__ import annotations

import hashlib
import math
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from denoise_core.corpus.manifest import Manifest, verify_disjoint
from denoise_core.corpus.store import Corpus
from denoise_core.model import preprocess
from denoise_core.model.checkpoints import load_model, save_checkpoint, warm_start
from denoise_core.model.mamba_uv import MambaUV
from denoise_core.objective import Objective
from denoise_core.optimising import WeightAverage, adjusted, learning_rate, parameter_groups
from denoise_core.plans import TrainingPlan
from denoise_core.training_files import (
    GpuUse,
    TrainingFiles,
    generator_from,
    identity_of,
    load_state,
    optimiser_state,
    save_state,
    speed,
)
from denoise_core.validation import Figures, Validation
from study_core.errors import BadInput, NonFiniteLoss, TrainingInterrupted
from study_core.plan import canonical_json

KEPT_CHECKPOINTS = 5


@dataclass(frozen=True)
class TrainingInputs:
    """What is trained on. `val` must share no group with `train`.

    `epoch`: chosen elsewhere, on groups of its own: training ends there and keeps those weights alone, whatever `val`
    says of any. None: the best on `val` is kept, and a few next to it.
    """

    corpus: Corpus
    train: Manifest
    val: Manifest
    init_checkpoint: Path | None = None
    epoch: int | None = None

    @property
    def hashes(self) -> dict[str, str]:
        init = self.init_checkpoint
        chosen = {} if self.epoch is None else {"epoch": str(self.epoch)}
        return {
            **chosen,
            "corpus": self.corpus.sha256,
            "train": self.train.rows_sha256,
            "val": self.val.rows_sha256,
            "init": hashlib.sha256(init.read_bytes()).hexdigest() if init else "",
        }


@dataclass(frozen=True)
class Hooks:
    """How the caller watches and steers: `progress` each epoch, `should_stop` each step, remedies as `adjustments`.

    Adjustments: `batch_halvings` (batch halved, accumulation doubled, each time), `lr_factor`, `grad_clip`.
    """

    progress: Callable[[dict[str, Any]], None] = lambda fields: None
    should_stop: Callable[[], bool] = lambda: False
    adjustments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainingReceipt:
    """What a finished training leaves: the best checkpoint, the ranked rest, and where its record lies."""

    checkpoint: str
    sha256: str
    best_epoch: int
    best_sam_deg: float
    best_composite: float
    start_composite: float
    epochs_run: int
    top: tuple[str, ...]
    metrics_csv: str
    seconds: float
    beats_base: bool
    plan: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def train(
    plan: TrainingPlan, inputs: TrainingInputs, folder: Path, *, device: str = "cpu", hooks: Hooks | None = None
) -> TrainingReceipt:
    """Train to the end, going on from the state in `folder` where there is one.

    Raises TrainingInterrupted when asked to stop (the same call goes on), NonFiniteLoss when the loss is not a number
    (the state of the last good epoch stays), BadInput for input that cannot be used.
    """
    hooks = hooks or Hooks()
    if inputs.epoch is not None and not 0 <= inputs.epoch <= plan.optimiser.epochs:
        raise BadInput(f"no epoch {inputs.epoch}", remedy=f"the plan has epochs 0 to {plan.optimiser.epochs}")
    files = TrainingFiles(plan.files, folder)
    verify_disjoint(inputs.val, inputs.train)
    run = _Run(plan, inputs, files, torch.device(device), hooks)
    try:
        run.start()
        while run.epoch < run.last_epoch and not run.out_of_patience:
            run.train_epoch()
            run.finish_epoch()
        return run.receipt()
    finally:
        run.gpu_use.close()
        files.close()


class _Run:
    """The state of one training between its epochs."""

    KEPT = (
        "epoch", "step", "best_epoch", "best_sam", "waited", "waited_for", "seconds", "history", "speeds",
    )  # fmt: skip

    def __init__(
        self, plan: TrainingPlan, inputs: TrainingInputs, files: TrainingFiles, device: torch.device, hooks: Hooks
    ) -> None:
        self.plan, self.inputs, self.files, self.device, self.hooks = plan, inputs, files, device, hooks
        self.gpu_use = GpuUse(self.device)
        self.options = adjusted(plan.optimiser, hooks.adjustments)
        self.belongs_to = identity_of(plan, inputs.hashes)
        self.epoch = self.step = 0
        self.best_epoch = 0
        self.best_sam = self.waited_for = math.inf
        self.waited = 0
        self.seconds = 0.0
        self.history: list[dict[str, Any]] = []
        self.speeds: list[dict[str, Any]] = []
        self.top: list[tuple[float, int]] = []  # (composite, epoch), best first

    # ---- set up ------------------------------------------------------------------------------------------

    def start(self) -> None:
        corpus, options = self.inputs.corpus, self.options
        torch.manual_seed(options.seed)
        torch.backends.cudnn.benchmark = options.cudnn_benchmark and self.device.type == "cuda"
        saved = load_state(self.files.state, self.belongs_to)
        self.objective = Objective(self.plan, corpus, self.inputs.train, self.device)
        self.sampler = self.objective.sampler
        self.generator = torch.Generator(device=self.device).manual_seed(options.seed)
        self._build_model()
        self.validation = Validation(
            corpus, self.inputs.val, self.objective.base.spectra_NL, self.objective.features, self.device,
            noise2noise=self.plan.data.val_noise2noise, tta_reverse=options.tta_reverse,
        )  # fmt: skip
        if saved is None:
            self._first_epoch_zero()
        else:
            self._resume(saved)

    def _build_model(self) -> None:
        corpus, data = self.inputs.corpus, self.plan.data
        rows = np.unique(corpus.rows(self.inputs.train))
        how = preprocess.for_plan(corpus.spectra_NL[rows], centre_baseline=data.centre_baseline, scale=data.scale)
        self.model = MambaUV(self.plan.model, corpus.wavelength_nm, how).to(self.device)
        if self.inputs.init_checkpoint is not None:
            kept = warm_start(self.model, load_model(self.inputs.init_checkpoint))
            self.kept_init = kept
        if self.options.freeze_backbone:
            for parameter in self.model.backbone_parameters():
                parameter.requires_grad_(False)
        self.average = WeightAverage(self.model, self.options)
        self.trainable = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimiser = torch.optim.AdamW(
            parameter_groups(self.model, self.options.weight_decay),
            lr=self.options.lr,
            fused=self.device.type == "cuda",
        )

    def _first_epoch_zero(self) -> None:
        """The untrained network is a candidate: training can never ship what is worse than its start."""
        files, init = self.files, self.inputs.init_checkpoint
        files.audit("Launching training run")
        files.audit(f"Plan {self.plan.name} on {self.device} ({self.belongs_to[:12]})")
        if init is not None:
            new = f"as initialised, not in it: {self.kept_init}" if self.kept_init else "every parameter taken from it"
            files.audit(f"Warm start from {init.name}; {new}")
        files.log(f"command {shlex.join(sys.orig_argv)}", shown=False)
        files.log(f"plan {canonical_json(self.plan)}", shown=False)
        if self.options.amp and self.device.type == "cpu":
            files.log("amp: bf16 gains nothing on the CPU; running in float32")
        self._record(self.validation(self.average.model(), self.options.bs), {})

    def _resume(self, saved: Mapping[str, Any]) -> None:
        self.model.load_state_dict(saved["model_state"])
        self.average.resume(saved["average"], saved["averaged"])
        self.optimiser.load_state_dict(optimiser_state(saved["optimiser"]))
        self.generator = generator_from(saved["generator"], self.device)
        for name in self.KEPT:
            setattr(self, name, saved[name])
        self.top = [(float(score), int(epoch)) for score, epoch in saved["top"]]
        self.files.write_metrics(self.history)
        self.files.audit(f"Resuming after epoch {self.epoch}")

    # ---- one epoch ---------------------------------------------------------------------------------------

    def train_epoch(self) -> None:
        """Every batch of one epoch. The host reads nothing back until the end."""
        started = time.perf_counter()
        self.gpu_use.take()  # what the validation before it used
        options = self.options
        self.model.train()
        sums: dict[str, Tensor] = {}
        broken = torch.zeros((), dtype=torch.bool, device=self.device)
        samples = 0
        batches = self.sampler.epoch(self.generator, options.bs, options.steps_per_epoch)
        total = self.sampler.steps(options.bs, options.steps_per_epoch)
        for number, index in enumerate(batches):
            if self.hooks.should_stop():
                self.files.audit(f"Asked to stop in epoch {self.epoch + 1}; the state of epoch {self.epoch} is on disk")
                raise TrainingInterrupted(f"stopped after epoch {self.epoch}")
            batch = self.sampler.batch(index, self.generator)
            loss, parts = self.objective.loss(self.model, batch, options, self.generator)
            (loss / options.grad_accum).backward()  # type: ignore[no-untyped-call]
            broken |= ~torch.isfinite(loss.detach())
            for name, value in {"loss": loss.detach(), **parts}.items():
                sums[name] = sums.get(name, torch.zeros_like(value)) + value
            samples += len(index)
            if (number + 1) % options.grad_accum == 0 or number + 1 == total:
                self._step(self.epoch + (number + 1) / total)
        count = max(total, 1)
        if bool(broken):
            self.files.audit(f"Loss is not finite in epoch {self.epoch + 1}; the state of epoch {self.epoch} stays")
            raise NonFiniteLoss(f"the loss became NaN or infinite in epoch {self.epoch + 1}; lower the rate or clip")
        self.means = {f"train_{name}": float(value / count) for name, value in sums.items()}
        elapsed = time.perf_counter() - started
        self.seconds += elapsed
        self.speeds.append(speed(self.epoch + 1, samples, elapsed, self.device, self.gpu_use.take()))

    def _step(self, progress: float) -> None:
        options = self.options
        rate = learning_rate(progress, options)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        if options.grad_clip is not None:
            torch.nn.utils.clip_grad_norm_(self.trainable, options.grad_clip)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.step += 1
        self.average.update()

    # ---- after an epoch ----------------------------------------------------------------------------------

    def finish_epoch(self) -> None:
        self.epoch += 1
        self._record(self.validation(self.average.model(), self.options.bs), self.means)

    def _record(self, figures: Figures, means: Mapping[str, float]) -> None:
        """Judge the epoch, keep what deserves it, and make it durable: checkpoints first, the state last."""
        chosen = self.inputs.epoch
        better = figures.sam_deg < self.best_sam if chosen is None else self.epoch == chosen
        if better:
            self.best_sam, self.best_epoch = figures.sam_deg, self.epoch
        # The threshold rules patience. It is not asked of the best checkpoint: on a base of 0.3 degrees nothing a
        # network learns would ever count, and the untrained one would always ship.
        counts = figures.sam_deg < self.waited_for - self.options.min_improvement_deg
        self.waited = 0 if counts else self.waited + 1
        self.waited_for = figures.sam_deg if counts else self.waited_for
        row = {
            "epoch": self.epoch,
            "lr": learning_rate(float(self.epoch), self.options),
            **means,
            "val_sam_deg": figures.sam_deg,
            "val_psnr_mean": figures.psnr_mean,
            "val_psnr_std": figures.psnr_std,
            "val_composite": figures.composite,
            "best_epoch": self.best_epoch,
        }
        if self.history:  # epoch 0 has no training figures: same columns, empty
            row = {**dict.fromkeys(self.history[-1], float("nan")), **row}
        self.history.append(row)
        self._keep(figures, better)
        save_state(self.files.state, self._state())
        self.files.write_metrics(self.history)
        self.files.write_events(row)
        self.files.write_speed(self.speeds)
        trained = f"loss {means['train_loss']:.5g}" if "train_loss" in means else "start"
        self.files.log(
            f"epoch {self.epoch}/{self.last_epoch} {trained} "
            f"val SAM {figures.sam_deg:.4f}° PSNR {figures.psnr_mean:.3f} ± {figures.psnr_std:.3f} dB "
            f"best epoch {self.best_epoch}"
        )
        self.hooks.progress(
            {"epoch": self.epoch, "epochs": self.last_epoch, "val_sam_deg": round(figures.sam_deg, 4),
             "val_psnr_mean": round(figures.psnr_mean, 3), "best_epoch": self.best_epoch}
        )  # fmt: skip

    def _keep(self, figures: Figures, better: bool) -> None:
        if better or self.inputs.epoch is None:
            self.top = sorted([*self.top, (figures.composite, self.epoch)], key=lambda entry: (-entry[0], entry[1]))
        dropped, self.top = self.top[KEPT_CHECKPOINTS:], self.top[:KEPT_CHECKPOINTS]
        if better:
            self._save(self.files.best, figures)
        if any(epoch == self.epoch for _, epoch in self.top):
            self._save(self._kept(self.epoch), figures)
        for _, epoch in dropped:
            if epoch != self.epoch:
                self._kept(epoch).unlink(missing_ok=True)

    def _kept(self, epoch: int) -> Path:
        return self.files.checkpoints / f"mamba_tiny_uv_epoch_{epoch:04d}.pt"

    def _save(self, path: Path, figures: Figures) -> str:
        scale_L, error_L = self.objective.standard_errors(self.average.model(), self.options.bs)
        return save_checkpoint(
            path, self.model,
            ema_state=self.average.checkpoint_state(),
            epoch=self.epoch, sam_deg=figures.sam_deg, config={"plan": self.plan.model_dump(mode="json")},
            base_state=self.objective.base.state, dose_stats=self.objective.scaling, se_scale_L=scale_L, se_L=error_L,
            extra={"belongs_to": self.belongs_to, "inputs": self.inputs.hashes},
        )  # fmt: skip

    def _state(self) -> dict[str, Any]:
        return {
            "belongs_to": self.belongs_to,
            "model_state": self.model.state_dict(),
            "average": self.average.state,
            "averaged": self.average.count,
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
            **{
                name: getattr(self, name)
                for name in (*self.KEPT, "top")
            },
        }  # fmt: skip

    @property
    def last_epoch(self) -> int:
        return self.options.epochs if self.inputs.epoch is None else self.inputs.epoch

    @property
    def out_of_patience(self) -> bool:
        return self.inputs.epoch is None and self.waited >= self.options.early_stop_patience

    def receipt(self) -> TrainingReceipt:
        best = self.files.best
        early = f": early stop, {self.waited} without improvement" if self.out_of_patience else ""
        self.files.audit(f"Ended after {self.epoch} epochs{early}; best epoch {self.best_epoch}")
        self.files.audit("Training completed successfully")
        self.files.audit(f"Checkpoint ready: {self.plan.files.checkpoint_dir}/{best.name}")
        start, score = self.history[0]["val_composite"], self.history[self.best_epoch]["val_composite"]
        return TrainingReceipt(
            checkpoint=str(best),
            sha256=hashlib.sha256(best.read_bytes()).hexdigest(),
            best_epoch=self.best_epoch,
            best_sam_deg=self.best_sam,
            best_composite=score,
            start_composite=start,
            epochs_run=self.epoch,
            top=tuple(str(self._kept(epoch)) for _, epoch in self.top),
            metrics_csv=str(self.files.metrics_csv),
            seconds=self.seconds,
            beats_base=bool(self.best_sam < self.history[0]["val_sam_deg"]),
            plan=self.belongs_to,
        )
