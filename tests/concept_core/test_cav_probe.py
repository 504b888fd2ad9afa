"""The probe: unseen rows only, its null, and what happens where there is nothing to learn (T4, T17, T18, T20)."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn")

from concept_core.cav import direction, nulls, probe
from concept_core.cav.rows import Rows
from concept_core.controls import bag20
from concept_core.evaluation import scores
from concept_core.plans import NEGATIVES, CavPlan
from study_core.errors import BadInput

PLAN = CavPlan(null_refits=19)


def rows(groups: int, *, folds: int = 3, held_out: int = 0, strata: tuple[str, ...] = ("pos", *NEGATIVES)) -> Rows:
    """A row of every stratum a group; the last groups are held out."""
    names, keys, kinds, numbers = [], [], [], []
    for group in range(groups):
        for stratum in strata:
            keys.append(f"P{group}:{stratum}")
            kinds.append(stratum)
            names.append(f"g{group}")
            numbers.append(-1 if group >= groups - held_out else group % folds)
    return Rows(np.array(keys), np.array(kinds), np.array(names), np.array(numbers))


def features(table: Rows, signal: float, *, width: int = 6, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(len(table), width))
    x[table.positive, 0] += signal
    return x


def test_a_planted_direction_is_found_out_of_fold_and_held_out() -> None:
    table = rows(40, held_out=8)
    trained = probe.train(features(table, 4.0), table, PLAN)
    assert trained.held_out is not None
    assert scores.evaluate(trained.oof).worst > 0.95
    assert scores.evaluate(trained.held_out).worst > 0.9
    u = direction.concept_direction(trained.final)
    assert np.linalg.norm(u) == pytest.approx(1.0)
    assert u[0] > 0.9
    assert direction.pattern_direction(features(table, 4.0), table)[0] > 0.9


def test_the_model_space_form_equals_scaler_pca_and_logistic_regression() -> None:
    table = rows(30)
    x = features(table, 1.0) * [1, 10, 100, 1, 1, 1] + 5
    fitted = probe.train(x, table, PLAN).final
    a, c = fitted.affine
    np.testing.assert_allclose(x @ a + c, fitted.projection(x) @ fitted.weights_k + fitted.bias, atol=1e-9)


def test_fitted_and_scored_on_the_same_noise_is_perfect_and_cannot_be_asked_for() -> None:
    """T17: more features than rows separate anything in sample; out of fold it is one half."""
    table = rows(24, strata=("pos", "rand", "hard", "shuf", "scr"))
    x = np.random.default_rng(1).normal(size=(len(table), 200))
    plan = CavPlan(pca=128, C=100.0)
    fitted = probe.fit_probe(x, table, plan)
    a, c = fitted.affine
    in_sample = x @ a + c
    assert scores.auroc(in_sample[table.positive], in_sample[~table.positive]) == 1.0
    with pytest.raises(BadInput, match="fitted on"):
        fitted.logits(x, table.groups.tolist())
    assert 0.35 < scores.evaluate(probe.train(x, table, plan).oof).auroc_all < 0.65


def test_a_group_on_both_sides_is_refused() -> None:
    table = rows(6)
    folds = table.folds.copy()
    folds[0] = 2
    with pytest.raises(BadInput, match="g0 is in two folds"):
        Rows(table.keys, table.strata, table.groups, folds).check()


def test_a_feature_that_is_not_finite_is_named() -> None:
    table = rows(9)
    x = features(table, 1.0)
    x[7, 2] = np.nan
    with pytest.raises(BadInput, match=f"row {table.keys[7]}"):
        probe.train(x, table, PLAN)


def test_refits_with_cached_pca_equal_refits_of_everything() -> None:
    """T18."""
    table = rows(20)
    x = features(table, 0.5, width=10)
    cached = nulls.NullRefits(x, table, PLAN)
    for number in (0, 1, 7):
        labels = cached.labels(number)
        whole = np.zeros(len(table))
        for fold in table.fold_numbers:
            inside = table.folds != fold
            projection = probe.fit_projection(x[inside], PLAN.pca)
            weights, bias = probe.fit_weights(projection(x[inside]), labels[inside], PLAN)
            whole[~inside] = projection(x[~inside]) @ weights + bias
        assert scores.auroc(whole[labels], whole[~labels]) == pytest.approx(cached.refit(labels), abs=1e-12)
    assert cached.observed() == pytest.approx(scores.evaluate(probe.train(x, table, PLAN).oof).auroc_all, abs=1e-12)


def test_an_interrupted_null_goes_on_where_it_stood() -> None:
    table = rows(12)
    refits = nulls.NullRefits(features(table, 0.0), table, PLAN)
    assert [*refits.values(0, 6)] == [*refits.values(0, 4), *refits.values(4, 6)]


def test_a_bag_of_residues_has_no_direction_between_windows_and_their_own_shuffles() -> None:
    """T20: no direction scores 0 everywhere: AUROC one half, never NaN."""
    rng = np.random.default_rng(2)
    table = rows(30, strata=("pos", "shuf"))
    windows = ["".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), 41)) for _ in range(30)]
    x = np.stack([bag20("".join(letters)) for w in windows for letters in (w, rng.permutation(list(w)))])
    trained = probe.train(x, table, PLAN)
    assert not trained.final.has_direction
    assert not trained.oof.scores.any()
    assert scores.evaluate(trained.oof).auroc["shuf"] == 0.5
    assert not direction.concept_direction(trained.final).any()


@pytest.mark.parametrize("mode", ["label_shuffle", "feature_permute", "gaussian_noise"])
def test_random_cavs_are_unit_and_near_nothing(mode: str) -> None:
    table = rows(40)
    x = features(table, 3.0, width=20)
    plan = CavPlan(random_mode=mode)  # type: ignore[arg-type]
    drawn = np.stack([nulls.random_direction(x, table, plan, number) for number in range(8)])
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), 1.0)
    true = direction.concept_direction(probe.train(x, table, plan).final)
    assert abs(drawn @ true).mean() < 0.5
    np.testing.assert_array_equal(drawn[3], nulls.random_direction(x, table, plan, 3))


@pytest.mark.slow
def test_p_is_uniform_on_noise() -> None:
    """T4: over 50 seeds of pure noise p is uniform, and .05 is met at its own rate."""
    from scipy.stats import kstest

    table = rows(12, folds=3)
    ps = []
    for seed in range(50):
        refits = nulls.NullRefits(features(table, 0.0, width=5, seed=seed), table, CavPlan(seed=seed))
        ps.append(nulls.Null(refits.observed(), np.array([*refits.values(0, 59)])).p)
    assert kstest(ps, "uniform").pvalue > 0.01
    assert np.mean(np.array(ps) <= 0.05) <= 0.14


def test_p_cannot_fall_below_what_the_number_of_refits_allows() -> None:
    assert nulls.Null(1.0, np.full(199, 0.5)).p == pytest.approx(0.005)
    assert nulls.Null(1.0, np.full(20, 0.5)).p == pytest.approx(1 / 21)
