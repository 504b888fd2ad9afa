"""The network: a small U-Net from one pattern's channels to the amplitude and phase of its patch.

It starts as the flat object and sees each pattern with the same weights; what patterns of a group share reaches it
through its input and through the loss.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ptycho_core.recipes import MEAN_TRANSMISSION
from study_core.errors import BadInput

AMPLITUDE_MAX = 1.2
_BIAS = math.log(MEAN_TRANSMISSION / (AMPLITUDE_MAX - MEAN_TRANSMISSION))
_HEAD_STD = 0.01
DIVISOR = 8
"""N must be a multiple: one pixel-unshuffle and two poolings by 2."""


def precision(device: torch.device, bf16: bool) -> torch.dtype:
    """What the network computes in: bfloat16 where that is asked for and the device has it, else float32.

    A device that only emulates bfloat16 takes twice float32's time for less exact numbers (benchmarks/ptycho).
    """
    if device.type == "cuda":
        has = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        known = torch.cpu.get_capabilities()
        has = any(known.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return torch.bfloat16 if bf16 and has else torch.float32


def autocast(device: torch.device, bf16: bool) -> torch.autocast:
    """Around the network alone: transforms and loss stay float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision(device, bf16) is torch.bfloat16)


class _Block(nn.Sequential):
    """Two 3x3 convolutions, each with GroupNorm and SiLU."""

    def __init__(self, into: int, out: int) -> None:
        groups = min(8, out // 4)
        super().__init__(
            nn.Conv2d(into, out, 3, padding=1, bias=False), nn.GroupNorm(groups, out), nn.SiLU(),
            nn.Conv2d(out, out, 3, padding=1, bias=False), nn.GroupNorm(groups, out), nn.SiLU(),
        )  # fmt: skip


class PatchNet(nn.Module):
    """(B, channels, N, N) to the complex patch (B, N, N); 269,672 parameters at 3 channels and width 24."""

    def __init__(self, channels: int, width: int = 24) -> None:
        super().__init__()
        fine, middle, coarse = width, 2 * width, 4 * width
        self.unshuffle, self.shuffle = nn.PixelUnshuffle(2), nn.PixelShuffle(2)
        self.down1, self.down2, self.bottom = _Block(4 * channels, fine), _Block(fine, middle), _Block(middle, coarse)
        self.up2, self.up1 = _Block(coarse + middle, middle), _Block(middle + fine, fine)
        self.head = nn.Conv2d(fine, 8, 3, padding=1)
        nn.init.normal_(self.head.weight, std=_HEAD_STD)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]
        self.pool, self.grow = nn.AvgPool2d(2), nn.Upsample(scale_factor=2, mode="nearest")

    def forward(self, channels_BKNN: Tensor) -> Tensor:
        fine = self.down1(self.unshuffle(channels_BKNN))
        middle = self.down2(self.pool(fine))
        coarse = self.bottom(self.pool(middle))
        middle = self.up2(torch.cat([self.grow(coarse), middle], dim=1))
        fine = self.up1(torch.cat([self.grow(middle), fine], dim=1))
        y = self.shuffle(self.head(fine)).float()
        return torch.polar(AMPLITUDE_MAX * torch.sigmoid(y[:, 0] + _BIAS), math.pi * torch.tanh(y[:, 1]))


def new_network(channels: int, width: int, seed: int, n: int) -> PatchNet:
    """Freshly initialised from `seed`, the global random stream left as it was.

    Raises:
        BadInput: N is no multiple of 8.
    """
    if n % DIVISOR:
        raise BadInput(f"N = {n} is no multiple of {DIVISOR}", remedy="choose N so for training")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PatchNet(channels, width)
