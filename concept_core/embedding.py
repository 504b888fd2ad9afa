"""Hidden states of many proteins, and the per-residue store of labelled windows.

Speed comes from three things: batches of like length under a budget of tokens, one forward for a protein however many
windows it has, and means of windows from cumulative sums. A protein longer than the model takes is cut into chunks
that overlap; each residue's state is taken from the chunk in whose middle it stands, nothing is cut off in silence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from concept_core.corpus.windows import Window, centred
from concept_core.models.protein_lm import FloatArray, ProteinLM

States = Mapping[int, FloatArray]
"""States by layer, each (residues, width)."""


class Piece(NamedTuple):
    """Residues `start:end` of a sequence, of which `keep_from:keep_to` are used (all in the sequence's own count)."""

    sequence: int
    start: int
    end: int
    keep_from: int
    keep_to: int


def pieces(lengths: Sequence[int], longest: int, overlap: int) -> list[Piece]:
    """How sequences are cut for a model that takes `longest` residues.

    >>> [(one.start, one.end, one.keep_from, one.keep_to) for one in pieces([10], 6, 4)]
    [(0, 6, 0, 4), (3, 9, 4, 6), (4, 10, 6, 10)]
    """
    overlap = min(overlap, longest // 2)
    found = []
    for number, length in enumerate(lengths):
        starts = [0] if length <= longest else [*range(0, length - longest, longest - overlap), length - longest]
        ends = [min(length, start + longest) for start in starts]
        cuts = [0, *((end + start) // 2 for end, start in zip(ends, starts[1:], strict=False)), length]
        found += [Piece(number, *one) for one in zip(starts, ends, cuts, cuts[1:], strict=False)]
    return found


def batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Numbers of like length together, longest first, so that what does not fit into memory fails at once.

    A batch holds at most `budget` tokens, padding and the two special tokens of a sequence included; a sequence longer
    than that is a batch of its own.
    """
    order = sorted(range(len(lengths)), key=lambda number: (-lengths[number], number))
    made: list[list[int]] = []
    for number in order:
        if made and (len(made[-1]) + 1) * (lengths[made[-1][0]] + 2) <= budget:
            made[-1].append(number)
        else:
            made.append([number])
    return made


def residue_states(
    model: ProteinLM,
    sequences: Sequence[str],
    layers: Sequence[int],
    *,
    tokens_per_batch: int = 8192,
    overlap: int = 128,
    longest: int | None = None,
) -> Iterator[tuple[int, States]]:
    """Number and states of each sequence, whole, as soon as they are there (not in the sequences' order).

    `longest` shows the model no more residues at once than that (default: what it takes). `tokens_per_batch` is what
    memory allows; a model takes fewer where more do not pay.
    """
    budget = min(tokens_per_batch, model.most_tokens or tokens_per_batch)
    cut = pieces(
        [len(letters) for letters in sequences], min(model.max_residues, longest or model.max_residues), overlap
    )
    waiting: dict[int, list[tuple[Piece, States]]] = {}
    wanted = np.bincount([one.sequence for one in cut], minlength=len(sequences))
    for batch in batches([one.end - one.start for one in cut], budget):
        chosen = [cut[number] for number in batch]
        found = model.hidden_states([sequences[one.sequence][one.start : one.end] for one in chosen], layers)
        for piece, states in zip(chosen, found, strict=True):
            parts = waiting.setdefault(piece.sequence, [])
            parts.append((piece, states))
            if len(parts) == wanted[piece.sequence]:
                yield piece.sequence, _joined(waiting.pop(piece.sequence), layers)


def _joined(parts: list[tuple[Piece, States]], layers: Sequence[int]) -> States:
    if len(parts) == 1:
        return parts[0][1]
    parts.sort(key=lambda part: part[0].start)
    return {
        layer: np.concatenate(
            [states[layer][piece.keep_from - piece.start : piece.keep_to - piece.start] for piece, states in parts]
        )
        for layer in layers
    }


def window_means(states_LD: npt.NDArray[np.floating], width: int) -> FloatArray:
    """Means of all windows of `width` residues, stride 1: (residues − width + 1, D); one mean where it is shorter.

    Sums are double precision: over 35,000 residues single precision would lose five digits.
    """
    width = min(width, len(states_LD))
    sums = np.cumsum(states_LD, axis=0, dtype=np.float64)
    totals = sums[width - 1 :].copy()
    totals[1:] -= sums[:-width]
    return np.asarray(totals / width, dtype=np.float32)


class Seen(NamedTuple):
    """What the model is shown for a window: letters, and where the window stands in them."""

    letters: str
    start: int
    end: int


def seen(window: Window, context: int | None) -> Seen:
    """The whole protein, or `context` residues of it around the window (never less than the window)."""
    length = len(window.sequence)
    if context is None or context >= length:
        return Seen(window.sequence, window.start, window.end)
    start, end = centred(window.span, max(context, window.end - window.start), length)
    return Seen(window.sequence[start:end], window.start - start, window.end - start)
