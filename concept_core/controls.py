"""What a language model is compared with: residues counted, pairs counted, a position matrix, a pattern.

The bag of residues and the dipeptides go through the same scaler, PCA and probe as a layer. The position matrix (PSSM)
and the pattern are what one gets without a language model: reported beside, never a gate. The untrained and the
concept-free network are models like any other, embedded by the same code.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from concept_core.cav.rows import Floats, Rows
from concept_core.corpus.rows import RESIDUES
from concept_core.corpus.windows import Window

_CODE = np.full(128, len(RESIDUES), dtype=np.int64)  # anything outside the twenty is number 20
_CODE[[ord(letter) for letter in RESIDUES]] = np.arange(len(RESIDUES))


def codes(letters: str) -> NDArray[np.int64]:
    """Residue numbers 0 … 19 in the order of `RESIDUES`, 20 for X."""
    return _CODE[np.frombuffer(letters.encode("ascii"), dtype=np.uint8)]


def one_hot(letters: str) -> Floats:
    """Length × 20: the states of a model that knows a residue and nothing around it; X is all zeros."""
    return np.eye(len(RESIDUES) + 1)[codes(letters), : len(RESIDUES)]


def bag20(letters: str) -> Floats:
    """Share of each residue in a window."""
    return np.asarray(one_hot(letters).mean(axis=0))


def dipeptide(letters: str) -> Floats:
    """Share of each of the 400 ordered pairs of neighbours in a window; pairs with X are not counted."""
    code = codes(letters)
    first, second = code[:-1], code[1:]
    known = (first < len(RESIDUES)) & (second < len(RESIDUES))
    counted = np.bincount(first[known] * len(RESIDUES) + second[known], minlength=len(RESIDUES) ** 2)
    return counted / max(1, len(code) - 1)


def features(name: str, windows: Sequence[Window]) -> Floats:
    """The feature matrix of `bag20` or `dipeptide`, a row a window."""
    make = {"bag20": bag20, "dipeptide": dipeptide}[name]
    return np.stack([make(window.letters) for window in windows])


@dataclass(frozen=True)
class Pssm:
    """Log-odds of each residue in each column (columns × 20), against the residues of the negatives."""

    log_odds_CA: Floats

    def track(self, letters: str) -> Floats:
        """Score of every offset of the matrix along a sequence; one score where the sequence is shorter."""
        width = len(self.log_odds_CA)
        padded = np.hstack([self.log_odds_CA, np.zeros((width, 1))])  # X says nothing
        code = codes(letters)
        if len(code) < width:
            return np.array([padded[np.arange(len(code)), code].sum()])
        starts = np.arange(len(code) - width + 1)
        columns = np.arange(width)
        scored: Floats = padded[columns, code[starts[:, None] + columns]].sum(axis=1)
        return scored


def fit_pssm(windows: Sequence[Window], *, width: int | None = None, pseudocount: float = 1.0) -> Pssm:
    """The matrix of the positives' middle `width` columns (default: all) against the negatives' composition."""
    positives = [window.letters for window in windows if window.positive]
    full = min(len(letters) for letters in positives)
    width = min(width or full, full)
    counts = np.full((width, len(RESIDUES)), pseudocount)
    for letters in positives:
        start = (len(letters) - width) // 2
        counts += one_hot(letters[start : start + width])
    background = np.full(len(RESIDUES), pseudocount)
    for window in windows:
        if window.stratum == "rand":
            background += one_hot(window.letters).sum(axis=0)
    frequencies = counts / counts.sum(axis=1, keepdims=True)
    return Pssm(np.log(frequencies / (background / background.sum())))


def pssm_scores(windows: Sequence[Window], rows: Rows, *, width: int | None = None) -> Floats:
    """Best-offset score of every window by a matrix of training windows of other folds; held out: of all of them."""
    scores = np.zeros(len(windows))
    for fold in np.unique(rows.folds):
        outside = np.flatnonzero(rows.folds == fold).tolist()
        inside = np.flatnonzero((rows.folds >= 0) & (rows.folds != fold)).tolist()
        matrix = fit_pssm([windows[number] for number in inside], width=width)
        for number in outside:
            scores[number] = matrix.track(windows[number].letters).max()
    return scores


def domain_width(windows: Sequence[Window]) -> int | None:
    """Median length of the positives' known occurrences: the columns of the matrix; None where none is known."""
    lengths = [end - start for window in windows if window.positive for start, end in window.domains]
    return int(np.median(lengths)) if lengths else None


def pattern_scores(windows: Sequence[Window], pattern: str) -> Floats:
    """1 where the pattern lies inside the window."""
    compiled = re.compile(pattern)
    return np.array([float(compiled.search(window.letters) is not None) for window in windows])
