"""How good a network is on a validation manifest: PSNR and SAM per row, weighted as the manifest is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from denoise_core.corpus.manifest import Manifest
from denoise_core.corpus.reference import loo_mean
from denoise_core.corpus.store import Corpus
from denoise_core.model.mamba_uv import MambaUV


@dataclass(frozen=True)
class Figures:
    """Mean and population sd over validation rows; `composite` ranks checkpoints."""

    sam_deg: float
    psnr_mean: float
    psnr_std: float

    @property
    def composite(self) -> float:
        return self.psnr_mean - self.psnr_std


class Validation:
    """A manifest's captures, features, bases and references as tensors on the device, twins computed once.

    The reference is the mean of the group's other captures; with `noise2noise` the next capture of the group, as in
    the folds' recipe. Nothing here is augmented.
    """

    def __init__(
        self,
        corpus: Corpus,
        manifest: Manifest,
        base_NL: np.ndarray,
        features_NF: Tensor,
        device: torch.device,
        *,
        noise2noise: bool,
        tta_reverse: bool,
    ) -> None:
        unique, twin_M = np.unique(corpus.rows(manifest), return_inverse=True)
        reference = corpus.spectra_NL[_next_of_group(corpus, unique)] if noise2noise else loo_mean(corpus, unique)
        self.x_UL = torch.from_numpy(corpus.spectra_NL[unique]).to(device)
        self.base_UL = torch.from_numpy(np.ascontiguousarray(base_NL[unique])).to(device)
        self.features_UF = features_NF[torch.from_numpy(unique).to(features_NF.device)]
        self.reference_UL = torch.from_numpy(np.asarray(reference, dtype=np.float64)).to(device)
        self.twin_M = torch.from_numpy(twin_M).to(device)
        self.tta_reverse = tta_reverse

    @torch.inference_mode()
    def __call__(self, model: MambaUV, batch_size: int) -> Figures:
        """Figures of a network; one transfer to the host."""
        model.eval()
        parts = []
        for first in range(0, len(self.x_UL), batch_size):
            rows = slice(first, first + batch_size)
            x, features, base = self.x_UL[rows], self.features_UF[rows], self.base_UL[rows]
            y = model(x, features, base)
            if self.tta_reverse:
                y = (y + model(x, features, base, reverse=True)) / 2
            parts.append(y.clamp(0.0, 1.0))
        return figures(torch.cat(parts).double(), self.reference_UL, self.twin_M)


def figures(y_UL: Tensor, reference_UL: Tensor, twin_M: Tensor) -> Figures:
    """PSNR (dB, range 1) and SAM (degrees) of predictions against references, float64."""
    psnr_U = -10.0 * torch.log10((y_UL - reference_UL).square().mean(dim=1))
    norms_U = y_UL.norm(dim=1) * reference_UL.norm(dim=1)
    cosine_U = ((y_UL * reference_UL).sum(dim=1) / norms_U).clamp(-1.0, 1.0)
    psnr_M, sam_M = psnr_U[twin_M], torch.rad2deg(torch.arccos(cosine_U))[twin_M]
    sam, mean, std = torch.stack([sam_M.mean(), psnr_M.mean(), psnr_M.std(correction=0)]).tolist()
    return Figures(sam, mean, std)


def _next_of_group(corpus: Corpus, rows: np.ndarray) -> np.ndarray:
    """For each capture the next one of its group (the last one's is the first)."""
    group_N = corpus.groups(np.arange(len(corpus.spectra_NL)))
    out = np.empty(len(rows), dtype=np.int64)
    for group in np.unique(group_N[rows]):
        members = np.flatnonzero(group_N == group)
        following = dict(zip(members, np.roll(members, -1), strict=True))
        mine = np.flatnonzero(group_N[rows] == group)
        out[mine] = [following[row] for row in rows[mine]]
    return out
