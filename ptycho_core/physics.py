"""Physics on tensors: far-field rates of patches, what the network is shown, and joining patches of a group.

Names: G groups, C members, B = G·C patterns, N x N pixels. Patterns lie with DC in the corner here (`ifftshift` of the
stored ones): |FFT| does not see where the exit wave's origin is, so no field is ever shifted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptycho_core.contract import Dataset
from ptycho_core.recipes import MEAN_TRANSMISSION

REGULARISER = 0.05
"""Of the division by |P|², of its maximum."""
WEIGHT_FLOOR = 1e-3
INPUT_OFFSET = 0.7
"""Subtracted from the scaled amplitude: its mean is about that."""
LOG_FLOOR = 1e-6


@dataclass(frozen=True)
class Canvas:
    """Where members lie on their group's own canvas: flat pixel numbers (B, N·N) into G canvases of H x W."""

    index: Tensor
    shape: tuple[int, int, int]

    def join(self, values_BNN: Tensor) -> Tensor:
        """Sum of the members at their places, flat (G·H·W,)."""
        flat = torch.zeros(int(np.prod(self.shape)), dtype=values_BNN.dtype, device=values_BNN.device)
        return flat.index_add(0, self.index.reshape(-1), values_BNN.reshape(-1))

    def cut(self, flat: Tensor) -> Tensor:
        """Each member's own part of its canvas, (B, N, N)."""
        n = round(self.index.shape[1] ** 0.5)
        return flat[self.index].reshape(-1, n, n)


def canvas_of(y_GC: NDArray[np.int64], x_GC: NDArray[np.int64], n: int, device: torch.device) -> Canvas:
    """The canvases of groups: each the bounding box of its members, all of the batch's largest size."""
    top, left = y_GC - y_GC.min(axis=1, keepdims=True), x_GC - x_GC.min(axis=1, keepdims=True)
    height, width = int(top.max()) + n, int(left.max()) + n
    corner = np.arange(len(y_GC))[:, None] * (height * width) + top * width + left
    pixel = (np.arange(n)[:, None] * width + np.arange(n)[None, :]).reshape(-1)
    index = torch.from_numpy(corner.reshape(-1, 1) + pixel[None, :]).to(device)
    return Canvas(index, (len(y_GC), height, width))


class Optics:
    """A known probe and the scale of the dose; everything that depends on them alone is computed once."""

    def __init__(self, probe: NDArray[np.complexfloating], s2: float, dose: float, device: torch.device) -> None:
        self.n, self.s2, self.dose = len(probe), s2, dose
        self.probe = torch.from_numpy(np.ascontiguousarray(probe, dtype=np.complex64)).to(device)
        power = self.probe.abs().square()
        self.power, self.reg = power, REGULARISER * power.max()
        self.weight = power / power.max() + WEIGHT_FLOOR
        far = torch.fft.fft2(self.probe, norm="ortho")
        self.flat_phase = far / far.abs().clamp_min(torch.finfo(torch.float32).tiny)
        self.alone = MEAN_TRANSMISSION * power / (power + self.reg)

    @classmethod
    def of(cls, data: Dataset, device: torch.device) -> Optics:
        return cls(data.probe, data.s2, data.metadata.dose, device)

    def rates(self, patches_BNN: Tensor) -> Tensor:
        """Expected photons s² |FFT(P O)|², DC in the corner."""
        far = torch.fft.fft2(self.probe * patches_BNN, norm="ortho")
        rates: Tensor = self.s2 * (far.real.square() + far.imag.square())
        return rates

    def channels(self, counts_BNN: Tensor, p: float, canvas: Canvas | None) -> Tensor:
        """What the network sees of (thinned, by `p`) counts: (B, 3, N, N), 5 channels with a canvas.

        Scaled amplitude; the counts sent back through the flat object's far-field phase and divided by the probe; and
        the same averaged over the group, re-cut at each member.
        """
        scaled = torch.sqrt(counts_BNN * (self.n**2 / (p * self.dose))) - INPUT_OFFSET
        amplitude = torch.fft.fftshift(scaled, dim=(-2, -1))
        exit_wave = torch.fft.ifft2(torch.sqrt(counts_BNN / (p * self.s2)) * self.flat_phase, norm="ortho")
        numerator = exit_wave * self.probe.conj()
        single = numerator / (self.power + self.reg)
        shown = [amplitude, single.real - self.alone, single.imag]
        if canvas is not None:
            power = self.power.expand_as(numerator.real)
            joined = canvas.cut(canvas.join(numerator) / (canvas.join(power) + self.reg))
            shown += [joined.real - MEAN_TRANSMISSION, joined.imag]
        return torch.stack(shown, dim=1)

    def assemble(self, patches_BNN: Tensor, canvas: Canvas) -> Tensor:
        """Members averaged where they overlap, weighted by the probe, each re-cut: they agree afterwards."""
        weight = self.weight.expand_as(patches_BNN.real)
        return canvas.cut(canvas.join(weight * patches_BNN) / canvas.join(weight).clamp_min(WEIGHT_FLOOR / 2))


def held_out_loss(rates: Tensor, held_out: Tensor, p: float) -> Tensor:
    """Poisson negative log-likelihood of the photons that the network did not see, per expected share of them."""
    rest = 1 - p if p < 1 else 1.0
    expected = rest * rates
    return (expected - held_out * torch.log(expected + LOG_FLOOR)).mean() / rest
