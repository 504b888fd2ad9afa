"""Noise2Noise pairs as tensor operations: the whole corpus on the device, no loader, no per-step host work.

M rows of the training manifest (twins included), N captures of the corpus, G groups, K captures of a group at most,
B batch, L wavelengths.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from denoise_core.corpus.manifest import Manifest
from denoise_core.corpus.store import Corpus
from denoise_core.errors import BadInput
from denoise_core.plans import DataPlan


@dataclass(frozen=True)
class Batch:
    """One training batch. `shift_BL` was added to input and target (mixing) and belongs on the base too."""

    x_BL: Tensor
    target_BL: Tensor
    row_B: Tensor  # capture of the corpus that the input came from
    group_B: Tensor
    shift_BL: Tensor | None = None


class PairSampler:
    """Draws (input, target) of one group. A capture is never its own target, nor is its twin row's capture."""

    def __init__(self, corpus: Corpus, manifest: Manifest, plan: DataPlan, device: torch.device) -> None:
        self.plan, self.device = plan, device
        rows_M = corpus.rows(manifest)
        unique = np.unique(rows_M)
        names, group_U = np.unique(corpus.groups(unique), return_inverse=True)
        counts = np.bincount(group_U)
        if (alone := np.flatnonzero(counts < 2)).size:
            raise BadInput(
                f"group {names[alone[0]]} has one capture",
                file=manifest.path,
                remedy="a pair needs two; drop the group",
            )
        members = np.zeros((len(names), counts.max()), dtype=np.int64)
        place_N = np.zeros(len(corpus.spectra_NL), dtype=np.int64)
        group_N = np.full(len(corpus.spectra_NL), -1, dtype=np.int64)
        for group in range(len(names)):
            own = unique[group_U == group]
            members[group, : len(own)] = own
            place_N[own], group_N[own] = np.arange(len(own)), group
        self.spectra_NL = torch.from_numpy(corpus.spectra_NL).to(device)
        self.rows_M, self.members_GK = self._to(rows_M), self._to(members)
        self.place_N, self.group_N, self.count_G = self._to(place_N), self._to(group_N), self._to(counts)
        sums = [corpus.spectra_NL[unique[group_U == g]].sum(axis=0, dtype=np.float64) for g in range(len(names))]
        self.sum_GL = self._to(np.stack(sums).astype(np.float32))
        treatment = np.array([name.split("/")[0] for name in names])
        self.kin_GG = self._to((treatment[:, None] == treatment[None, :]).astype(np.float32))
        spread = [corpus.spectra_NL[unique[group_U == g]].var(axis=0, ddof=1) for g in range(len(names))]
        self.noise_sd_L = self._to(np.sqrt(np.mean(spread, axis=0)).astype(np.float32))
        self.weight_M: Tensor | None = None

    def _to(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def weigh_groups(self, error_N: Tensor) -> None:
        """Sample rows in proportion to their group's mean error (Act B, tail); mean weight 1."""
        total_G = torch.zeros(len(self.count_G), device=self.device)
        used = self.group_N >= 0
        total_G.index_add_(0, self.group_N[used], error_N.to(self.device, torch.float32)[used])
        weight_G = total_G / self.count_G
        self.weight_M = (weight_G / weight_G.mean())[self.group_N[self.rows_M]]

    def steps(self, batch_size: int, steps: int | None) -> int:
        """Batches of an epoch: every row once, or as many as the plan says."""
        return steps or -(-len(self.rows_M) // batch_size)

    def epoch(self, generator: torch.Generator, batch_size: int, steps: int | None) -> Iterator[Tensor]:
        """Corpus rows of each batch: the manifest's rows shuffled, again and again for as many steps as asked."""
        wanted = self.steps(batch_size, steps)
        length = len(self.rows_M) if steps is None else wanted * batch_size
        if self.weight_M is not None:
            order = torch.multinomial(self.weight_M, length, replacement=True, generator=generator)
        else:
            rounds = -(-length // len(self.rows_M))
            order = torch.cat(
                [torch.randperm(len(self.rows_M), generator=generator, device=self.device) for _ in range(rounds)]
            )[:length]
        yield from torch.split(self.rows_M[order], batch_size)

    def batch(self, row_B: Tensor, generator: torch.Generator) -> Batch:
        """Inputs and targets of these captures."""
        group_B = self.group_N[row_B]
        x_BL = self.spectra_NL[row_B]
        target_BL = self.pair_target(row_B, generator) if self.plan.noise2noise_pairwise else self.loo_target(row_B)
        if not self.plan.mixing:
            return Batch(x_BL, target_BL, row_B, group_B)
        shift_BL = self._shift(group_B, generator)
        return Batch((x_BL + shift_BL).clamp(0, 1), target_BL + shift_BL, row_B, group_B, shift_BL)

    def pair_target(self, row_B: Tensor, generator: torch.Generator) -> Tensor:
        """Another capture of the group, all equally likely."""
        group_B = self.group_N[row_B]
        others_B = self.count_G[group_B] - 1
        uniform_B = torch.rand(len(row_B), generator=generator, device=self.device)
        ahead_B = 1 + (uniform_B * others_B).long().minimum(others_B - 1)
        partner_B = (self.place_N[row_B] + ahead_B) % self.count_G[group_B]
        return self.spectra_NL[self.members_GK[group_B, partner_B]]

    def loo_target(self, row_B: Tensor) -> Tensor:
        """Mean of the group's other captures."""
        group_B = self.group_N[row_B]
        return (self.sum_GL[group_B] - self.spectra_NL[row_B]) / (self.count_G[group_B] - 1)[:, None]

    def _shift(self, group_B: Tensor, generator: torch.Generator) -> Tensor:
        """From the own group's mean towards a random group's of the same treatment: a simulated group.

        The capture keeps its noise and the base its error, so input, target and base move together.
        """
        mean_GL = self.sum_GL / self.count_G[:, None]
        other_B = torch.multinomial(self.kin_GG[group_B], 1, generator=generator)[:, 0]
        share_B1 = torch.rand(len(group_B), 1, generator=generator, device=self.device)
        return share_B1 * (mean_GL[other_B] - mean_GL[group_B])

    def spread_rows(self, most: int) -> Tensor:
        """At most `most` captures, evenly over the training rows: a fixed sample."""
        unique: Tensor = torch.unique(self.rows_M)
        place = torch.linspace(0, len(unique) - 1, min(most, len(unique)), device=self.device).long()
        return unique[place]
