"""Content leaks: captures of the panel that stand in training under another name, and captures that stand twice.

Names prove nothing: a copied folder has new ones. What identifies a capture is its noise, which no other capture of
the same spot shares. Shapes: N captures, L wavelengths.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from denoise_core.corpus.manifest import Manifest
from denoise_core.corpus.store import Corpus

Rows = NDArray[np.int64]

NEAR = 0.5
"""Correlation of two captures' noise from which they are one capture. Honest pairs of the real corpus stay below 0.31;
a copy with as much new noise as it had keeps 0.7, one with twice that power 0.58."""
SMOOTH_NM = 5.0
"""What is smoother than this is level and offset, which captures do share."""
BLOCK = 1024


@dataclass(frozen=True)
class Pair:
    """Two captures that are one: their names, the correlation of their noise, and whether their values are equal."""

    one: str
    other: str
    correlation: float
    exact: bool

    def __str__(self) -> str:
        how = "equal" if self.exact else f"noise correlation {self.correlation:.2f}"
        return f"{self.one} = {self.other} ({how})"


def leaked_pairs(corpus: Corpus, panel: Manifest, training: Manifest, near: float = NEAR) -> list[Pair]:
    """Captures of the panel that training holds too, whatever they are called there; by name of the panel's capture.

    Rows of the same name are left out: `leaked_groups` is about those.
    """
    held_out, seen = np.unique(corpus.rows(panel)), np.unique(corpus.rows(training))
    return _pairs(corpus, held_out, np.setdiff1d(seen, held_out), near)


@lru_cache(maxsize=2)  # one search of the whole corpus serves the audits of all checkpoints
def duplicate_pairs(corpus: Corpus, near: float = NEAR) -> tuple[Pair, ...]:
    """Captures that stand in the corpus under two names. Seconds for 8,100 captures."""
    rows = np.arange(len(corpus))
    return tuple(_pairs(corpus, rows, rows, near))


def named(pairs: Sequence[Pair], most: int = 3) -> str:
    """The first pairs in words; empty without any."""
    rest = f" and {len(pairs) - most} more" if len(pairs) > most else ""
    return "; ".join(str(pair) for pair in pairs[:most]) + rest


def _pairs(corpus: Corpus, one: Rows, other: Rows, near: float) -> list[Pair]:
    every = np.union1d(one, other)
    noise_NL = _noise(corpus, every)
    digest = dict(zip(every.tolist(), _digests(corpus, every), strict=True))
    path = corpus.captures["relative_path"].tolist()
    same = one is other
    found: dict[tuple[int, int], float] = {}
    for a, b, correlation in _near(noise_NL, np.searchsorted(every, one), np.searchsorted(every, other), near, same):
        found[int(every[a]), int(every[b])] = correlation
    for a, b in _equal(digest, one, other):  # equal captures without noise of their own correlate with nothing
        found.setdefault((a, b), 1.0)
    return [
        Pair(path[a], path[b], correlation, digest[a] == digest[b]) for (a, b), correlation in sorted(found.items())
    ]


def _noise(corpus: Corpus, rows: Rows) -> NDArray[np.float32]:
    """Each capture's fine noise: its departure from its group's mean above 5 nm, whitened by wavelength, length 1."""
    noise_NL = np.empty((len(rows), corpus.spectra_NL.shape[1]), np.float32)
    codes_N = corpus.group_codes[rows]
    for code in np.unique(codes_N):
        here = codes_N == code
        mean_L = corpus.spectra_NL[corpus.group_codes == code].mean(axis=0, dtype=np.float64)
        noise_NL[here] = corpus.spectra_NL[rows[here]] - mean_L
    step_nm = float(np.diff(corpus.wavelength_nm).mean())
    noise_NL -= gaussian_filter1d(noise_NL, SMOOTH_NM / step_nm, axis=1, mode="nearest")
    spread_L = noise_NL.std(axis=0)
    noise_NL /= np.where(spread_L > 0, spread_L, 1.0)
    length_N1 = np.linalg.norm(noise_NL, axis=1, keepdims=True)
    noise_NL /= np.where(length_N1 > 0, length_N1, 1.0)
    return noise_NL


def _near(
    noise_NL: NDArray[np.float32], one: Rows, other: Rows, near: float, same: bool
) -> Iterator[tuple[int, int, float]]:
    """Positions of correlated captures and their correlation, block by block; each pair of one set once."""
    for first in range(0, len(one), BLOCK):
        a = one[first : first + BLOCK]
        for start in range(first if same else 0, len(other), BLOCK):
            b = other[start : start + BLOCK]
            correlation = noise_NL[a] @ noise_NL[b].T
            for row, column in np.argwhere(correlation >= near):
                if not same or a[row] < b[column]:
                    yield int(a[row]), int(b[column]), float(correlation[row, column])


def _digests(corpus: Corpus, rows: Rows) -> list[str]:
    return [hashlib.sha256(corpus.spectra_NL[row].tobytes()).hexdigest() for row in rows]


def _equal(digest: dict[int, str], one: Rows, other: Rows) -> Iterator[tuple[int, int]]:
    """Pairs of rows with equal values."""
    known: dict[str, list[int]] = {}
    for row in other.tolist():
        known.setdefault(digest[row], []).append(row)
    for row in one.tolist():
        for twin in known.get(digest[row], []):
            if twin != row and (one is not other or row < twin):
                yield row, twin
