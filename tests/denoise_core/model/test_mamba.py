"""The Mamba block against upstream's shapes, and the network's promises: names, base at init, FiLM, TTA, learning."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from denoise_core.model.mamba_block import Mamba
from denoise_core.model.mamba_uv import RESIDUAL_UNIT, MambaUV
from denoise_core.model.preprocess import Preprocess
from denoise_core.plans import ModelPlan

L = 41
GRID = np.linspace(300.0, 320.0, L)


def small(**changes: object) -> ModelPlan:
    settings: dict[str, object] = {"sequence_length": L, "d_model": 12, "n_layers": 2, "d_state": 4} | changes
    return ModelPlan.model_validate(settings)


def batch(size: int = 5, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Captures, standardised features, base."""
    g = torch.Generator().manual_seed(seed)
    x = 0.2 + 0.1 * torch.rand(size, L, generator=g)
    return x, torch.randn(size, 8, generator=g), x + 0.005 * torch.randn(size, L, generator=g)


def model(seed: int = 0, preprocessing: Preprocess | None = None, **changes: object) -> MambaUV:
    torch.manual_seed(seed)
    return MambaUV(small(**changes), GRID, preprocessing)


# --- the block ------------------------------------------------------------------------------------------------


def test_block_has_upstream_names_shapes_and_inits() -> None:
    """`mamba_ssm.Mamba(384)` of 2.3.2, as its state dict lists it."""
    torch.manual_seed(0)
    block = Mamba(384, d_state=16, d_conv=4, expand=2)
    assert {name: tuple(p.shape) for name, p in block.state_dict().items()} == {
        "A_log": (768, 16), "D": (768,), "in_proj.weight": (1536, 384), "conv1d.weight": (768, 1, 4),
        "conv1d.bias": (768,), "x_proj.weight": (56, 768), "dt_proj.weight": (768, 24), "dt_proj.bias": (768,),
        "out_proj.weight": (384, 768),
    }  # fmt: skip
    assert sum(p.numel() for p in block.parameters()) == 963_840
    torch.testing.assert_close(block.A_log[5].exp(), torch.arange(1.0, 17.0))
    assert torch.equal(block.D, torch.ones(768))
    assert block.dt_proj.weight.abs().max() <= 24**-0.5
    dt = F.softplus(block.dt_proj.bias)
    assert 0.9e-3 < dt.min() < 2e-3
    assert 0.05 < dt.max() < 0.101
    assert {n for n, p in block.named_parameters() if getattr(p, "_no_weight_decay", False)} == {"A_log", "D"}


def test_block_is_the_written_out_mathematics() -> None:
    torch.manual_seed(1)
    block = Mamba(8, d_state=3).double()
    x = torch.randn(2, 20, 8, dtype=torch.float64)
    u, z = (x @ block.in_proj.weight.T).chunk(2, -1)
    padded = F.pad(u, (0, 0, 3, 0))
    taps = block.conv1d.weight[:, 0]
    u = F.silu(sum(padded[:, k : k + 20] * taps[:, k] for k in range(4)) + block.conv1d.bias)
    low, B, C = (u @ block.x_proj.weight.T).split([1, 3, 3], -1)
    dt = F.softplus(low @ block.dt_proj.weight.T + block.dt_proj.bias)
    state, outputs = torch.zeros(2, 16, 3, dtype=torch.float64), []
    for t in range(20):
        state = torch.exp(dt[:, t, :, None] * -block.A_log.exp()) * state
        state = state + (dt[:, t] * u[:, t])[..., None] * B[:, t, None]
        outputs.append((state * C[:, t, None]).sum(-1) + block.D * u[:, t])
    expected = (torch.stack(outputs, 1) * F.silu(z)) @ block.out_proj.weight.T
    torch.testing.assert_close(block(x), expected, rtol=1e-12, atol=1e-12)


def test_block_is_causal() -> None:
    torch.manual_seed(2)
    block = Mamba(8, d_state=3)
    x = torch.randn(1, 30, 8)
    changed = x.clone()
    changed[:, 17] += 1
    difference = (block(changed) - block(x)).abs().sum(-1)[0]
    assert difference[:17].max() == 0
    assert difference[17] > 0


# --- the network ----------------------------------------------------------------------------------------------


def test_recipe_size() -> None:
    """About 7.7 million: eight blocks and the ends, and the FiLM head's 0.4 million besides."""
    with torch.device("meta"):
        blocks = MambaUV(ModelPlan(head="sigmoid", geometry_film=False), np.linspace(300, 600, 601))
        whole = MambaUV(ModelPlan(head="sigmoid"), np.linspace(300, 600, 601))
    assert sum(p.numel() for p in blocks.parameters()) == 7_721_857
    assert sum(p.numel() for p in whole.parameters()) == 7_721_857 + (8 + 1) * 64 + (64 + 1) * 2 * 8 * 384


def test_published_names() -> None:
    mamba = [
        "A_log", "D", "in_proj.weight", "conv1d.weight", "conv1d.bias", "x_proj.weight",
        "dt_proj.weight", "dt_proj.bias", "out_proj.weight",
    ]  # fmt: skip
    ends = ["input_proj", "final_norm", "output_proj", "film_head.0", "film_head.3", "blocks.0.norm", "blocks.1.norm"]
    expected = {f"{name}.{part}" for name in ends for part in ("weight", "bias")}
    expected |= {f"blocks.{i}.mamba.{name}" for i in range(2) for name in mamba}
    state = model(head="sigmoid").state_dict()
    assert set(state) == expected
    assert state["input_proj.weight"].shape == (12, 3, 3)
    assert state["output_proj.weight"].shape == (1, 12, 1)
    assert state["film_head.3.weight"].shape == (2 * 2 * 12, 64)


