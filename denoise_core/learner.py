"""What learns: network, average, optimiser, pairs and loss, as they stand between two epochs.

Names: x input captures, B batch, L wavelengths, F dose features, N all captures of the corpus.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from denoise_core.corpus.manifest import Manifest
from denoise_core.corpus.store import Corpus
from denoise_core.model import preprocess
from denoise_core.model.checkpoints import load_model, save_checkpoint
from denoise_core.model.mamba_uv import MambaUV
from denoise_core.model.weights import warm_start
from denoise_core.objective import Objective
from denoise_core.optimising import WeightAverage, learning_rate, parameter_groups
from denoise_core.plans import OptimiserPlan, TrainingPlan
from denoise_core.training_files import generator_from, optimiser_state
from denoise_core.validation import Figures, Validation
from study_core.errors import NonFiniteLoss, TrainingInterrupted


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


class Learner:
    """One network in training. `options`: the plan's optimiser after remedies."""

    def __init__(
        self, plan: TrainingPlan, inputs: TrainingInputs, options: OptimiserPlan, device: torch.device
    ) -> None:
        corpus = inputs.corpus
        self.plan, self.inputs, self.options, self.device = plan, inputs, options, device
        torch.manual_seed(options.seed)
        torch.backends.cudnn.benchmark = options.cudnn_benchmark and device.type == "cuda"
        self.objective = Objective(plan, corpus, inputs.train, device)
        self.sampler = self.objective.sampler
        self.generator = torch.Generator(device=device).manual_seed(options.seed)
        self.updates = 0
        self._build_model()
        self.validation = Validation(
            corpus, inputs.val, self.objective.base.spectra_NL, self.objective.features, device,
            noise2noise=plan.data.val_noise2noise, tta_reverse=options.tta_reverse,
        )  # fmt: skip

    def _build_model(self) -> None:
        corpus, data = self.inputs.corpus, self.plan.data
        rows = np.unique(corpus.rows(self.inputs.train))
        how = preprocess.for_plan(corpus.spectra_NL[rows], centre_baseline=data.centre_baseline, scale=data.scale)
        self.model = MambaUV(self.plan.model, corpus.wavelength_nm, how).to(self.device)
        if self.inputs.init_checkpoint is not None:
            self.kept_init = warm_start(self.model, load_model(self.inputs.init_checkpoint))
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

    def epoch(self, done: int, should_stop: Callable[[], bool]) -> tuple[dict[str, float], int]:
        """Every batch of the epoch after `done`: mean losses, samples. The host reads nothing back until the end.

        Raises TrainingInterrupted when asked to stop, NonFiniteLoss when the loss is not a number.
        """
        options = self.options
        self.model.train()
        sums: dict[str, Tensor] = {}
        broken = torch.zeros((), dtype=torch.bool, device=self.device)
        samples = 0
        total = self.sampler.steps(options.bs, options.steps_per_epoch)
        for number, index in enumerate(self.sampler.epoch(self.generator, options.bs, options.steps_per_epoch)):
            if should_stop():
                raise TrainingInterrupted(f"stopped after epoch {done}")
            batch = self.sampler.batch(index, self.generator)
            loss, parts = self.objective.loss(self.model, batch, options, self.generator)
            (loss / options.grad_accum).backward()  # type: ignore[no-untyped-call]
            broken |= ~torch.isfinite(loss.detach())
            for name, value in {"loss": loss.detach(), **parts}.items():
                sums[name] = sums.get(name, torch.zeros_like(value)) + value
            samples += len(index)
            if (number + 1) % options.grad_accum == 0 or number + 1 == total:
                self._step(done + (number + 1) / total)
        if bool(broken):
            raise NonFiniteLoss(f"the loss became NaN or infinite in epoch {done + 1}; lower the rate or clip")
        return {f"train_{name}": float(value / max(total, 1)) for name, value in sums.items()}, samples

    def _step(self, progress: float) -> None:
        options = self.options
        rate = learning_rate(progress, options)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        if options.grad_clip is not None:
            torch.nn.utils.clip_grad_norm_(self.trainable, options.grad_clip)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.updates += 1
        self.average.update()

    def figures(self) -> Figures:
        """How good the averaged network is on the validation manifest."""
        return self.validation(self.average.model(), self.options.bs)

    def save(self, path: Path, epoch: int, figures: Figures, belongs_to: str) -> None:
        """The averaged network as a checkpoint, with what it takes to use it."""
        scale_L, error_L = self.objective.standard_errors(self.average.model(), self.options.bs)
        save_checkpoint(
            path, self.model,
            ema_state=self.average.checkpoint_state(),
            epoch=epoch, sam_deg=figures.sam_deg, config={"plan": self.plan.model_dump(mode="json")},
            base_state=self.objective.base.state, dose_stats=self.objective.scaling, se_scale_L=scale_L, se_L=error_L,
            extra={"belongs_to": belongs_to, "inputs": self.inputs.hashes},
        )  # fmt: skip

    def state(self) -> dict[str, Any]:
        """Everything that the next epoch depends on."""
        return {
            "model_state": self.model.state_dict(),
            "average": self.average.state,
            "averaged": self.average.count,
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
            "step": self.updates,
        }

    def resume(self, saved: Mapping[str, Any]) -> None:
        """Inverse of `state`."""
        self.model.load_state_dict(saved["model_state"])
        self.average.resume(saved["average"], saved["averaged"])
        self.optimiser.load_state_dict(optimiser_state(saved["optimiser"]))
        self.generator = generator_from(saved["generator"], self.device)
        self.updates = saved["step"]
