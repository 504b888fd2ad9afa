"""Where the concept is: the best window of a protein against the known occurrences, and against chance.

IOU is over half-open spans, with the best window of the same width centred on a known span. Fingers stand in arrays,
28 residues apart, so that a blind hit inside an array overlaps well: chance inside the array is reported beside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from concept_core.cav.rows import Floats
from concept_core.corpus.rows import Span
from concept_core.corpus.windows import best_overlap, centred

GOOD, RECALLED = 0.75, 0.5


def overlaps(domains: Sequence[Span], window: int, length: int) -> Floats:
    """IOU of every window of a protein, by start."""
    starts = range(max(1, length - window + 1))
    return np.array([best_overlap((start, min(start + window, length)), domains, length) for start in starts])


class Chance(NamedTuple):
    """Share of good windows (IOU > .75) when a start is drawn blindly."""

    anywhere: float
    inside: float


def chance(domains: Sequence[Span], window: int, length: int) -> Chance:
    """Over the whole protein, and over starts between its first and last known occurrence."""
    good = overlaps(domains, window, length) > GOOD
    starts = sorted(centred(domain, window, length)[0] for domain in domains)
    inside = good[starts[0] : starts[-1] + 1]
    return Chance(float(good.mean()), float(inside.mean()))


class Located(NamedTuple):
    """Figures over proteins."""

    median: float
    share_good: float
    recall: float
    mean: float
    proteins: int


def summary(ious: Floats) -> Located:
    """Median IOU, share above .75, share of at least .5 (Recall@1), mean. NaN without proteins."""
    if not len(ious):
        return Located(float("nan"), float("nan"), float("nan"), float("nan"), 0)
    good, recalled = (ious > GOOD).mean(), (ious >= RECALLED).mean()
    return Located(float(np.median(ious)), float(good), float(recalled), float(ious.mean()), len(ious))


class Heatmap(NamedTuple):
    """A protein that gets a heatmap, and why."""

    accession: str
    iou: float
    why: str


def heatmaps(ious: dict[str, float], count: int, seed: int) -> list[Heatmap]:
    """Best, worst and a seeded draw of the rest: 5, 5 and 3 of 13; disjoint; ties by accession; all where fewer."""
    order = sorted(ious, key=lambda accession: (-ious[accession], accession))
    if len(order) <= count:
        return [Heatmap(accession, ious[accession], "all") for accession in order]
    side = count * 5 // 13
    best, rest = order[:side], order[side:]
    worst = sorted(rest, key=lambda accession: (ious[accession], accession))[:side]
    left = sorted(set(rest) - set(worst))
    drawn = np.random.default_rng(seed).choice(len(left), size=count - 2 * side, replace=False)
    named = [(best, "best"), (worst, "worst"), (sorted(left[number] for number in drawn), "drawn")]
    return [Heatmap(accession, ious[accession], why) for names, why in named for accession in names]
