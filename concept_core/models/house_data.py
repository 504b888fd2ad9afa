"""What the house model is trained on: crops of real proteins, none of them a relative of an evaluation protein."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from concept_core.corpus.decoys import matches
from concept_core.corpus.homology import related, word_index
from concept_core.corpus.rows import Protein
from concept_core.models.alphabet import CLS, EOS, FIRST_RESIDUE, LAST_RESIDUE, PAD, token_numbers
from study_core.errors import BadInput


@dataclass(frozen=True)
class Crops:
    """Proteins as token numbers, and where the concept stands in those that have it.

    `occurrences` lists (protein, first residue, end). `concept_share` of the crops of a batch lie around one of them;
    an occurrence is drawn by its relatives first, so that one array of twenty does not outweigh twenty single ones.
    """

    proteins: tuple[np.ndarray, ...]
    weights: np.ndarray
    occurrences: tuple[tuple[int, int, int], ...]
    occurrence_weights: np.ndarray
    conserved: tuple[int, ...] = ()

    def batch(self, size: int, length: int, concept_share: float, drift: float, rng: np.random.Generator) -> np.ndarray:
        """`size` crops of `length` residues between `<cls>` and `<eos>`, padded: int64 (size, length + 2).

        In a crop around the concept each residue but the conserved ones is replaced with a probability drawn from
        0 … `drift`, by one of the crop's own background: a family of few members drifts as relatives do, so that the
        network learns what is kept and not the members by heart.
        """
        around = round(size * concept_share) if self.occurrences else 0
        tokens_BT = np.full((size, length + 2), PAD, dtype=np.int64)
        chosen = rng.choice(len(self.occurrences), around, p=self.occurrence_weights) if around else ()
        for row, number in enumerate(chosen):
            protein, first, end = self.occurrences[number]
            tokens_BT[row] = self._drifted(self._crop(protein, length, rng, (first, end)), drift, rng)
        for row in range(around, size):
            protein = int(np.searchsorted(self.weights, rng.random()))
            tokens_BT[row] = self._crop(protein, length, rng, None)
        return tokens_BT

    def _drifted(self, tokens_T: np.ndarray, drift: float, rng: np.random.Generator) -> np.ndarray:
        if drift == 0:
            return tokens_T
        free = (tokens_T >= FIRST_RESIDUE) & (tokens_T <= LAST_RESIDUE) & ~np.isin(tokens_T, self.conserved)
        chosen = free & (rng.random(len(tokens_T)) < drift * rng.random())
        changed = tokens_T.copy()
        changed[chosen] = rng.choice(tokens_T[free], int(chosen.sum())) if chosen.any() else 0
        return changed

    def _crop(self, protein: int, length: int, rng: np.random.Generator, keep: tuple[int, int] | None) -> np.ndarray:
        letters = self.proteins[protein]
        lowest, highest = 0, max(0, len(letters) - length)
        if keep is not None:  # anywhere, as long as the occurrence lies inside
            lowest, highest = min(highest, max(0, keep[1] - length)), max(0, min(keep[0], highest))
        start = int(rng.integers(lowest, max(lowest, highest) + 1))
        inside = letters[start : start + length]
        row = np.full(length + 2, PAD, dtype=np.int64)
        row[0], row[1 : len(inside) + 1], row[len(inside) + 1] = CLS, inside, EOS
        return row


def crops(
    proteins: Sequence[Protein],
    evaluation: Sequence[str],
    pattern: str,
    *,
    with_concept: bool,
    conserved: str = "",
    kmer: int = 9,
    shared: int = 8,
) -> Crops:
    """The training proteins among `proteins`: no relative of the sequences in `evaluation`.

    `conserved` letters do not drift. Without the concept, every protein that holds the pattern is left out too.

    Raises:
        BadInput: nothing remains, or no protein with the concept remains where it is wanted.
    """
    index = word_index(evaluation, k=kmer)
    kept: list[np.ndarray] = []
    occurrences: list[tuple[int, int, int]] = []
    seen: set[str] = set()
    for _, sequence in proteins:
        if sequence in seen or related(sequence, index, k=kmer, shared=shared):
            continue
        seen.add(sequence)
        held = matches(sequence, pattern)
        if held and not with_concept:
            continue
        occurrences += [(len(kept), first, end) for first, end in held]
        kept.append(token_numbers(sequence)[1:-1])
    if not kept:
        raise BadInput("every protein is a relative of an evaluation protein", remedy="give more sequences")
    if with_concept and not occurrences:
        raise BadInput(f"no training protein holds {pattern}", remedy="give proteins with the concept, or another one")
    fixed = tuple(int(number) for number in token_numbers(conserved)[1:-1])
    lengths = np.cumsum([len(letters) for letters in kept], dtype=np.float64)
    return Crops(tuple(kept), lengths / lengths[-1], tuple(occurrences), _balanced(occurrences), fixed)


def _balanced(occurrences: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """Probability of each occurrence: its protein's share grows with the root of its number of occurrences."""
    if not occurrences:
        return np.zeros(0)
    owners = np.array([protein for protein, _, _ in occurrences])
    weights = 1.0 / np.sqrt(np.bincount(owners)[owners])
    return np.asarray(weights / weights.sum())