@pytest.mark.parametrize("base", ["capture", "lmmse", "f"])
@pytest.mark.parametrize("preprocessing", [Preprocess(), Preprocess(centre=True, scale=0.07)])
@pytest.mark.parametrize("sigma_nm", [0.0, 3.0])
def test_residual_head_starts_at_its_base_bit_for_bit(base: str, preprocessing: Preprocess, sigma_nm: float) -> None:
    x, features, base_BL = batch()
    net = model(base=base, preprocessing=preprocessing, residual_sigma_nm=sigma_nm)
    given = None if base == "capture" else base_BL
    assert torch.equal(net(x, features, given), x if base == "capture" else base_BL)


def test_residual_head_sees_what_its_base_took_off() -> None:
    net = model(base="f")
    torch.nn.init.normal_(net.output_proj.weight)
    x, features, base = batch()
    correction = (net(x, features, base) - base) / RESIDUAL_UNIT
    other = (net(x, features, x) - x) / RESIDUAL_UNIT
    assert (correction - other).abs().max() > 1e-3


@pytest.mark.parametrize("sigma_nm", [1.5, 4.0])
def test_a_coarse_correction_is_the_free_one_smoothed_over_nanometres(sigma_nm: float) -> None:
    x, features, base = batch()
    free, coarse = model(base="f"), model(base="f", residual_sigma_nm=sigma_nm)
    for net in (free, coarse):
        torch.manual_seed(3)
        torch.nn.init.normal_(net.output_proj.weight)
    correction = (free(x, features, base) - base).detach().double().numpy()
    distance_nm = GRID[:, None] - GRID[None, :]
    weights = np.exp(-(distance_nm**2) / (2 * sigma_nm**2))
    expected = np.array([[np.average(row, weights=weights[:, at]) for at in range(L)] for row in correction])
    np.testing.assert_allclose((coarse(x, features, base) - base).detach().numpy(), expected, atol=2e-7)
    assert np.abs(np.diff(expected, 2)).max() < 0.5 * np.abs(np.diff(correction, 2)).max()


def test_sigmoid_head_predicts_from_scratch() -> None:
    x, features, base = batch()
    net = model(head="sigmoid")
    y = net(x, features)
    assert ((y > 0) & (y < 1)).all()
    assert torch.equal(net(x, features, base), y)  # it knows no base


def test_centred_sigmoid_keeps_the_level() -> None:
    """The network sees no level; the head puts the median back, so a level shift in logit passes straight through."""
    x, features, _ = batch()
    net = model(head="sigmoid", preprocessing=Preprocess(centre=True))
    torch.nn.init.zeros_(net.output_proj.weight)
    torch.nn.init.zeros_(net.output_proj.bias)
    torch.testing.assert_close(net(x, features), x.median(-1, keepdim=True).values.expand_as(x))


def test_film_is_silent_at_init_and_speaks_afterwards() -> None:
    x, features, _ = batch()
    features[:, 0] = 1  # cos_theta is an input channel too: the same in both
    other = features + torch.arange(8) * (torch.arange(8) > 0)
    net = model(head="sigmoid")
    assert torch.equal(net(x, features), net(x, other))
    torch.nn.init.normal_(net.film_head[3].weight, std=0.1)
    assert (net(x, features) - net(x, other)).abs().max() > 1e-4


def test_cos_theta_is_an_input_channel() -> None:
    x, features, _ = batch()
    net = model(head="sigmoid", geometry_film=False)
    turned = features.clone()
    turned[:, 0] = -features[:, 0]
    assert (net(x, features) - net(x, turned)).abs().max() > 1e-5


def test_a_capture_is_denoised_on_its_own() -> None:
    x, features, base = batch()
    net = model(base="f")
    torch.nn.init.normal_(net.output_proj.weight)
    torch.testing.assert_close(net(x, features, base)[2:3], net(x[2:3], features[2:3], base[2:3]), rtol=1e-6, atol=1e-7)


def test_reversed_pass_reads_from_the_other_end() -> None:
    x, features, _ = batch()
    net = model(head="sigmoid")
    assert (net(x, features, reverse=True) - net(x, features)).abs().max() > 1e-5
    changed = x.clone()
    changed[:, 10] += 0.1
    moved = (net(changed, features, reverse=True) - net(x, features, reverse=True)).abs().amax(0)
    assert moved[12:].max() == 0  # causal from the long end; the input convolution reaches one point further
    assert moved[:12].min() > 0


def test_mixed_precision_returns_float32() -> None:
    x, features, base = batch()
    net = model(base="f")
    torch.nn.init.normal_(net.output_proj.weight)
    full = net(x, features, base)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = net(x, features, base)
    assert mixed.dtype == torch.float32
    assert (mixed - full).abs().max() < 0.05 * (full - base).abs().max()


def test_residual_learns_at_its_scale() -> None:
    """A correction of 0.004, the size that real residuals have, is learned to a third in 60 plain AdamW steps."""
    x, features, _ = batch(16)
    base = x + 0.004 * torch.sin(torch.linspace(0, 6, L))
    net = model(base="f")
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for _ in range(60):
        loss = (net(x, features, base) - x).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.sqrt() < 0.3 * (base - x).square().mean().sqrt()


def test_grid_must_fit_the_plan() -> None:
    with pytest.raises(ValueError, match="sequence_length 41, grid has 40 points"):
        MambaUV(small(), GRID[:-1])
