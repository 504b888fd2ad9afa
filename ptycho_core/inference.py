"""From a trained network and the patterns of a view to an object, and how well it explains the patterns.

Nothing here sees the truth. All photons are shown (p = 1); patches of all groups are averaged with the probe's weight.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ptycho_core.bundle import Network
from ptycho_core.contract import Dataset, singles
from ptycho_core.forward import cut, intensities
from ptycho_core.metrics.deviance import ReducedDeviance
from ptycho_core.network import autocast
from ptycho_core.physics import Optics, canvas_of
from study_core.errors import BadInput

BATCH_PATTERNS = 64


@dataclass(frozen=True)
class Stitched:
    """An object on the dataset's frame (H, W), flat (1+0j) where no patch lies, and the summed weights there."""

    image: NDArray[np.complex64]
    weight: NDArray[np.float32]
    deviance_ratio_patch: float
    """Of the patches alone, before they were joined: below 1 the network copied noise."""


def stitch(network: Network, data: Dataset, device: str = "cpu") -> Stitched:
    """Infer every pattern of a view's groups and join the patches.

    Raises:
        BadInput: the network was trained for another N, or needs groups that the dataset does not have.
    """
    if network.n != data.probe.shape[0]:
        raise BadInput(f"trained for N = {network.n}, the patterns have {data.probe.shape[0]}", remedy="train again")
    view = data if network.grouped else singles(data)
    if network.grouped and view.groups.shape[1] == 1:
        raise BadInput("the network needs groups, the dataset has none", remedy="use a view's file")
    n = network.n
    total, weight = np.zeros(data.flat.shape, np.complex128), np.zeros(data.flat.shape)
    w = None
    deviance = ReducedDeviance()
    for rows, patches, rates in infer(network, view, device):
        if w is None:
            power = np.abs(data.probe.astype(np.complex128)) ** 2
            w = power / power.max() + 1e-3
        for row, patch in zip(rows, patches, strict=True):
            place = np.s_[data.y[row] - n // 2 : data.y[row] + n // 2, data.x[row] - n // 2 : data.x[row] + n // 2]
            total[place] += w * patch
            weight[place] += w
        deviance.add(_corner(view, rows), rates)
    covered = weight > 0
    image = np.where(covered, total / np.where(covered, weight, 1), 1)
    return Stitched(image.astype(np.complex64), weight.astype(np.float32), deviance.ratio)


def infer(
    network: Network, data: Dataset, device: str = "cpu"
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.complex64], NDArray[np.float32]]]:
    """(rows, patches (B, N, N), rates with DC in the corner) of a few groups at a time; a row once a group it is in."""
    where = torch.device(device)
    optics = Optics.of(data, where)
    size = data.groups.shape[1]
    step = max(1, BATCH_PATTERNS // size)
    network.net.eval()
    with torch.inference_mode():
        for start in range(0, len(data.groups), step):
            groups = data.groups[start : start + step]
            rows = groups.reshape(-1)
            counts = torch.from_numpy(_corner(data, rows).astype(np.float32)).to(where)
            canvas = canvas_of(data.y[groups], data.x[groups], network.n, where) if network.grouped else None
            shown = optics.channels(counts, 1.0, canvas)
            with autocast(where, network.recipe.bf16):
                patches = network.net(shown)
            yield rows, patches.cpu().numpy(), optics.rates(patches).cpu().numpy()


def explained(image: NDArray[np.complexfloating], data: Dataset) -> float:
    """Reduced deviance of an object against every pattern of a dataset: the stitched ratio."""
    deviance = ReducedDeviance()
    for start in range(0, len(data.y), BATCH_PATTERNS):
        rows = np.arange(start, min(start + BATCH_PATTERNS, len(data.y)))
        rates = data.s2 * intensities(image, data.probe, data.y[rows], data.x[rows])
        deviance.add(data.counts_of(rows), rates)
    return deviance.ratio


def flat_object(data: Dataset) -> NDArray[np.complex64]:
    """The best flat object that the photons alone allow: their mean total decides its amplitude."""
    amplitude = math.sqrt(float(data.counts().sum()) / len(data.y) / data.s2)
    return data.flat * np.complex64(amplitude)


def truth_patches(image: NDArray[np.complex64], data: Dataset, rows: NDArray[np.int64]) -> NDArray[np.complex64]:
    """The truth at some patterns, (B, N, N); NaN where the image does not know it."""
    return cut(image, data.y[rows], data.x[rows], data.probe.shape[0])


def _corner(data: Dataset, rows: NDArray[np.int64]) -> NDArray[np.int32]:
    """Counts of some patterns with DC in the corner."""
    return np.fft.ifftshift(data.counts_of(rows), axes=(1, 2))
