"""Scanning: windows by cumulative sums, two steps, suppression, IOU, and which proteins get a heatmap (T9)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from concept_core import detection
from concept_core.cav.direction import Affine
from concept_core.corpus.windows import best_overlap, overlap
from concept_core.evaluation import localisation
from concept_core.evaluation.threshold_registry import ThresholdRegistry, rates
from concept_core.plans import DetectionPlan
from concept_core.predictions import Shard, read_shard, write_shard


def test_cumulative_sums_equal_the_mean_of_every_window() -> None:
    states = np.random.default_rng(0).normal(size=(100, 8))
    probe = Affine(np.arange(8.0), 0.5)
    scores = detection.track(states, probe, 41)
    assert len(scores) == 60
    for start in (0, 17, 59):
        assert scores[start] == pytest.approx(states[start : start + 41].mean(axis=0) @ probe.a_d + 0.5)


def test_a_protein_shorter_than_the_window_is_one_window() -> None:
    states = np.ones((10, 2))
    assert detection.track(states, Affine(np.array([1.0, 1.0]), 0.0), 41).tolist() == [2.0]


def test_two_steps_stay_near_the_coarse_position() -> None:
    plain, centred = np.zeros(100), np.zeros(100)
    plain[50], centred[58], centred[90] = 1.0, 1.0, 9.0
    assert detection.two_step(plain, centred, 14) == (50, 58)
    assert detection.two_step(plain, centred, 0) == (50, 50)
    assert detection.two_step(plain[::-1].copy(), centred, 14)[0] == 49


def test_suppression_keeps_the_better_of_two_neighbours_and_both_of_distant_ones() -> None:
    scores = np.zeros(100)
    scores[[10, 25, 46, 70]] = [5, 6, 4, 1]
    assert detection.suppressed(scores, 0.5, 21) == [25, 46, 70]
    assert detection.suppressed(scores, 4.0, 21) == [25, 46]
    assert detection.suppressed(scores, 7.0, 21) == []


def test_hits_never_start_nearer_than_the_distance_even_after_refinement() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        plain, centred = rng.normal(size=200), rng.normal(size=200)
        starts = sorted(hit.start for hit in detection.hits(
            plain, centred, 0.0, window=41, length=240, reach=14, suppress=21))  # fmt: skip
        assert len(starts) > 3
        assert min(np.diff(starts)) >= 21


def test_confidence_follows_the_protein_null() -> None:
    null = tuple(np.linspace(0, 1, 199))
    registry = ThresholdRegistry(
        cav_sha256="a", model="m", layer=1, window=41, context=None, negative_mean=-1.0, negative_sd=2.0,
        thresholds={"f1_max": rates(0.5, np.ones(2), np.zeros(2), "windows")}, protein_null=null,
    )  # fmt: skip

    def said(best: float) -> tuple[int, float]:
        track, plan = np.array([best]), DetectionPlan(threshold_method="f1_max")
        one = detection.call("P", 41, track, track, registry, plan)
        return one.confidence, one.z

    assert said(2.0) == (3, 1.5)
    assert said(0.97)[0] == 2
    assert said(0.6)[0] == 1
    assert said(0.4) == (0, pytest.approx(0.7))


def test_overlap_is_over_half_open_spans() -> None:
    assert overlap((0, 10), (0, 10)) == 1.0
    assert overlap((0, 10), (10, 20)) == 0.0
    assert overlap((0, 41), (20, 61)) == pytest.approx(21 / 61)
    assert best_overlap((30, 71), [(0, 23), (40, 63)], 200) == pytest.approx(overlap((30, 71), (31, 72)))


def test_chance_inside_an_array_is_higher_than_anywhere() -> None:
    domains = [(100 + 28 * n, 123 + 28 * n) for n in range(5)]
    anywhere, inside = localisation.chance(domains, 41, 400)
    assert anywhere < 0.2 < 0.3 < inside
    best = localisation.overlaps(domains, 41, 400)
    assert best.max() == 1.0
    assert (best == 1.0).sum() == 5


def test_the_figures_of_localisation() -> None:
    found = localisation.summary(np.array([1.0, 0.8, 0.75, 0.5, 0.2]))
    assert (found.median, found.share_good, found.recall, found.proteins) == (0.75, 0.4, 0.8, 5)
    assert np.isnan(localisation.summary(np.zeros(0)).median)


def test_thirteen_heatmaps_are_disjoint_and_ties_go_by_accession() -> None:
    ious = {f"P{n:02d}": (n // 2) / 20 for n in range(40)}
    chosen = localisation.heatmaps(ious, 13, seed=0)
    names = [one.accession for one in chosen]
    assert len(set(names)) == 13
    assert names[:5] == ["P38", "P39", "P36", "P37", "P34"]
    assert names[5:10] == ["P00", "P01", "P02", "P03", "P04"]
    assert [one.why for one in chosen] == ["best"] * 5 + ["worst"] * 5 + ["drawn"] * 3
    assert localisation.heatmaps(ious, 13, seed=0) == chosen
    assert {one.accession for one in localisation.heatmaps(ious, 13, seed=1)[10:]} != set(names[10:])


def test_all_get_a_heatmap_where_there_are_few() -> None:
    assert [one.accession for one in localisation.heatmaps({"b": 0.1, "a": 0.1, "c": 0.9}, 13, 0)] == ["c", "a", "b"]


def test_a_shard_s_tracks_read_back_whatever_an_accession_is(tmp_path: Path) -> None:
    names = ["file", "allow_pickle", "sp|P1|X", "a/../b", "self"]
    tracks = {name: np.full(3, float(number)) for number, name in enumerate(names) if name != "sp|P1|X"}
    written = Shard(tuple({"accession": name} for name in names), tracks)
    read = read_shard(write_shard(tmp_path, written))
    assert read.predictions == written.predictions
    assert {name: one.tolist() for name, one in read.tracks.items()} == {k: v.tolist() for k, v in tracks.items()}
