"""What a step of training minimises: captures drawn, augmented, denoised on their held-out base, and compared.

Names: x input captures, B batch, L wavelengths, F dose features, N all captures of the corpus.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from denoise_core.augment import augment
from denoise_core.bases import Base, fit_base
from denoise_core.corpus.manifest import Manifest
from denoise_core.corpus.store import Corpus
from denoise_core.losses import total_loss
from denoise_core.model.checkpoints import FilmScaling
from denoise_core.model.mamba_uv import MambaUV
from denoise_core.pairs import Batch, PairSampler
from denoise_core.plans import OptimiserPlan, TrainingPlan

ERROR_SAMPLE = 256  # training captures whose error sets the scale of the standard error


class Objective:
    """The corpus, its base and its pairs as tensors on the device, and the loss of a network on a batch of them."""

    def __init__(self, plan: TrainingPlan, corpus: Corpus, training: Manifest, device: torch.device) -> None:
        self.plan, self.device = plan, device
        kind = plan.model.base if plan.model.head == "residual" else "capture"
        self.base: Base = fit_base(kind, corpus, training)
        self.held_out_base = torch.tensor(self.base.held_out_NL, device=device)
        self.scaling = FilmScaling(corpus.dose_stats.mean_F, corpus.dose_stats.std_F)
        every = np.arange(len(corpus.spectra_NL))
        self.features = torch.from_numpy(self.scaling(corpus.context(every).features_BF)).to(device)
        self.sampler = PairSampler(corpus, training, plan.data, device)
        if plan.data.group_weights == "own_error":
            self.sampler.weigh_groups(self._start_error())
        self.lambda_weights = torch.from_numpy(np.asarray(corpus.lambda_stats.weights, np.float32)).to(device)
        wavelength = corpus.wavelength_nm
        self.step_nm = float(wavelength[1] - wavelength[0])
        inside = (wavelength >= plan.loss.deriv_roi_min) & (wavelength <= plan.loss.deriv_roi_max)
        self.roi = torch.from_numpy(inside).to(device)

    def _start_error(self) -> Tensor:
        """Mean squared error (N,) of the held-out base against the group's other captures; 0 outside training."""
        rows = torch.unique(self.sampler.rows_M)
        error_N = torch.zeros(len(self.held_out_base), device=self.device)
        error_N[rows] = (self.held_out_base[rows] - self.sampler.loo_target(rows)).square().mean(dim=1)
        return error_N

    def loss(
        self, model: MambaUV, batch: Batch, options: OptimiserPlan, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Total loss of a batch, and its parts by name."""
        x_BL = augment(batch.x_BL, self.plan.data, self.sampler.noise_sd_L, self.step_nm, generator)
        base_BL = x_BL if self.base.filter is None else self.held_out_base[batch.row_B]
        if self.base.filter is not None and batch.shift_BL is not None:
            base_BL = base_BL + batch.shift_BL
        amp = options.amp and self.device.type == "cuda" and options.amp_dtype != "fp32"
        dtype = torch.float16 if options.amp_dtype == "fp16" else torch.bfloat16
        with torch.autocast(self.device.type, dtype=dtype, enabled=amp):
            y_BL = model(x_BL, self.features[batch.row_B], base_BL)
        return total_loss(
            y_BL.float(), batch.target_BL, self.plan.loss, self.lambda_weights, self.step_nm, self.roi,
            group_B=batch.group_B,
        )  # fmt: skip

    @torch.inference_mode()
    def standard_errors(self, model: MambaUV, batch_size: int) -> tuple[np.ndarray | None, np.ndarray | None]:
        """How a network's error on held-out-base training captures compares with its base's, per wavelength.

        With a base: the factor on the base's standard error. Without: the error itself.
        """
        rows = self.sampler.spread_rows(ERROR_SAMPLE)
        model.eval()
        base_BL = self.held_out_base[rows]
        x_BL, reference_BL = self.sampler.spectra_NL[rows], self.sampler.loo_target(rows)
        parts = [
            model(x_BL[part], self.features[rows[part]], base_BL[part])
            for part in torch.arange(len(rows), device=self.device).split(batch_size)  # type: ignore[no-untyped-call]
        ]
        error_L = (torch.cat(parts) - reference_BL).square().mean(0).sqrt()
        if self.base.filter is None:
            return None, error_L.float().cpu().numpy()
        base_error_L = (base_BL - reference_BL).square().mean(0).sqrt()
        return (error_L / base_error_L).float().cpu().numpy(), None
