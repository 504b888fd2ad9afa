"""Scanning whole proteins: one forward a protein, windows by cumulative sums, position in two steps.

The plain CAV says whether a protein has the concept and about where; the centred CAV, trained against shifted windows
of the same proteins, says exactly where, within a few residues of that. Everything works on per-residue states of
length × width, whoever made them: a language model, or residues one-hot (the bag of residues).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from concept_core.cav.direction import Affine
from concept_core.cav.rows import Floats
from concept_core.evaluation.threshold_registry import ThresholdRegistry
from concept_core.plans import DetectionPlan

CONFIDENCE = ((0.01, 3), (0.05, 2), (1.0, 1))
"""p of the protein null, at most → confidence."""


class Hit(NamedTuple):
    """A window of a protein at or above the threshold. 0-based, half-open."""

    start: int
    end: int
    score: float
    coarse: int


def window_means(values_L: Floats, window: int) -> Floats:
    """Mean over every window of a sequence, stride 1; a sequence shorter than the window is one window."""
    length = len(values_L)
    if length <= window:
        return np.array([values_L.mean()])
    total = np.concatenate([[0.0], np.cumsum(values_L, dtype=np.float64)])
    means: Floats = (total[window:] - total[:-window]) / window
    return means


def track(states_Ld: NDArray[np.floating], probe: Affine, window: int) -> Floats:
    """Logit of every window of a protein: residues are projected first, then averaged."""
    return window_means(np.asarray(states_Ld, dtype=np.float64) @ probe.a_d, window) + probe.c


def refined(centred: Floats, coarse: int, reach: int) -> int:
    """The best start by the centred track within ± `reach` of a coarse start."""
    first = max(0, coarse - reach)
    return first + int(np.argmax(centred[first : coarse + reach + 1]))


def two_step(plain: Floats, centred: Floats, reach: int) -> tuple[int, int]:
    """(coarse, refined) start of a protein's best window."""
    coarse = int(np.argmax(plain))
    return coarse, refined(centred, coarse, reach)


def hits(
    plain: Floats, centred: Floats, threshold: float, *, window: int, length: int, reach: int, suppress: int
) -> list[Hit]:
    """Windows at or above the threshold, best first; none starts within `suppress` of a better one."""
    found: list[Hit] = []
    for coarse in suppressed(plain, threshold, suppress):
        start = refined(centred, coarse, reach)
        if all(abs(start - other.start) >= suppress for other in found):
            found.append(Hit(start, min(start + window, length), float(plain[coarse]), coarse))
    return found


def suppressed(scores: Floats, threshold: float, distance: int) -> list[int]:
    """Non-maximum suppression: positions ≥ threshold, best first (ties: the first), none nearer than `distance`."""
    kept: list[int] = []
    for position in np.argsort(-scores, kind="stable").tolist():
        if scores[position] < threshold:
            break
        if all(abs(position - other) >= distance for other in kept):
            kept.append(position)
    return kept


class Call(NamedTuple):
    """What is said of one protein."""

    accession: str
    length: int
    score: float
    z: float
    p: float
    confidence: int
    hits: tuple[Hit, ...]

    @property
    def positive(self) -> bool:
        return bool(self.hits)


def call(
    accession: str, length: int, plain: Floats, centred: Floats, registry: ThresholdRegistry, plan: DetectionPlan
) -> Call:
    """One protein against a registry: hits at the method's threshold, z against the negatives' windows, p of its
    maximum among the negative proteins', confidence 3, 2 or 1 by that p (0 without a hit)."""
    best = float(plain.max())
    null = np.asarray(registry.protein_null)
    p = (1 + int((null >= best).sum())) / (len(null) + 1)
    threshold = registry.value(plan.threshold_method)
    found = hits(
        plain, centred, threshold, window=registry.window, length=length, reach=plan.refine, suppress=plan.suppress
    )
    confidence = next(level for limit, level in CONFIDENCE if p <= limit) if found else 0
    z = (best - registry.negative_mean) / registry.negative_sd if registry.negative_sd > 0 else 0.0
    return Call(accession, length, best, z, p, confidence, tuple(found))


def ranked(calls: Sequence[Call]) -> list[Call]:
    """Best first, ties by accession."""
    return sorted(calls, key=lambda one: (-one.score, one.accession))
