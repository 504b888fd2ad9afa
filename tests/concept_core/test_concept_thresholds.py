"""Named thresholds mean what they say (T8), and serve no other CAV (T15)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from concept_core.evaluation import threshold_registry as registry
from concept_core.evaluation.scores import average_precision, by_stratum
from study_core.errors import BadInput

VALUES = st.floats(-5, 5, allow_subnormal=False).map(lambda value: round(value, 2))
SCORES = st.integers(2, 40).flatmap(lambda n: arrays(float, n, elements=VALUES))


@given(SCORES)
def test_precision_at_recall_is_the_largest_threshold_with_that_recall(positives: np.ndarray) -> None:
    t = registry.precision_at_recall(positives, 0.9)
    assert (positives >= t).mean() >= 0.9
    assert (positives >= np.nextafter(t, np.inf)).mean() < 0.9


@given(SCORES)
def test_fpr_is_the_smallest_threshold_with_that_rate(negatives: np.ndarray) -> None:
    t = registry.false_positive_rate(negatives, 0.05)
    assert (negatives >= t).mean() <= 0.05
    assert (negatives >= np.nextafter(t, -np.inf)).mean() > 0.05


@given(SCORES, SCORES)
def test_no_observed_threshold_has_a_better_f1(positives: np.ndarray, negatives: np.ndarray) -> None:
    def f1(t: float) -> float:
        hit, false = (positives >= t).sum(), (negatives >= t).sum()
        return float(2 * hit / (hit + false + len(positives)))

    assert f1(registry.f1_max(positives, negatives)) >= max(map(f1, [*positives, *negatives])) - 1e-12


def test_a_protein_threshold_is_set_on_maxima_not_on_windows() -> None:
    rng = np.random.default_rng(0)
    maxima = rng.normal(size=(100, 300)).max(axis=1)
    windows = (rng.normal(3, 1, 100), rng.normal(0, 1, 400))
    made = registry.set_thresholds(windows, (maxima + 2, maxima))
    assert set(made) == {"f1_max", "precision_at_recall_90", "fpr_0.05", "protein_fpr_0.05"}
    assert (maxima >= made["fpr_0.05"].threshold).mean() > 0.5
    assert made["protein_fpr_0.05"].fpr == (maxima >= made["protein_fpr_0.05"].threshold).mean() <= 0.05


def test_average_precision_of_a_stratum_is_at_one_half_whatever_the_draw() -> None:
    """At the counts' own prevalence a threshold on it would mean another thing in each held-out part."""
    rng = np.random.default_rng(0)
    positives, negatives = rng.normal(1, 1, 60), rng.normal(0, 1, 60)
    thrice = np.repeat(negatives, 3)
    even = average_precision(positives, negatives)
    assert average_precision(positives, negatives, balanced=True) == pytest.approx(even)
    assert average_precision(positives, thrice, balanced=True) == pytest.approx(even)
    assert average_precision(positives, thrice) < even - 0.05
    strata = np.array(["pos"] * 60 + ["rand"] * 180)
    assert by_stratum(np.r_[positives, thrice], strata).ap["rand"] == pytest.approx(even)


def stored(**changes: object) -> registry.ThresholdRegistry:
    made = registry.set_thresholds((np.array([1.0, 2.0]), np.array([0.0, 0.5])), None)
    fields = {
        "cav_sha256": "a" * 64, "model": "m", "layer": 4, "window": 41, "context": None, "thresholds": made,
        "negative_mean": 0.0, "negative_sd": 1.0, "protein_null": (0.1, 0.2),
    }  # fmt: skip
    return registry.ThresholdRegistry.model_validate({**fields, **changes})


def test_a_registry_reads_back_and_serves_its_own_cav(tmp_path: Path) -> None:
    file = registry.write_registry(tmp_path / "thresholds.json", stored())
    back = registry.read_registry(file)
    assert back == stored()
    assert back.checked(cav_sha256="a" * 64, layer=4, window=41, context=None, file=file) is back


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"cav_sha256": "b" * 64}, "thresholds of CAV aaaaaaaaaaaa, the CAV here is bbbbbbbbbbbb"),
        ({"layer": 3}, "for layer 4, asked is 3"),
        ({"window": 31}, "for window 41, asked is 31"),
        ({"context": 96}, "for context None, asked is 96"),
    ],
)
def test_a_registry_of_something_else_is_refused(asked: dict[str, object], said: str) -> None:
    own: dict[str, object] = {"cav_sha256": "a" * 64, "layer": 4, "window": 41, "context": None}
    with pytest.raises(BadInput, match=said):
        stored().checked(**{**own, **asked}, file=Path("thresholds.json"))  # type: ignore[arg-type]


def test_a_method_that_was_not_set_is_named() -> None:
    with pytest.raises(BadInput, match=r"no threshold protein_fpr_0\.05; one of f1_max"):
        stored().value("protein_fpr_0.05")
