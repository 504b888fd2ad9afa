"""Noise2Noise pairs as tensor operations: the whole corpus on the device, no loader, no host work within a step.

M rows of the training manifest (twins included), N captures of the corpus, G groups, K members of a group at most,
B batch, L wavelengths.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from denoise_core.augment import mix
from denoise_core.corpus.manifest import FIRST_ROW, Manifest
from denoise_core.corpus.store import Corpus
from denoise_core.plans import DataPlan
from study_core.errors import BadInput


@dataclass(frozen=True)
class Batch:
    """One training batch. `shift_BL` was added to input and target (mixing) and belongs on the base too."""

    x_BL: Tensor
    target_BL: Tensor
    row_B: Tensor  # capture of the corpus that the input came from
    group_B: Tensor
    shift_BL: Tensor | None = None


class PairSampler:
    """Draws (input, target) of one group. A capture is never its own target, nor is its twin row's capture.

    Everything is counted over the manifest's *unique* captures: a twin row makes its capture an input twice an epoch
    (as in the seed), but no more likely as a target, and no heavier in a mean.
    """

    def __init__(self, corpus: Corpus, manifest: Manifest, plan: DataPlan, device: torch.device) -> None:
        """BadInput (file, row) when the manifest names a capture that is not there, or a group of one capture."""
        self.plan, self.device = plan, device
        rows_M = corpus.rows(manifest)
        unique = np.unique(rows_M)
        names, group_U = np.unique(corpus.groups(unique), return_inverse=True)
        members = [unique[group_U == group] for group in range(len(names))]
        _verify_pairs(members, rows_M, names, manifest)
        place_N = np.zeros(len(corpus), dtype=np.int64)
        group_N = np.full(len(corpus), -1, dtype=np.int64)
        for group, own in enumerate(members):
            place_N[own], group_N[own] = np.arange(len(own)), group
        treatment = np.array([name.split("/")[0] for name in names])
        kin = [np.flatnonzero(treatment == own) for own in treatment]
        values_GNL = [corpus.spectra_NL[own].astype(np.float64) for own in members]

        self.spectra_NL = self._to(corpus.spectra_NL)
        self.rows_M, self.place_N, self.group_N = self._to(rows_M), self._to(place_N), self._to(group_N)
        self.members_GK, self.count_G = self._padded(members)
        self.kin_GK, self.kin_count_G = self._padded(kin)
        self.sum_GL = self._to(np.array([own.sum(axis=0) for own in values_GNL], dtype=np.float32))
        variance_L = np.mean([own.var(axis=0, ddof=1) for own in values_GNL], axis=0)
        self.noise_sd_L = self._to(np.sqrt(variance_L).astype(np.float32))
        self.weight_M: Tensor | None = None

    def _to(self, array: NDArray[Any]) -> Tensor:
        return torch.tensor(array, device=self.device)  # a copy: the corpus may be a read-only memory map

    def _padded(self, lists: list[NDArray[np.int64]]) -> tuple[Tensor, Tensor]:
        """Lists of unequal length as one table, zeros behind their ends, and their lengths."""
        table = np.zeros((len(lists), max(map(len, lists))), dtype=np.int64)
        for row, own in zip(table, lists, strict=True):
            row[: len(own)] = own
        return self._to(table), self._to(np.array([len(own) for own in lists], dtype=np.int64))

    def weigh_groups(self, error_N: Tensor) -> None:
        """Sample rows in proportion to their group's mean error (Act B, tail); mean weight of a group 1."""
        total_G = torch.zeros(len(self.count_G), device=self.device)
        used = self.group_N >= 0
        total_G.index_add_(0, self.group_N[used], error_N.to(self.device, torch.float32)[used])
        weight_G = total_G / self.count_G
        self.weight_M = (weight_G / weight_G.mean())[self.group_N[self.rows_M]]

    def steps(self, batch_size: int, steps: int | None) -> int:
        """Batches of an epoch: as many full ones as the manifest's rows give (the seed's 17), or as the plan says."""
        return steps or max(1, len(self.rows_M) // batch_size)

    def epoch(self, generator: torch.Generator, batch_size: int, steps: int | None) -> Iterator[Tensor]:
        """Corpus rows (B,) of each batch.

        The manifest's rows are shuffled and cut into full batches; what is left over waits for another epoch's
        shuffle. Where `steps` asks for more rows than there are, every row comes once before any comes again. With
        group weights each row is drawn on its own, with replacement.
        """
        many = len(self.rows_M)
        wanted = self.steps(batch_size, steps)
        length = wanted * batch_size if steps or many > batch_size else many
        if self.weight_M is not None:
            order = self._weighted(length, generator, self.weight_M)
        else:
            rounds = range(-(-length // many))
            shuffles = [torch.randperm(many, generator=generator, device=self.device) for _ in rounds]
            order = torch.cat(shuffles)[:length]
        yield from torch.split(self.rows_M[order], batch_size)

    def _weighted(self, length: int, generator: torch.Generator, weight_M: Tensor) -> Tensor:
        """Places (length,) by the inverse of the cumulated weights."""
        up_to_M = weight_M.double().cumsum(0)
        uniform = torch.rand(length, generator=generator, device=self.device, dtype=torch.float64)
        return torch.searchsorted(up_to_M, uniform * up_to_M[-1], right=True).clamp_max(len(weight_M) - 1)

    def batch(self, row_B: Tensor, generator: torch.Generator) -> Batch:
        """Inputs and targets of these captures."""
        group_B = self.group_N[row_B]
        x_BL = self.spectra_NL[row_B]
        target_BL = self.pair_target(row_B, generator) if self.plan.noise2noise_pairwise else self.loo_target(row_B)
        if not self.plan.mixing:
            return Batch(x_BL, target_BL, row_B, group_B)
        mean_GL = self.sum_GL / self.count_G[:, None]
        shift_BL = mix(group_B, mean_GL, self.kin_GK, self.kin_count_G, generator)
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

    def spread_rows(self, most: int) -> Tensor:
        """At most `most` captures, evenly over the training rows: a fixed sample."""
        unique: Tensor = torch.unique(self.rows_M)
        place = torch.linspace(0, len(unique) - 1, min(most, len(unique)), device=self.device).long()
        return unique[place]


def _verify_pairs(
    members: list[NDArray[np.int64]], rows_M: NDArray[np.int64], names: NDArray[np.str_], manifest: Manifest
) -> None:
    """A manifest can be paired when it has rows, and every group two captures."""
    if not members:
        raise BadInput("the training manifest has no rows", file=manifest.path, remedy="name captures to train on")
    for own, name in zip(members, names, strict=True):
        if len(own) < 2:
            row = int(np.flatnonzero(rows_M == own[0])[0]) + FIRST_ROW
            raise BadInput(
                f"group {name} has one capture",
                file=manifest.path or "manifest",
                row=row,
                remedy="a pair needs two: drop the group, or add its other captures",
            )
