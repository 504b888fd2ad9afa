"""Windows without the concept that are hard to tell from it: same letters, other order; natural, of like composition.

`shuf` permutes a positive's window, `scr` moves only its ligand letters, `hard` is the natural window nearest in
composition, `off` the same protein off the concept. Flanks are kept, so that a decoy stands in its positive's protein.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from concept_core.corpus.rows import RESIDUES, Protein, Span
from concept_core.corpus.windows import best_overlap, overlap

TRIES = 50


def matches(sequence: str, pattern: str | None) -> list[Span]:
    """Every occurrence of a pattern, overlapping ones too, 0-based half-open: one at each residue where one begins."""
    if not pattern:
        return []
    compiled, found, start = re.compile(pattern), [], 0
    while start < len(sequence) and (match := compiled.search(sequence, start)):
        if match.end() > match.start():
            found.append(match.span())
        start = match.start() + 1
    return found


def enriched(windows: Sequence[str], background: Sequence[str], count: int = 4) -> str:
    """The letters that stand more often in the windows than in the background, by ratio: what a ligand may be."""
    inside, outside = Counter("".join(windows)), Counter("".join(background))
    total_in, total_out = sum(inside.values()), sum(outside.values())

    def ratio(letter: str) -> float:
        return ((inside[letter] + 1) / (total_in + 20)) / ((outside[letter] + 1) / (total_out + 20))

    return "".join(sorted(RESIDUES, key=lambda letter: (-ratio(letter), letter))[:count])


def shuffled(sequence: str, window: Span, pattern: str | None, rng: np.random.Generator) -> str:
    """The sequence with the window's residues permuted; drawn again while the pattern touches the window."""

    def permuted(letters: list[str]) -> list[str]:
        return [letters[position] for position in rng.permutation(len(letters))]

    return _redrawn(sequence, window, pattern, permuted)


def scrambled(sequence: str, window: Span, ligands: str, pattern: str | None, rng: np.random.Generator) -> str:
    """The sequence with each ligand letter of the window swapped with another position; the others keep their order.

    Drawn again while the pattern touches the window.
    """

    def swapped(letters: list[str]) -> list[str]:
        moved = list(letters)
        ligand = [position for position, letter in enumerate(letters) if letter in ligands]
        other = [position for position, letter in enumerate(letters) if letter not in ligands]
        count = min(len(ligand), len(other))
        for one, two in zip(
            rng.permutation(ligand)[:count], rng.choice(other, count, replace=False) if count else [], strict=True
        ):
            moved[one], moved[two] = moved[two], moved[one]
        return moved

    return _redrawn(sequence, window, pattern, swapped)


def _redrawn(sequence: str, window: Span, pattern: str | None, draw: object) -> str:
    assert callable(draw)
    start, end = window
    made = sequence
    for _ in range(TRIES):
        made = sequence[:start] + "".join(draw(list(sequence[start:end]))) + sequence[end:]
        touched = any(first < end and last > start for first, last in matches(made, pattern))
        if made != sequence and not touched:
            return made
    return made


def off_window(
    window: Span, domains: Sequence[Span], length: int, shifts: Span, iou_max: float, rng: np.random.Generator
) -> Span | None:
    """The window moved off the concept by a shift of either sign; None where no shift stays clear of every domain."""
    width = window[1] - window[0]
    free = []
    for shift in (*range(-shifts[1], -shifts[0] + 1), *range(shifts[0], shifts[1] + 1)):
        moved = (window[0] + shift, window[1] + shift)
        if moved[0] >= 0 and moved[1] <= length and best_overlap(moved, domains, length) < iou_max:
            free.append(moved)
    assert all(end - start == width for start, end in free)
    return free[int(rng.integers(len(free)))] if free else None


def nearest_windows(
    targets: Sequence[str],
    proteins: Sequence[Protein],
    width: int,
    forbidden: Sequence[Sequence[Span]],
    rng: np.random.Generator,
) -> list[tuple[int, Span] | None]:
    """For each target the natural window nearest in composition: (protein, span), each protein used once.

    Targets choose in a drawn order. `forbidden` spans of a protein (its pattern hits, its other window) are not
    touched by more than half. None where no protein is left.
    """
    shares, owners, starts = _compositions(proteins, width, forbidden)
    wanted = np.stack([_shares(target) for target in targets]) if targets else np.zeros((0, 20))
    free = np.ones(len(proteins), dtype=bool)
    found: list[tuple[int, Span] | None] = [None] * len(targets)
    for target in rng.permutation(len(targets)):
        usable = free[owners] if len(owners) else np.zeros(0, dtype=bool)
        if not usable.any():
            break
        distance = np.where(usable, ((shares - wanted[target]) ** 2).sum(1), np.inf)
        best = int(distance.argmin())
        owner = int(owners[best])
        found[target] = (owner, (int(starts[best]), int(starts[best]) + width))
        free[owner] = False
    return found


def _shares(letters: str) -> np.ndarray:
    return np.array([letters.count(letter) for letter in RESIDUES], dtype=np.float64) / max(1, len(letters))


def _compositions(
    proteins: Sequence[Protein], width: int, forbidden: Sequence[Sequence[Span]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Composition, protein number and start of every allowed window."""
    shares, owners, starts = [np.zeros((0, 20))], [np.zeros(0, dtype=int)], [np.zeros(0, dtype=int)]
    for number, (_, sequence) in enumerate(proteins):
        letters = np.frombuffer(sequence.encode(), dtype=np.uint8)
        if len(letters) < width:
            continue
        one_hot = letters[:, None] == np.frombuffer(RESIDUES.encode(), dtype=np.uint8)
        sums = np.vstack([np.zeros((1, 20)), np.cumsum(one_hot, axis=0)])
        spans = forbidden[number]
        allowed = [at for at in range(len(letters) - width + 1) if not _touches((at, at + width), spans)]
        first = np.array(allowed, dtype=int)
        shares.append((sums[first + width] - sums[first]) / width)
        owners.append(np.full(len(first), number))
        starts.append(first)
    return np.concatenate(shares), np.concatenate(owners), np.concatenate(starts)


def _touches(window: Span, spans: Sequence[Span]) -> bool:
    """Whether more than half of one of the spans lies in the window, or the window is mostly one of them."""
    for span in spans:
        inside = min(window[1], span[1]) - max(window[0], span[0])
        if 2 * inside > span[1] - span[0] or 2 * overlap(window, span) >= 1:
            return True
    return False
