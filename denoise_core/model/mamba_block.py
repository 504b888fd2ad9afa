"""The Mamba block with the parameter names, shapes and inits of `mamba_ssm.Mamba` (2.3.2): one state dict fits both.

B batch, L time, d width, e = expand · d inner width, N states, r rank of dt.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from denoise_core.model.scan import selective_scan

DT_MIN, DT_MAX, DT_FLOOR = 1e-3, 0.1, 1e-4


class Mamba(nn.Module):
    """x (B, L, d) -> (B, L, d): gated projection, causal depthwise convolution, selective scan, projection back."""

    def __init__(
        self, d_model: int, d_state: int = 16, d_conv: int = 4, expand: int = 2, scan_backend: str = "auto"
    ) -> None:
        super().__init__()
        self.d_inner, self.d_state, self.dt_rank = expand * d_model, d_state, math.ceil(d_model / 16)
        self.d_conv, self.scan_backend = d_conv, scan_backend
        self.in_proj = nn.Linear(d_model, 2 * self.d_inner, bias=False)
        self.conv1d = nn.Conv1d(self.d_inner, self.d_inner, d_conv, groups=self.d_inner, padding=d_conv - 1)
        self.x_proj = nn.Linear(self.d_inner, self.dt_rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(self.dt_rank, self.d_inner)
        self.A_log = nn.Parameter(torch.arange(1, d_state + 1, dtype=torch.float32).log().repeat(self.d_inner, 1))
        self.D = nn.Parameter(torch.ones(self.d_inner))
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=False)
        self._init_dt()
        for parameter in (self.A_log, self.D):
            parameter._no_weight_decay = True  # type: ignore[attr-defined]  # as upstream marks them

    def _init_dt(self) -> None:
        """dt_proj such that softplus(bias) is log-uniform in [1e-3, 0.1] at the start."""
        nn.init.uniform_(self.dt_proj.weight, -(self.dt_rank**-0.5), self.dt_rank**-0.5)
        span = math.log(DT_MAX) - math.log(DT_MIN)
        dt = torch.exp(torch.rand(self.d_inner) * span + math.log(DT_MIN)).clamp(min=DT_FLOOR)
        with torch.no_grad():
            self.dt_proj.bias.copy_(dt + torch.log(-torch.expm1(-dt)))

    def forward(self, x_BLd: Tensor) -> Tensor:
        """(B, L, d) -> (B, L, d)."""
        u_BLe, z_BLe = self.in_proj(x_BLd).chunk(2, dim=-1)
        u_BeL = F.silu(self.conv1d(u_BLe.transpose(1, 2))[..., : x_BLd.shape[1]])
        dt, B, C = self.x_proj(u_BeL.transpose(1, 2)).split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        y_BeL = selective_scan(
            u_BeL,
            F.linear(dt, self.dt_proj.weight).transpose(1, 2),
            -torch.exp(self.A_log),
            B.transpose(1, 2),
            C.transpose(1, 2),
            self.D,
            z_BDL=z_BLe.transpose(1, 2),
            delta_bias_D=self.dt_proj.bias,
            backend=self.scan_backend,
        )
        out: Tensor = self.out_proj(y_BeL.transpose(1, 2))
        return out
