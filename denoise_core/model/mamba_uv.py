"""`mamba_tiny_uv`: FiLM-conditioned Mamba blocks along the wavelength axis, reflectance in, reflectance out.

B batch, L wavelengths (the scan's time), d width, F FiLM features. Parameter names are the published model's:
`input_proj`, `blocks.{i}.norm`, `blocks.{i}.mamba.*`, `final_norm`, `output_proj`, `film_head.{0,3}`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from denoise_core.model import preprocess
from denoise_core.model.calibrator import Calibrator
from denoise_core.model.mamba_block import Mamba
from denoise_core.model.preprocess import Preprocess
from denoise_core.plans import ModelPlan

RESIDUAL_UNIT = 0.01  # reflectance: corrections are 0.002-0.01, so the network's own output is of order one
LOGIT_EDGE = 1e-4  # keeps the logit of a capture's median finite


class Block(nn.Module):
    """LayerNorm, FiLM, Mamba, skip."""

    def __init__(self, plan: ModelPlan, scan_backend: str) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(plan.d_model)
        self.mamba = Mamba(plan.d_model, plan.d_state, plan.d_conv, plan.expand, scan_backend)

    def forward(self, h_BLd: Tensor, gamma_Bd: Tensor | None, beta_Bd: Tensor | None) -> Tensor:
        """(B, L, d) -> (B, L, d)."""
        out: Tensor = h_BLd + self.mamba(self.modulated(h_BLd, gamma_Bd, beta_Bd))
        return out

    def modulated(self, h_BLd: Tensor, gamma_Bd: Tensor | None, beta_Bd: Tensor | None) -> Tensor:
        """Norm, then FiLM: gamma and beta (B, d) scale and shift, the same at every wavelength."""
        normed: Tensor = self.norm(h_BLd)
        if gamma_Bd is None or beta_Bd is None:
            return normed
        return normed * (1 + gamma_Bd[:, None]) + beta_Bd[:, None]


class MambaUV(nn.Module):
    """The whole network, preprocessing and (where the plan asks for it) calibrator included.

    `head="sigmoid"` predicts from scratch, as published. `head="residual"` adds a correction to `base_BL` and is
    zero-initialised: at the start its output *is* the base, bit for bit. With `residual_sigma_nm` the correction says
    nothing of scales finer than that. Its fourth input channel, present unless the
    base is the capture itself, is what the base took off, (x - base) / 0.01: published checkpoints lack it.
    """

    def __init__(
        self,
        plan: ModelPlan,
        wavelength_nm: NDArray[np.floating[Any]],
        preprocessing: Preprocess | None = None,
        *,
        scan_backend: str = "auto",
    ) -> None:
        super().__init__()
        if len(wavelength_nm) != plan.sequence_length:
            raise ValueError(f"plan has sequence_length {plan.sequence_length}, grid has {len(wavelength_nm)} points")
        self.plan, self.preprocessing = plan, preprocessing or Preprocess()
        self.wavelength_nm = np.asarray(wavelength_nm, dtype=np.float64)
        d, n = plan.d_model, plan.n_layers
        self.sees_base = plan.head == "residual" and plan.base != "capture"
        self.input_proj = nn.Conv1d(4 if self.sees_base else 3, d, 3, padding=1)
        self.blocks = nn.ModuleList(Block(plan, scan_backend) for _ in range(n))
        self.final_norm = nn.LayerNorm(d)
        self.output_proj = nn.Conv1d(d, 1, 1)
        if plan.geometry_film:
            width = plan.film_hidden_dim
            self.film_head = nn.Sequential(
                nn.Linear(len(plan.film_features), width), nn.SiLU(), nn.Identity(), nn.Linear(width, 2 * n * d)
            )
            _zero(self.film_head[3])
        if plan.head == "residual":
            _zero(self.output_proj)
        if plan.calibrator:
            self.calibrator = Calibrator(self.wavelength_nm, len(plan.film_features))
        scaled = 2 * (self.wavelength_nm - self.wavelength_nm[0]) / np.ptp(self.wavelength_nm) - 1
        self.register_buffer("lambda_L", torch.from_numpy(scaled.astype(np.float32)), persistent=False)
        if plan.head == "residual" and plan.residual_sigma_nm:
            weights_LL = _gaussian_weights(self.wavelength_nm, plan.residual_sigma_nm)
            self.register_buffer("smoother_LL", torch.from_numpy(weights_LL), persistent=False)

    def forward(
        self, x_BL: Tensor, features_BF: Tensor, base_BL: Tensor | None = None, *, reverse: bool = False
    ) -> Tensor:
        """Reflectance (B, L), float32.

        x_BL: captures, clipped to [0, 1]. features_BF: standardised dose features in the plan's order.
        base_BL: what the residual head corrects (None: the capture). `reverse` scans from long to short wavelengths
        (test-time augmentation averages both directions).
        """
        base = x_BL if base_BL is None else base_BL
        z_BL, kept = preprocess.forward(x_BL, self.preprocessing)
        raw_BL = self._network(self._channels(x_BL, z_BL, base, features_BF), features_BF, reverse).float()
        if self.plan.head == "residual":
            y_BL = base + RESIDUAL_UNIT * self._coarse(raw_BL)
        elif self.preprocessing.centre:  # the median comes back where the sigmoid lives: in the logit
            y_BL = torch.sigmoid(raw_BL + torch.logit(kept.median_B1, eps=LOGIT_EDGE))
        else:
            y_BL = torch.sigmoid(raw_BL)
        if self.plan.calibrator:
            y_BL = self.calibrator(y_BL, x_BL, features_BF)
        return y_BL

    def _coarse(self, raw_BL: Tensor) -> Tensor:
        """What of a correction (B, L) the residual head may say: its coarse scales."""
        if not self.plan.residual_sigma_nm:
            return raw_BL
        smoother_LL: Tensor = self.smoother_LL  # type: ignore[assignment]
        return raw_BL @ smoother_LL

    def _channels(self, x_BL: Tensor, z_BL: Tensor, base_BL: Tensor, features_BF: Tensor) -> Tensor:
        """(B, 3 or 4, L): reflectance, wavelength in [-1, 1], cos_theta (its standardised value: mean 0, sd 1)."""
        named = self.plan.film_features
        cos_B = features_BF[:, named.index("cos_theta")] if "cos_theta" in named else features_BF.new_zeros(len(x_BL))
        lambda_L: Tensor = self.lambda_L  # type: ignore[assignment]
        channels = [z_BL, lambda_L.expand_as(z_BL), cos_B[:, None].expand_as(z_BL)]
        if self.sees_base:
            channels.append((x_BL - base_BL) / RESIDUAL_UNIT)
        return torch.stack(channels, dim=1)

    def _network(self, input_BcL: Tensor, features_BF: Tensor, reverse: bool) -> Tensor:
        input_BcL = input_BcL.flip(-1) if reverse else input_BcL
        h_BLd = torch.relu(self.input_proj(input_BcL)).transpose(1, 2)
        film = self._film(features_BF)
        for i, block in enumerate(self.blocks):
            gamma, beta = (None, None) if film is None else (film[:, i, 0], film[:, i, 1])
            h_BLd = block(h_BLd, gamma, beta)
        out_BL: Tensor = self.output_proj(self.final_norm(h_BLd).transpose(1, 2))[:, 0]
        return out_BL.flip(-1) if reverse else out_BL

    def _film(self, features_BF: Tensor) -> Tensor | None:
        """(B, n_layers, 2, d): gamma and beta of every block."""
        if not self.plan.geometry_film:
            return None
        film: Tensor = self.film_head(features_BF)
        return film.view(len(features_BF), self.plan.n_layers, 2, self.plan.d_model)

    def backbone_parameters(self) -> list[nn.Parameter]:
        """Everything but the calibrator: what Act B's first stage freezes."""
        return [p for name, p in self.named_parameters() if not name.startswith("calibrator.")]


def _gaussian_weights(wavelength_nm: NDArray[np.float64], sigma_nm: float) -> NDArray[np.float32]:
    """(L, L), columns sum to one: x_BL @ weights is x smoothed, with no weight beyond the grid's ends."""
    weights_LL = np.exp(-0.5 * ((wavelength_nm[:, None] - wavelength_nm) / sigma_nm) ** 2)
    return np.asarray(weights_LL / weights_LL.sum(axis=0), dtype=np.float32)


def _zero(layer: nn.Module) -> None:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
