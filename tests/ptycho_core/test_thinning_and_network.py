"""Photons split in two, the network's start, and joining patches: what the recipe stands on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ptycho_core.bundle import Network, channels, read_bundle, write_bundle
from ptycho_core.contract import Dataset, read_dataset
from ptycho_core.design import StudyDesign
from ptycho_core.forward import cut, intensities
from ptycho_core.layout import Layout
from ptycho_core.network import new_network
from ptycho_core.npz import read_arrays
from ptycho_core.physics import Optics, canvas_of, held_out_loss
from ptycho_core.recipes import Recipe
from ptycho_core.thinning import thin
from study_core.errors import BadInput

CPU = torch.device("cpu")


def test_thinned_poisson_counts_are_independent():
    lam, p = 3.0, 0.7
    counts = np.random.default_rng(0).poisson(lam, 400_000)
    seen, held = thin(counts, p, np.random.default_rng(1))
    assert (seen + held == counts).all()
    assert seen.mean() == pytest.approx(p * lam, abs=0.01)
    assert np.corrcoef(seen - p * lam, held - (1 - p) * lam)[0, 1] == pytest.approx(0, abs=0.01)
    whole, itself = thin(counts, 1.0, np.random.default_rng(1))
    assert (whole == counts).all()
    assert (itself == counts).all()


@pytest.mark.parametrize(("inputs", "parameters"), [(3, 269_672), (5, 271_400)])
def test_parameters_and_start(inputs: int, parameters: int):
    net = new_network(inputs, 24, seed=0, n=64)
    assert sum(weight.numel() for weight in net.parameters()) == parameters
    shown = torch.randn(4, inputs, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        patch = net(shown)
    assert patch.shape == (4, 64, 64)
    assert (patch.abs() - 0.85).abs().mean() < 0.05
    assert abs(patch.real.mean() - 0.85) < 0.05
    assert patch.angle().abs().mean() < 0.25


def test_new_networks_leave_the_global_stream_alone():
    torch.manual_seed(3)
    before = torch.rand(1)
    torch.manual_seed(3)
    one, other = new_network(3, 24, seed=1, n=64), new_network(3, 24, seed=1, n=64)
    assert torch.rand(1) == before
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    with pytest.raises(BadInput, match="N = 68 is no multiple of 8"):
        new_network(3, 24, seed=1, n=68)


@pytest.fixture(scope="module")
def dense(smoke_hub: Layout) -> Dataset:
    return read_dataset(smoke_hub.dataset(1e4, "dense", "test"))


@pytest.fixture(scope="module")
def truth(smoke_hub: Layout) -> np.ndarray:
    return read_arrays(smoke_hub.truth(1e4))[0]["objectTruth"]


def group(data: Dataset, truth: np.ndarray, count: int = 8):
    """(rows, canvas, true patches) of the first groups."""
    groups = data.groups[:count]
    rows = groups.reshape(-1)
    canvas = canvas_of(data.y[groups], data.x[groups], 64, CPU)
    return rows, canvas, torch.from_numpy(cut(truth, data.y[rows], data.x[rows], 64))


def test_joining_true_patches_returns_them(dense: Dataset, truth: np.ndarray):
    _, canvas, patches = group(dense, truth)
    joined = Optics.of(dense, CPU).assemble(patches, canvas)
    assert (joined - patches).abs().max() < 1e-6


def test_joining_averages_what_members_disagree_on(dense: Dataset, truth: np.ndarray):
    _, canvas, patches = group(dense, truth, 1)
    optics = Optics.of(dense, CPU)
    wrong = patches.clone()
    wrong[0] += 0.5
    error = (optics.assemble(wrong, canvas) - patches).abs()
    assert 0 < error[0].max() <= 0.5 + 1e-6
    assert error[0].mean() < 0.5
    assert error[1].max() > 0


def test_rates_on_tensors_are_the_simulated_ones(dense: Dataset, truth: np.ndarray):
    rows, _, patches = group(dense, truth, 2)
    rates = Optics.of(dense, CPU).rates(patches).numpy()
    expected = dense.s2 * intensities(truth, dense.probe, dense.y[rows], dense.x[rows])
    np.testing.assert_allclose(np.fft.fftshift(rates, axes=(1, 2)), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dose", [1e3, 1e4, 1e5])
def test_the_loss_prefers_the_truth_at_each_dose(mini_hub: Layout, mini: StudyDesign, dose: float):
    data = read_dataset(mini_hub.dataset(dose, "dense", "train"))
    truth = read_arrays(mini_hub.truth(dose))[0]["objectTruth"]
    rows, _, patches = group(data, truth)
    optics = Optics.of(data, CPU)
    counts = np.fft.ifftshift(data.counts_of(rows), axes=(1, 2))
    _, held = thin(counts, 0.7, np.random.default_rng(0))
    losses = [
        float(held_out_loss(optics.rates(image), torch.from_numpy(held.astype(np.float32)), 0.7))
        for image in (patches, torch.full_like(patches, 0.85), torch.full_like(patches, 0.89))
    ]
    assert losses[0] < min(losses[1:])


def test_channels_of_noiseless_flat_patterns_vanish(dense: Dataset):
    """What is shown is relative to the flat object: its own rates give the constant channels."""
    optics = Optics.of(dense, CPU)
    groups = dense.groups[:2]
    canvas = canvas_of(dense.y[groups], dense.x[groups], 64, CPU)
    rates = optics.rates(torch.full((8, 64, 64), 0.85, dtype=torch.complex64))
    shown = optics.channels(rates, 1.0, canvas)
    assert shown.shape == (8, 5, 64, 64)
    assert shown[:, 1:3].abs().max() < 1e-4
    lit = (optics.power > 0.3 * optics.power.max()).expand(8, 64, 64)
    assert shown[:, 3][lit].abs().max() < 0.2
    assert shown[:, 4].abs().max() < 1e-4
    assert optics.channels(rates, 1.0, None).shape == (8, 3, 64, 64)


def test_bundle_round_trip_and_equal_bytes(tmp_path):
    recipe = Recipe(iterations=1)
    network = Network(new_network(channels(recipe), 24, 0, 64), recipe, 64)
    one, other = write_bundle(tmp_path / "a.zip", network), write_bundle(tmp_path / "b" / "c.zip", network)
    assert one.read_bytes() == other.read_bytes()
    back = read_bundle(one)
    assert back.recipe == recipe
    assert all(torch.equal(a, b) for a, b in zip(network.net.parameters(), back.net.parameters(), strict=True))
    one.write_bytes(one.read_bytes()[:5000])
    with pytest.raises(BadInput, match=r"a\.zip: not a usable bundle"):
        read_bundle(one)
    with pytest.raises(BadInput, match="run train first"):
        read_bundle(tmp_path / "none.zip")
