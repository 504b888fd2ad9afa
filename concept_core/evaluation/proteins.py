"""Whole proteins for the detection test: with the concept, without it, and with every occurrence shuffled.

A decoy is a protein with the concept in which the residues of every known occurrence and every match of the pattern
are permuted in place: the same composition, the same surroundings, no concept. Each protein is scored by the probe of
its homology group's fold, which has not seen the group.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import numpy as np

from concept_core.corpus.rows import Span
from concept_core.corpus.windows import Window
from study_core.plan import Frozen

Kind = Literal["positive", "negative", "decoy"]
_TRIES = 50


class TestProtein(Frozen):
    """A whole protein and the fold whose probe may score it (−1: held out, the final probe)."""

    __test__ = False  # no test class, whatever its name begins with

    accession: str
    sequence: str
    kind: Kind
    group: str
    fold: int
    domains: tuple[Span, ...] = ()

    @property
    def part(self) -> str:
        return "held_out" if self.fold < 0 else "oof"


def test_proteins(windows: Sequence[Window], *, pattern: str | None, longest: int, seed: int) -> list[TestProtein]:
    """Every protein of the positives and of the `rand` negatives of at most `longest` residues, and the decoys."""
    rng = np.random.default_rng(seed)
    natural: dict[str, TestProtein] = {}
    for window in windows:
        if window.stratum in ("pos", "rand") and len(window.sequence) <= longest:
            kind: Kind = "positive" if window.positive else "negative"
            natural.setdefault(window.accession, _protein(window, kind))
    decoys = [decoy_of(one, pattern, rng) for one in natural.values() if one.kind == "positive"]
    return [*natural.values(), *decoys]


test_proteins.__test__ = False  # type: ignore[attr-defined]


def _protein(window: Window, kind: Kind) -> TestProtein:
    return TestProtein(
        accession=window.accession, sequence=window.sequence, kind=kind, group=window.group,
        fold=window.fold if window.part == "train" else -1, domains=window.domains if kind == "positive" else (),
    )  # fmt: skip


def decoy_of(protein: TestProtein, pattern: str | None, rng: np.random.Generator) -> TestProtein:
    """The protein with every occurrence shuffled; shuffles are redrawn while the pattern is still met there."""
    spans = list(protein.domains) + [match.span() for match in matches(protein.sequence, pattern)]
    merged = _merged(spans)
    letters = list(protein.sequence)
    for start, end in merged:
        for _ in range(_TRIES):
            letters[start:end] = [letters[start + number] for number in rng.permutation(end - start)]
            around = "".join(letters[max(0, start - 40) : end + 40])
            if not matches(around, pattern):
                break
    return protein.model_copy(update={"sequence": "".join(letters), "kind": "decoy", "domains": ()})


def matches(sequence: str, pattern: str | None) -> list[re.Match[str]]:
    """Matches of the pattern, overlapping ones left out."""
    return list(re.finditer(pattern, sequence)) if pattern else []


def _merged(spans: Sequence[Span]) -> list[Span]:
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start < found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found
