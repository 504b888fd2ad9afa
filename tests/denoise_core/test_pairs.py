"""Pairs: who is paired with whom, how often a row comes, and what weights do."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from denoise_core.corpus.manifest import Manifest, manifest_of
from denoise_core.corpus.reference import loo_mean
from denoise_core.corpus.store import Corpus, corpus_of, open_corpus
from denoise_core.pairs import PairSampler
from denoise_core.plans import DataPlan
from study_core.errors import BadInput

CPU = torch.device("cpu")
PAIRWISE, LOO = DataPlan(noise2noise_pairwise=True), DataPlan(noise2noise_pairwise=False)
LENGTH = 9


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def corpus_with(counts: list[int], seed: int = 0) -> Corpus:
    """Group k has counts[k] captures. Their values tell them apart: level by group, the rest random."""
    rng = np.random.default_rng(seed)
    names = [
        f"treatment_{1 + k % 3}/sample_{'ABCDEFGHIJ'[k // 6]}/{('6Oclock', '12Oclock')[k // 3 % 2]}"
        for k in range(len(counts))
    ]
    rows = [
        (f"{name}/rep_{number:03d}.npy", *name.split("/"), name)
        for name, count in zip(names, counts, strict=True)
        for number in range(count)
    ]
    frame = pd.DataFrame(rows, columns=["relative_path", "treatment", "sample", "angle", "group_id"])
    level = np.repeat(0.1 + 0.8 * np.arange(len(counts)) / len(counts), counts)[:, None]
    spectra = (level + rng.uniform(0, 0.05, (len(frame), LENGTH))).astype(np.float32)
    return corpus_of(frame, spectra, 300 + 0.5 * np.arange(LENGTH))


def everything(corpus: Corpus, twins: list[int] | None = None) -> Manifest:
    """Every capture, and those named by `twins` a second time at the end."""
    frame = corpus.captures
    return manifest_of(pd.concat([frame, frame.iloc[twins or []]]))


def partner_rows(sampler: PairSampler, target_BL: torch.Tensor) -> list[int]:
    """Which capture each target is."""
    known = {row.numpy().tobytes(): place for place, row in enumerate(sampler.spectra_NL)}
    return [known[row.numpy().tobytes()] for row in target_BL]


counts_of_groups = st.lists(st.integers(2, 6), min_size=1, max_size=6)


@settings(max_examples=40, deadline=None)
@given(counts=counts_of_groups, data=st.data(), seed=st.integers(0, 2**16))
def test_a_capture_is_never_paired_with_itself_its_twin_or_a_stranger(
    counts: list[int], data: st.DataObject, seed: int
) -> None:
    corpus = corpus_with(counts)
    twins = data.draw(st.lists(st.integers(0, sum(counts) - 1), max_size=8))
    sampler = PairSampler(corpus, everything(corpus, twins), PAIRWISE, CPU)
    g = generator(seed)
    for index in sampler.epoch(g, 5, 6):
        batch = sampler.batch(index, g)
        partners = partner_rows(sampler, batch.target_BL)
        assert all(row != partner for row, partner in zip(index.tolist(), partners, strict=True))
        assert (corpus.group_codes[index.numpy()] == corpus.group_codes[partners]).all()
        assert torch.equal(batch.x_BL, sampler.spectra_NL[index])


def test_every_other_capture_is_an_equally_likely_target_twin_rows_or_not() -> None:
    corpus = corpus_with([5, 4])
    sampler = PairSampler(corpus, everything(corpus, [1, 1, 2]), PAIRWISE, CPU)
    drawn = Counter(partner_rows(sampler, sampler.pair_target(torch.zeros(8000, dtype=torch.long), generator())))
    assert set(drawn) == {1, 2, 3, 4}
    assert [drawn[row] / 8000 for row in (1, 2, 3, 4)] == pytest.approx([0.25] * 4, abs=0.02)


@settings(max_examples=40, deadline=None)
@given(counts=counts_of_groups, data=st.data())
def test_leave_one_out_targets_are_the_mean_of_the_other_captures(counts: list[int], data: st.DataObject) -> None:
    corpus = corpus_with(counts)
    twins = data.draw(st.lists(st.integers(0, sum(counts) - 1), max_size=8))
    sampler = PairSampler(corpus, everything(corpus, twins), LOO, CPU)
    every = np.arange(len(corpus))
    target_NL = sampler.batch(torch.from_numpy(every), generator()).target_BL
    np.testing.assert_allclose(target_NL, loo_mean(corpus, every), atol=1e-6)


def test_leave_one_out_knows_only_captures_of_the_manifest() -> None:
    corpus = corpus_with([6, 3])
    half = manifest_of(corpus.captures.iloc[[0, 1, 2, 6, 7, 8]])
    sampler = PairSampler(corpus, half, LOO, CPU)
    target = sampler.batch(torch.tensor([0]), generator()).target_BL[0]
    np.testing.assert_allclose(target, corpus.spectra_NL[[1, 2]].mean(axis=0), atol=1e-6)
    partners = partner_rows(sampler, sampler.pair_target(torch.zeros(200, dtype=torch.long), generator()))
    assert set(partners) == {1, 2}


@settings(max_examples=40, deadline=None)
@given(counts=counts_of_groups, batch=st.integers(1, 20), seed=st.integers(0, 2**16))
def test_an_epoch_is_full_batches_of_distinct_rows(counts: list[int], batch: int, seed: int) -> None:
    corpus = corpus_with(counts)
    sampler = PairSampler(corpus, everything(corpus), PAIRWISE, CPU)
    batches = [index.tolist() for index in sampler.epoch(generator(seed), batch, None)]
    drawn = [row for index in batches for row in index]
    assert len(batches) == sampler.steps(batch, None)
    assert {len(index) for index in batches} == {min(batch, len(corpus))}
    assert len(drawn) == len(set(drawn)) > len(corpus) - batch


def test_the_seeds_batches_are_17_an_epoch() -> None:
    corpus = corpus_with([2])
    sampler = PairSampler(corpus, everything(corpus), PAIRWISE, CPU)
    sampler.rows_M = torch.zeros(10_350, dtype=torch.long)
    assert sampler.steps(600, None) == 17
    assert sampler.steps(600, 20) == 20


def test_asked_for_more_steps_every_row_comes_once_before_any_comes_again() -> None:
    corpus = corpus_with([3, 4])
    sampler = PairSampler(corpus, everything(corpus, [0]), PAIRWISE, CPU)
    drawn = torch.cat(list(sampler.epoch(generator(), 4, 4))).tolist()
    assert len(drawn) == 16
    twice_over = Counter([*range(7), 0])
    assert Counter(drawn[:8]) == twice_over
    assert Counter(drawn[8:]) == twice_over


def test_epochs_differ_and_repeat_with_the_generator() -> None:
    corpus = corpus_with([6, 6])
    sampler = PairSampler(corpus, everything(corpus), PAIRWISE, CPU)
    g, same = generator(3), generator(3)
    first, second = torch.cat(list(sampler.epoch(g, 4, None))), torch.cat(list(sampler.epoch(g, 4, None)))
    assert not torch.equal(first, second)
    assert torch.equal(first, torch.cat(list(sampler.epoch(same, 4, None))))


def test_groups_are_sampled_by_their_own_error() -> None:
    corpus = corpus_with([4, 8])
    sampler = PairSampler(corpus, everything(corpus), PAIRWISE, CPU)
    sampler.weigh_groups(torch.tensor([3.0] * 4 + [1.0] * 8))
    drawn = torch.cat(list(sampler.epoch(generator(), 100, 100)))
    share = (drawn < 4).float().mean().item()
    assert share == pytest.approx(4 * 3 / (4 * 3 + 8 * 1), abs=0.02)
    counts = torch.bincount(drawn, minlength=12)[:4].float()
    assert (counts / counts.sum()).tolist() == pytest.approx([0.25] * 4, abs=0.02)


def test_a_group_without_error_is_left_out() -> None:
    corpus = corpus_with([4, 4, 4])
    sampler = PairSampler(corpus, everything(corpus), PAIRWISE, CPU)
    sampler.weigh_groups(torch.tensor([0.0] * 4 + [1.0] * 4 + [0.0] * 4))
    assert set(torch.cat(list(sampler.epoch(generator(), 500, 4))).tolist()) == {4, 5, 6, 7}


@pytest.mark.parametrize("plan", [PAIRWISE, LOO], ids=["pairwise", "loo"])
def test_mixing_moves_input_target_and_base_together(plan: DataPlan) -> None:
    corpus = corpus_with([4] * 9)
    sampler = PairSampler(corpus, everything(corpus), plan.model_copy(update={"mixing": True}), CPU)
    index = torch.arange(36)
    batch = sampler.batch(index, generator(5))
    assert batch.shift_BL is not None
    assert torch.allclose(batch.x_BL, sampler.spectra_NL[index] + batch.shift_BL, atol=1e-7)
    unmixed = batch.target_BL - batch.shift_BL
    if plan is LOO:
        assert torch.allclose(unmixed, sampler.loo_target(index), atol=1e-6)
    else:
        distance = torch.cdist(unmixed.double(), sampler.spectra_NL.double())
        partner = distance.argmin(dim=1)
        assert distance.amin(dim=1).max() < 1e-6
        assert (partner != index).all()
        assert (sampler.group_N[partner] == batch.group_B).all()
    moved = batch.shift_BL.abs().amax(dim=1) > 0
    assert moved.float().mean() > 0.3
    # at most half way to a group of the same treatment: levels of the corpus are 0.8 * 3 k / 9 apart within one
    assert batch.shift_BL.abs().max() <= 0.5 * (0.8 * 6 / 9 + 0.05)


def test_noise_sd_is_the_pooled_sd_within_groups() -> None:
    corpus = corpus_with([5, 5, 5])
    sampler = PairSampler(corpus, everything(corpus, [2]), PAIRWISE, CPU)
    own = [corpus.spectra_NL[corpus.group_codes == k].var(axis=0, ddof=1) for k in range(3)]
    np.testing.assert_allclose(sampler.noise_sd_L, np.sqrt(np.mean(own, axis=0)), rtol=1e-5)


def test_spread_rows_are_training_rows_each_once() -> None:
    corpus = corpus_with([4, 4, 4])
    sampler = PairSampler(corpus, manifest_of(corpus.captures.iloc[[0, 1, 8, 9, 10, 0]]), PAIRWISE, CPU)
    assert sampler.spread_rows(3).tolist() == [0, 8, 10]
    assert sampler.spread_rows(99).tolist() == [0, 1, 8, 9, 10]


def test_a_group_of_one_capture_is_refused_by_file_and_row() -> None:
    corpus = corpus_with([3, 3])
    alone = manifest_of(corpus.captures.iloc[[0, 1, 2, 4, 4]])
    with pytest.raises(BadInput, match=r"row 5: group treatment_2/sample_A/6Oclock has one capture"):
        PairSampler(corpus, alone, PAIRWISE, CPU)


def test_an_empty_manifest_is_refused() -> None:
    corpus = corpus_with([3])
    with pytest.raises(BadInput):
        PairSampler(corpus, manifest_of(corpus.captures.iloc[:0]), PAIRWISE, CPU)


def test_real_training_rows_twice_in_the_manifest_stay_apart(real_corpus_root: Path) -> None:
    corpus = open_corpus(real_corpus_root)
    manifest = corpus.manifest("manifest_train")
    sampler = PairSampler(corpus, manifest, PAIRWISE, CPU)
    assert sampler.steps(600, None) == 17
    assert len(sampler.count_G) == 51
    assert sampler.count_G.unique().tolist() == [150]
    g = generator(1)
    for index in sampler.epoch(g, 600, 3):
        batch = sampler.batch(index, g)
        assert (batch.x_BL != batch.target_BL).any(dim=1).all()
    sd = sampler.noise_sd_L
    assert sd[0].item() == pytest.approx(0.019, abs=0.001)
    assert sd[180].item() == pytest.approx(0.0034, abs=0.0004)
    assert sd[600].item() == pytest.approx(0.016, abs=0.001)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_training_step_never_waits_for_the_device() -> None:
    from denoise_core.augment import augment
    from denoise_core.losses import total_loss
    from denoise_core.plans import LossPlan

    device = torch.device("cuda")
    corpus = corpus_with([4] * 9)
    plan = PAIRWISE.model_copy(update={"mixing": True, "cutout_min_nm": 1.0, "cutout_max_nm": 2.0})
    sampler = PairSampler(corpus, everything(corpus), plan, device)
    g = torch.Generator(device=device).manual_seed(0)
    index = next(iter(sampler.epoch(g, 16, None)))
    weights_L = torch.ones(LENGTH, device=device)
    loss_plan = LossPlan(log_mse_weight=1, consistency_weight=1, dip_window_half_nm=1, dip_m=2)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        batch = sampler.batch(index, g)
        x_BL = augment(batch.x_BL, plan, sampler.noise_sd_L, 0.5, g).requires_grad_()
        loss, _ = total_loss(x_BL, batch.target_BL, loss_plan, weights_L, 0.5, weights_L > 0, group_B=batch.group_B)
        (gradient,) = torch.autograd.grad(loss, x_BL)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.isfinite(gradient).all()
