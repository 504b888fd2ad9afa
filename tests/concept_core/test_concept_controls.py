"""Controls know what they say they know: letters, pairs, columns; and worst strata and intervals are as defined."""

from __future__ import annotations

import numpy as np
import pytest

from concept_core import controls
from concept_core.cav.rows import Rows
from concept_core.corpus.windows import Window
from concept_core.evaluation.scores import auroc, average_precision, by_stratum
from concept_core.evaluation.uncertainty import GroupBootstrap, paired


def window(number: int, letters: str, stratum: str, fold: int = 0) -> Window:
    return Window(
        key=f"{number}:{stratum}", accession=f"P{number}", sequence=letters, start=0, end=len(letters),
        stratum=stratum, group=f"g{number}", fold=fold, domains=((9, 32),) if stratum == "pos" else (),
    )  # type: ignore[arg-type]  # fmt: skip


def test_a_bag_does_not_see_order_and_dipeptides_do() -> None:
    one, other = "ACDEFX", "FEDCAX"
    np.testing.assert_array_equal(controls.bag20(one), controls.bag20(other))
    assert controls.bag20(one).sum() == pytest.approx(5 / 6)
    pairs = controls.dipeptide(one)
    assert pairs.sum() == pytest.approx(4 / 5)
    assert pairs[0 * 20 + 1] == pytest.approx(1 / 5)  # A before C
    assert not np.array_equal(pairs, controls.dipeptide(other))


def planted() -> tuple[list[Window], Rows]:
    rng = np.random.default_rng(0)
    made = []
    for number in range(40):
        letters = list(rng.choice(list("ADEGKLNPQRST"), 41))
        made.append(window(number, "".join(letters), "rand", number % 4))
        for place, residue in ((12, "C"), (15, "C"), (28, "H"), (32, "H")):
            letters[place - 3 + number % 3] = residue  # never in quite the same place
        made.append(window(number, "".join(letters), "pos", number % 4))
    return made, Rows.of(made)


def test_a_position_matrix_finds_a_motif_wherever_it_stands_and_never_sees_its_own_fold() -> None:
    windows, rows = planted()
    assert controls.domain_width(windows) == 23
    scores = controls.pssm_scores(windows, rows, width=35)
    assert auroc(scores[rows.positive], scores[~rows.positive]) > 0.95
    odd = [one.model_copy(update={"sequence": "W" * 41}) if one.fold == 0 and one.positive else one for one in windows]
    changed = controls.pssm_scores(odd, rows, width=35)
    own = (rows.folds == 0) & ~rows.positive
    np.testing.assert_array_equal(scores[own], changed[own])
    assert not np.array_equal(scores[rows.folds == 1], changed[rows.folds == 1])


def test_a_track_of_the_matrix_is_its_score_at_every_offset() -> None:
    matrix = controls.Pssm(np.random.default_rng(0).normal(size=(5, 20)))
    track = matrix.track("ACDEFGHX")
    assert len(track) == 4
    assert track[1] == pytest.approx(sum(matrix.log_odds_CA[column, 1 + column] for column in range(5)))


def test_the_pattern_must_lie_inside_the_window() -> None:
    whole = "AAAACAACAAALAAAAAAAAHAAAHAAA"
    assert controls.pattern_scores(
        [window(0, whole, "pos"), window(1, whole[:22], "pos")], r"C.{2}C.{12}H.{3}H"
    ).tolist() == [1, 0]


def test_auroc_counts_ties_half_and_precision_takes_ties_in_one_step() -> None:
    assert auroc(np.array([1.0, 2.0]), np.array([1.0, 0.0])) == 0.875
    assert auroc(np.zeros(3), np.zeros(4)) == 0.5
    assert average_precision(np.zeros(3), np.zeros(3)) == 0.5
    assert np.isnan(auroc(np.zeros(0), np.ones(2)))


def test_a_missing_stratum_has_no_worst() -> None:
    strata = np.array(["pos", "rand", "hard", "shuf", "scr"])
    scores = np.array([1.0, 0.0, 0.5, 2.0, 0.1])
    found = by_stratum(scores, strata)
    assert (found.worst, found.worst_stratum) == (0.0, "shuf")
    assert found.prevalence == 0.2
    without = by_stratum(scores[:4], strata[:4])
    assert np.isnan(without.worst)
    assert without.worst_stratum == "scr"


def test_the_weighted_auroc_of_a_resample_is_that_of_its_repeated_rows() -> None:
    rng = np.random.default_rng(1)
    groups = [f"g{number // 2}" for number in range(40)]
    scores, positive = rng.normal(size=40), np.arange(40) % 3 == 0
    bootstrap = GroupBootstrap(groups, resamples=5, seed=3)
    for weights, value in zip(bootstrap.weights(groups), bootstrap.auroc(scores, positive, groups), strict=True):
        rows = np.repeat(np.arange(40), weights.astype(int))
        assert value == pytest.approx(auroc(scores[rows][positive[rows]], scores[rows][~positive[rows]]))


def test_relatives_do_not_count_twice_and_differences_are_paired() -> None:
    """Ten copies of each row in one group give the interval of one copy; equal scores differ by exactly nothing."""
    rng = np.random.default_rng(2)
    scores, positive = rng.normal(size=30), np.arange(30) % 2 == 0
    single = [f"g{number}" for number in range(30)]
    one = GroupBootstrap(single, resamples=200, seed=0)
    many = GroupBootstrap(single * 10, resamples=200, seed=0)
    np.testing.assert_allclose(
        one.auroc(scores, positive, single), many.auroc(np.tile(scores, 10), np.tile(positive, 10), single * 10)
    )

    def resampled(values: np.ndarray) -> np.ndarray:
        return one.auroc(values, positive, single)

    same = paired(one, lambda v: auroc(v[positive], v[~positive]), resampled, scores, scores.copy())
    assert (same.value, same.low, same.high) == (0, 0, 0)
