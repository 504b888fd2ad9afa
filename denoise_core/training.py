"""The training loop, resumable at any epoch.

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

import torch

from denoise_core.corpus.manifest import verify_disjoint
from denoise_core.learner import Learner, TrainingInputs
from denoise_core.optimising import adjusted, learning_rate
from denoise_core.plans import TrainingPlan
from denoise_core.training_files import GpuUse, TrainingFiles, identity_of, load_state, save_state, speed
from denoise_core.validation import Figures
from study_core.errors import BadInput, NonFiniteLoss, TrainingInterrupted
from study_core.plan import canonical_json

__all__ = ["Hooks", "TrainingInputs", "TrainingReceipt", "train"]

KEPT_CHECKPOINTS = 5


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
    verify_disjoint(inputs.val, inputs.train)
    files = TrainingFiles(plan.files, folder)
    gpu_use = GpuUse(torch.device(device))
    options = adjusted(plan.optimiser, hooks.adjustments)
    belongs_to = identity_of(plan, inputs.hashes)
    try:
        saved = load_state(files.state, belongs_to)
        learner = Learner(plan, inputs, options, torch.device(device))
        run = _Run(learner, files, belongs_to, hooks)
        if saved is None:
            run.begin()
        else:
            run.resume(saved)
        while run.epoch < run.last_epoch and not run.out_of_patience:
            gpu_use.take()  # what the validation before it used
            started = time.perf_counter()
            try:
                means, samples = learner.epoch(run.epoch, hooks.should_stop)
            except TrainingInterrupted:
                files.audit(f"Asked to stop in epoch {run.epoch + 1}; the state of epoch {run.epoch} is on disk")
                raise
            except NonFiniteLoss:
                files.audit(f"Loss is not finite in epoch {run.epoch + 1}; the state of epoch {run.epoch} stays")
                raise
            elapsed = time.perf_counter() - started
            run.seconds += elapsed
            run.speeds.append(speed(run.epoch + 1, samples, elapsed, learner.device, gpu_use.take()))
            run.epoch += 1
            run.record(learner.figures(), means)
        return run.receipt()
    finally:
        gpu_use.close()
        files.close()


class _Run:
    """What a training came to so far, epoch by epoch."""

    KEPT = ("epoch", "best_epoch", "best_sam", "waited", "waited_for", "seconds", "history", "speeds", "top")

    def __init__(self, learner: Learner, files: TrainingFiles, belongs_to: str, hooks: Hooks) -> None:
        self.learner, self.files, self.belongs_to, self.hooks = learner, files, belongs_to, hooks
        self.plan, self.options = learner.plan, learner.options
        self.epoch = self.best_epoch = self.waited = 0
        self.best_sam = self.waited_for = math.inf
        self.seconds = 0.0
        self.history: list[dict[str, Any]] = []
        self.speeds: list[dict[str, Any]] = []
        self.top: list[tuple[float, int]] = []  # (composite, epoch), best first

    def begin(self) -> None:
        """The untrained network is a candidate: training can never ship what is worse than its start."""
        files, init = self.files, self.learner.inputs.init_checkpoint
        files.audit("Launching training run")
        files.audit(f"Plan {self.plan.name} on {self.learner.device} ({self.belongs_to[:12]})")
        if init is not None:
            kept = self.learner.kept_init
            new = f"as initialised, not in it: {kept}" if kept else "every parameter taken from it"
            files.audit(f"Warm start from {init.name}; {new}")
        files.log(f"command {shlex.join(sys.orig_argv)}", shown=False)
        files.log(f"plan {canonical_json(self.plan)}", shown=False)
        if self.options.amp and self.learner.device.type == "cpu":
            files.log("amp: bf16 gains nothing on the CPU; running in float32")
        self.record(self.learner.figures(), {})

    def resume(self, saved: Mapping[str, Any]) -> None:
        """Go on from the end of an epoch."""
        self.learner.resume(saved)
        for name in self.KEPT:
            setattr(self, name, saved[name])
        self.top = [(float(score), int(epoch)) for score, epoch in saved["top"]]
        self.files.write_metrics(self.history)
        self.files.audit(f"Resuming after epoch {self.epoch}")

    def record(self, figures: Figures, means: Mapping[str, float]) -> None:
        """Judge the epoch, keep what deserves it, and make it durable: checkpoints first, the state last."""
        chosen = self.learner.inputs.epoch
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
        kept = {name: getattr(self, name) for name in self.KEPT}
        save_state(self.files.state, {"belongs_to": self.belongs_to, **self.learner.state(), **kept})
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
        if better or self.learner.inputs.epoch is None:
            self.top = sorted([*self.top, (figures.composite, self.epoch)], key=lambda entry: (-entry[0], entry[1]))
        dropped, self.top = self.top[KEPT_CHECKPOINTS:], self.top[:KEPT_CHECKPOINTS]
        if better:
            self.learner.save(self.files.best, self.epoch, figures, self.belongs_to)
        if any(epoch == self.epoch for _, epoch in self.top):
            self.learner.save(self._kept(self.epoch), self.epoch, figures, self.belongs_to)
        for _, epoch in dropped:
            if epoch != self.epoch:
                self._kept(epoch).unlink(missing_ok=True)

    def _kept(self, epoch: int) -> Path:
        return self.files.checkpoints / f"mamba_tiny_uv_epoch_{epoch:04d}.pt"

    @property
    def last_epoch(self) -> int:
        return self.options.epochs if self.learner.inputs.epoch is None else self.learner.inputs.epoch

    @property
    def out_of_patience(self) -> bool:
        return self.learner.inputs.epoch is None and self.waited >= self.options.early_stop_patience

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
