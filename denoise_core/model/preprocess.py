"""Deterministic, invertible preprocessing, the same for training and panel: centre, then scale.

A capture's own median over the grid is subtracted and the rest divided by one corpus constant. Both are kept
with the batch (`Kept`), and `inverse` gives the reflectance back before any metric. B batch, L wavelengths.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Preprocess:
    """How captures enter the network. The default changes nothing, as the published model wants it."""

    centre: bool = False
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"scale must be positive and finite, got {self.scale}")

    def state(self) -> dict[str, Any]:
        """Plain values for a checkpoint; `Preprocess(**state)` gives it back."""
        return asdict(self)


@dataclass(frozen=True)
class Kept:
    """What the forward pass took out of a batch: enough to put it back."""

    median_B1: Tensor
    scale: float


def forward(x_BL: Tensor, how: Preprocess) -> tuple[Tensor, Kept]:
    """(x - median) / scale and what was taken out; reflectance in, dimensionless out."""
    median_B1 = x_BL.median(dim=-1, keepdim=True).values if how.centre else torch.zeros_like(x_BL[:, :1])
    return (x_BL - median_B1) / how.scale, Kept(median_B1, how.scale)


def inverse(z_BL: Tensor, kept: Kept) -> Tensor:
    """Reflectance again: z · scale + median."""
    return z_BL * kept.scale + kept.median_B1


def corpus_scale(spectra_NL: NDArray[np.floating[Any]], *, centre: bool) -> float:
    """The corpus constant: RMS of the (centred) training spectra, so that the network's input has RMS 1."""
    values = np.asarray(spectra_NL, dtype=np.float64)
    if centre:
        values = values - np.median(values, axis=-1, keepdims=True)
    rms = float(np.sqrt(np.mean(values**2)))
    return rms if rms > 1e-6 else 1.0


def for_plan(spectra_NL: NDArray[np.floating[Any]], *, centre_baseline: bool, scale: bool) -> Preprocess:
    """The preprocessing that a DataPlan asks for, its constant taken from the training spectra."""
    return Preprocess(centre_baseline, corpus_scale(spectra_NL, centre=centre_baseline) if scale else 1.0)
