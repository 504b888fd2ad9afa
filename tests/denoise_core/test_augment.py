"""Augmentation: what it may change, by how much, and that no validation capture ever passes through it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from denoise_core import objective, training
from denoise_core.augment import augment, cutout, jitter, mix
from denoise_core.corpus.store import open_corpus
from denoise_core.model import preprocess
from denoise_core.plans import DataPlan
from denoise_core.recipes import named

ROOT = Path(__file__).resolve().parents[2]
STEP = 0.5
NO_SD = torch.zeros(601)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def curves(batch: int, seed: int) -> torch.Tensor:
    """Convex everywhere, so that no chord touches the curve but at its ends: (B, 601) in [0.2, 0.8]."""
    x = torch.linspace(0, 1, 601)
    slope = torch.rand(batch, 1, generator=generator(seed))
    return 0.2 + 0.2 * slope * x + 0.4 * x.square()


# ---- cutout ----------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**20), batch=st.integers(1, 6), low=st.floats(1.0, 20.0), more=st.floats(0.0, 40.0))
def test_cutout_changes_one_window_and_makes_it_straight(seed: int, batch: int, low: float, more: float) -> None:
    plan = DataPlan(cutout_min_nm=low, cutout_max_nm=low + more)
    x_BL = curves(batch, seed)
    y_BL = cutout(x_BL, plan, STEP, generator(seed))
    for x, y in zip(x_BL, y_BL, strict=True):
        changed = torch.nonzero(x != y)[:, 0]
        assert len(changed) > 0
        first, last = int(changed[0]) - 1, int(changed[-1]) + 1
        assert low - STEP <= (last - first) * STEP <= low + more + STEP  # rounded to the grid
        assert first >= 0
        assert last <= 600
        line = torch.linspace(float(x[first]), float(x[last]), last - first + 1)
        assert torch.allclose(y[first : last + 1], line, atol=1e-6)
        assert torch.equal(y[: first + 1], x[: first + 1])
        assert torch.equal(y[last:], x[last:])


def test_cutout_windows_have_every_width_and_reach_both_ends() -> None:
    x_BL = curves(1, 0).expand(4000, -1)
    changed_BL = cutout(x_BL, DataPlan(), STEP, generator(1)) != x_BL
    widths = (changed_BL.sum(dim=1) + 1) * STEP
    assert widths.min() <= 5.5
    assert widths.max() >= 14.5
    assert widths.mean().item() == pytest.approx(10.0, abs=0.3)
    touched = changed_BL.float().mean(dim=0)
    assert touched[1] > 0
    assert touched[599] > 0


# ---- jitter ----------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**20), gain=st.floats(0.0, 0.1), shift=st.floats(0.0, 0.5))
def test_jitter_stays_inside_its_bounds(seed: int, gain: float, shift: float) -> None:
    plan = DataPlan(jitter_gain=gain, jitter_shift_nm=shift, jitter_noise=0.0)
    x_BL = curves(4, seed)
    y_BL = jitter(x_BL, plan, NO_SD, STEP, generator(seed))
    steepest = x_BL.diff(dim=1).abs().amax(dim=1, keepdim=True) / STEP
    assert ((y_BL - x_BL).abs() <= gain * (x_BL.abs() + steepest * shift) + steepest * shift + 1e-6).all()


def test_jitter_gain_is_one_factor_a_capture() -> None:
    plan = DataPlan(jitter_gain=0.01, jitter_shift_nm=0.0, jitter_noise=0.0)
    x_BL = curves(500, 0)
    ratio_BL = jitter(x_BL, plan, NO_SD, STEP, generator(0)) / x_BL
    assert (ratio_BL.amax(1) - ratio_BL.amin(1)).max() < 1e-5
    assert ratio_BL.min() >= 0.99 - 1e-6
    assert ratio_BL.max() <= 1.01 + 1e-6
    assert ratio_BL[:, 0].std().item() == pytest.approx(0.02 / 12**0.5, rel=0.1)


def test_jitter_shifts_along_the_grid_by_at_most_its_bound() -> None:
    plan = DataPlan(jitter_gain=0.0, jitter_shift_nm=0.1, jitter_noise=0.0)
    slope_BL = (0.2 + 0.001 * torch.arange(601) * STEP).expand(500, -1)  # 0.001 a nm: change in height is shift
    shift_B = (jitter(slope_BL, plan, NO_SD, STEP, generator(0)) - slope_BL)[:, 300] / 0.001
    assert shift_B.abs().max() <= 0.1 + 1e-3
    assert shift_B.abs().max() > 0.09
    assert abs(shift_B.mean()) < 0.01


def test_jitter_noise_has_the_corpus_sd_at_every_wavelength() -> None:
    plan = DataPlan(jitter_gain=0.0, jitter_shift_nm=0.0, jitter_noise=1.0)
    sd_L = torch.linspace(0.02, 0.003, 601)
    x_BL = curves(1, 0).expand(4000, -1)
    noise_BL = jitter(x_BL, plan, sd_L, STEP, generator(0)) - x_BL
    assert torch.allclose(noise_BL.std(dim=0) / sd_L, torch.ones(601), atol=0.06)
    assert abs((noise_BL / sd_L).mean()) < 0.01


# ---- both ------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**20), use_jitter=st.booleans(), use_cutout=st.booleans())
def test_augment_keeps_shape_range_and_its_input_and_repeats_with_the_seed(
    seed: int, use_jitter: bool, use_cutout: bool
) -> None:
    plan = DataPlan(jitter=use_jitter, cutout=use_cutout)
    x_BL = curves(3, seed)
    before = x_BL.clone()
    sd_L = torch.full((601,), 0.5)  # far beyond the range
    y_BL = augment(x_BL, plan, sd_L, STEP, generator(seed))
    assert torch.equal(x_BL, before)
    assert y_BL.shape == x_BL.shape
    assert y_BL.min() >= 0
    assert y_BL.max() <= 1
    assert torch.equal(y_BL, augment(x_BL, plan, sd_L, STEP, generator(seed)))
    assert torch.equal(y_BL, x_BL) == (not use_jitter and not use_cutout)


# ---- mixing ----------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**20))
def test_mixed_means_lie_between_the_own_groups_and_one_of_its_kin(seed: int) -> None:
    mean_GL = torch.rand(5, 7, generator=generator(seed))
    kin_GK = torch.tensor([[0, 1, 2], [0, 1, 2], [0, 1, 2], [3, 4, 0], [3, 4, 0]])  # the last zeros are padding
    count_G = torch.tensor([3, 3, 3, 2, 2])
    group_B = torch.randint(0, 5, (50,), generator=generator(seed))
    moved_BL = mean_GL[group_B] + mix(group_B, mean_GL, kin_GK, count_G, generator(seed))
    for group, moved in zip(group_B.tolist(), moved_BL, strict=True):
        own = mean_GL[group]
        kin = [mean_GL[k] for k in kin_GK[group, : count_G[group]].tolist()]
        shares = [((moved - own) @ (other - own)) / (other - own).square().sum().clamp_min(1e-12) for other in kin]
        assert any(
            0 <= share <= 0.5 and torch.allclose(moved, own + share * (other - own), atol=1e-5)
            for share, other in zip(shares, kin, strict=True)
        )


def test_mixing_visits_every_kin_and_no_other() -> None:
    mean_GL = torch.eye(4)
    kin_GK, count_G = torch.tensor([[0, 1, 2], [0, 1, 2], [0, 1, 2], [3, 0, 0]]), torch.tensor([3, 3, 3, 1])
    shift_BL = mix(torch.zeros(2000, dtype=torch.long), mean_GL, kin_GK, count_G, generator(0))
    towards = shift_BL[:, 1:] > 0
    assert towards[:, :2].float().mean(dim=0).tolist() == pytest.approx([1 / 3, 1 / 3], abs=0.05)
    assert not towards[:, 2].any()
    assert shift_BL.amax().item() == pytest.approx(0.5, abs=0.01)
    assert not mix(torch.full((9,), 3), mean_GL, kin_GK, count_G, generator(0)).any(), "no kin: nothing to mix with"


# ---- preprocessing ---------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    centre=st.booleans(),
    scale=st.floats(1e-3, 10.0),
    level=st.floats(0.0, 1.0),
    spread=st.floats(0.0, 1.0),
)
def test_preprocessing_gives_back_what_it_took(
    seed: int, centre: bool, scale: float, level: float, spread: float
) -> None:
    x_BL = (level + spread * torch.randn(4, 601, generator=generator(seed))).clamp(0, 1)
    z_BL, kept = preprocess.forward(x_BL, preprocess.Preprocess(centre, scale))
    assert torch.allclose(preprocess.inverse(z_BL, kept), x_BL, atol=2e-7)
    if centre:
        assert z_BL.median(dim=1).values.abs().max() < 1e-6


# ---- validation ------------------------------------------------------------------------------------------


def test_augmentation_has_one_call_site() -> None:
    calls = {
        path.name: len(found)
        for path in sorted((ROOT / "denoise_core").rglob("*.py"))
        if path.name != "augment.py"
        and (found := re.findall(r"\b(?:augment|jitter|cutout)\(", path.read_text("utf-8")))
    }
    assert calls == {"objective.py": 1}


def test_no_validation_capture_passes_through_augmentation(
    mini_corpus_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = open_corpus(mini_corpus_root)
    train, panel = corpus.manifest("manifest_train"), corpus.manifest("validation_panel")
    plan = named("act_of_god_seed_mini")
    plan = plan.model_copy(
        update={
            "model": plan.model.model_copy(update={"d_model": 8, "n_layers": 1, "d_state": 4}),
            "optimiser": plan.optimiser.model_copy(update={"epochs": 1, "steps_per_epoch": 2}),
        }
    )
    seen: list[np.ndarray] = []

    def watched(x_BL: torch.Tensor, *rest: object) -> torch.Tensor:
        seen.append(x_BL.numpy().copy())
        return augment(x_BL, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(objective, "augment", watched)
    log = tmp_path / plan.files.audit_log
    log.parent.mkdir(parents=True)
    log.touch()
    training.train(plan, training.TrainingInputs(corpus, train, panel), tmp_path)
    augmented = {row.tobytes() for row in np.concatenate(seen)}
    assert len(augmented) > plan.optimiser.bs
    assert augmented <= {row.tobytes() for row in corpus.spectra_NL[corpus.rows(train)]}
    assert not augmented & {row.tobytes() for row in corpus.spectra_NL[corpus.rows(panel)]}
