"""The indexing guardrail: a window must be where its row says, in letters and in tokens, or it is corrected or dropped.

A window is 0-based and half-open; a model's token i + 1 is residue i. What is corrected is logged, one line each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from concept_core.corpus.rows import Row, Span
from study_core.plan import Frozen

Reason = Literal["out_of_range", "bos_offset", "unresolvable", "resized"]
TokensOf = Callable[[str], Sequence[str]]


class Correction(Frozen):
    """One line of `indexing_corrections.jsonl`; `corrected` is None for a dropped row."""

    accession: str
    original: Span
    corrected: Span | None
    length: int
    reason: Reason


def tokens_of(sequence: str) -> list[str]:
    """What a tokenizer should make of a sequence."""
    return ["<cls>", *sequence, "<eos>"]


def checked(row: Row, tokens: Sequence[str] | None = None) -> tuple[Span | None, Correction | None]:
    """A row's window after the guardrail, and what was corrected.

    In order: a window that reaches out of the sequence is clipped; where the row's domain does not lie in the window,
    or the tokens of the window do not spell its letters, a shift by one residue that mends it is taken
    (`bos_offset`: somebody counted the start token); else the row is dropped.
    """
    length = len(row.sequence)
    start, end = max(0, row.window[0]), min(length, row.window[1])
    reason: Reason | None = "out_of_range" if (start, end) != row.window else None
    found: Span | None = None
    if start < end:
        spelled = tokens if tokens is not None else tokens_of(row.sequence)
        for shift in (0, -1, 1):
            if _fits(row, (start, end), shift, spelled):
                found = (start + shift, end + shift)
                reason = "bos_offset" if shift else reason
                break
    if found == row.window:
        return found, None
    return found, Correction(
        accession=row.accession,
        original=row.window,
        corrected=found,
        length=length,
        reason=reason if found and reason else "unresolvable",
    )


def _fits(row: Row, window: Span, shift: int, tokens: Sequence[str]) -> bool:
    start, end = window[0] + shift, window[1] + shift
    if not 0 <= start < end <= len(row.sequence):
        return False
    inside = row.domain is None or (start <= row.domain[0] and row.domain[1] <= end)
    # where the row itself is off, the shifted window is spelled; where the tokens are off, the window as it stands
    wanted = row.sequence[start:end] if tokens == tokens_of(row.sequence) else row.sequence[slice(*window)]
    return inside and "".join(tokens[start + 1 : end + 1]) == wanted
