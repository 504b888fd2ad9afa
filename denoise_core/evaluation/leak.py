"""Content leaks: captures of the panel that stand in training under another name, and captures that stand twice.

Names prove nothing: a copied folder has new ones. What identifies a capture is its noise, which no other capture of
the same spot shares, and what identifies a group's mean is what is left of its noise. Shapes: N captures, K groups,
L wavelengths.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from denoise_core.corpus.manifest import Manifest
from denoise_core.corpus.store import Corpus

Rows = NDArray[np.int64]

NEAR = 0.4
"""Correlation of two captures' noise from which they are one capture. Honest pairs of the real corpus stay below 0.31;
a copy with as much new noise as it had keeps 0.7, the mean of six captures 0.41."""
TURNED = 0.5
"""The same where one was turned: read backwards, or its noise with the other sign. Honest pairs: 0.35."""
PARTS, PART = 4, 0.75
"""Parts of the range, and the correlation in one of them from which that part was copied. Honest pairs: 0.60."""
SIGMAS, INDEPENDENT = 7.0, 0.6
"""On a coarse grid all of these are raised to seven standard deviations of what chance gives, by the share of the
points whose noise is independent: the real corpus's 33 million pairs have their largest, 0.31, at 5.9."""
LAGS = range(-5, 6)
"""Grid points by which a copy may have been shifted; honest captures of the real corpus stay below 0.24 at each."""
MEANS_APART = 0.7
"""How far the means of two groups must be apart, in what their own noise explains: 1 for two measurements of one
specimen, half of it or less for a mean that was made from the other's captures. The real corpus: 1.44 and more."""
LEAST_CAPTURES = 20  # of a group whose noise is known well enough for that
SMOOTH_NM = 5.0
"""What is smoother than this is level and offset, which captures do share."""
BLOCK = 1024


@dataclass(frozen=True)
class Pair:
    """Two captures that are one: their names, the correlation of their noise, and whether their values are equal.

    Or two groups, by how far their means are `apart`. `how`: what was done to the copy, where it is known.
    """

    one: str
    other: str
    correlation: float
    exact: bool
    apart: float | None = None
    how: str = ""

    def __str__(self) -> str:
        if self.apart is not None:
            told = f"their means differ by {self.apart:.2f} of what two measurements do{self.how}"
            return f"{self.one} = {self.other} ({told})"
        how = "equal" if self.exact else f"noise correlation {self.correlation:.2f}{self.how}"
        return f"{self.one} = {self.other} ({how})"


def leaked_pairs(corpus: Corpus, panel: Manifest, training: Manifest, near: float = NEAR) -> list[Pair]:
    """Captures of the panel that training holds too, whatever they are called there; by name of the panel's capture.

    Shifted, reversed and negated ones, too, and those of which a part was copied; last, groups whose mean was made from
    the panel's captures, whatever noise lies on it. Rows of the same name are left out: `leaked_groups` is about those.
    """
    held_out, seen = np.unique(corpus.rows(panel)), np.unique(corpus.rows(training))
    return list(_leaked(corpus, tuple(held_out.tolist()), tuple(np.setdiff1d(seen, held_out).tolist()), near))


@lru_cache(maxsize=2)  # seconds, and the same for every checkpoint that is audited
def _leaked(corpus: Corpus, held_out: tuple[int, ...], seen: tuple[int, ...], near: float) -> tuple[Pair, ...]:
    one, other = np.array(held_out, np.int64), np.array(seen, np.int64)
    group_of = dict(zip(corpus.captures["relative_path"], corpus.captures["group_id"], strict=True))
    pairs = _pairs(corpus, one, other, near, (*map(Turn, LAGS), Turn(back=True)), PARTS)
    known = {(group_of[pair.one], group_of[pair.other]) for pair in pairs}
    means = (pair for pair in _near_means(corpus, one, other) if (pair.one, pair.other) not in known)
    return (*pairs, *means)


@lru_cache(maxsize=2)  # one search of the whole corpus serves the audits of all checkpoints
def duplicate_pairs(corpus: Corpus, near: float = NEAR) -> tuple[Pair, ...]:
    """Captures that stand in the corpus under two names. Seconds for 8,100 captures."""
    rows = np.arange(len(corpus))
    return tuple(_pairs(corpus, rows, rows, near))


def named(pairs: Sequence[Pair], most: int = 3) -> str:
    """The first pairs in words; empty without any."""
    rest = f" and {len(pairs) - most} more" if len(pairs) > most else ""
    return "; ".join(str(pair) for pair in pairs[:most]) + rest


@dataclass(frozen=True)
class Turn:
    """What may have been done to a copy along the wavelengths."""

    lag: int = 0
    back: bool = False

    def of(self, spectra_NL: NDArray[Any]) -> NDArray[Any]:
        """The captures, so that such a copy of them lies point on point."""
        moved_NL = np.roll(spectra_NL, self.lag, axis=1)
        return moved_NL[:, ::-1] if self.back else moved_NL

    @property
    def how(self) -> str:
        return ", read backwards" if self.back else ""


def _pairs(
    corpus: Corpus, one: Rows, other: Rows, near: float, turns: Sequence[Turn] = (Turn(),), parts: int = 1
) -> list[Pair]:
    every = np.union1d(one, other)
    noise_NL = _noise(corpus, every)
    digest = dict(zip(every.tolist(), _digests(corpus, every), strict=True))
    path = corpus.captures["relative_path"].tolist()
    same = one is other
    found: dict[tuple[int, int], tuple[float, str]] = {}
    places = np.searchsorted(every, one), np.searchsorted(every, other)
    for turn in turns:
        for a, b, correlation, how in _near(noise_NL, *places, near, same, turn):
            pair = int(every[a]), int(every[b])
            if abs(correlation) > abs(found.get(pair, (0.0, ""))[0]):
                found[pair] = correlation, how
    for part in np.array_split(noise_NL, parts, axis=1) if parts > 1 else ():
        for a, b, correlation, _ in _near(_unit(part), *places, PART, same, Turn()):
            found.setdefault((int(every[a]), int(every[b])), (correlation, ", in a part of the range"))
    for a, b in _equal(digest, one, other):  # equal captures without noise of their own correlate with nothing
        found.setdefault((a, b), (1.0, ""))
    return [
        Pair(path[a], path[b], correlation, digest[a] == digest[b], how=how)
        for (a, b), (correlation, how) in sorted(found.items())
    ]


def _noise(corpus: Corpus, rows: Rows) -> NDArray[np.float32]:
    """Each capture's fine noise: its departure from its group's mean above 5 nm, whitened by wavelength, length 1."""
    noise_NL = np.empty((len(rows), corpus.spectra_NL.shape[1]), np.float32)
    codes_N = corpus.group_codes[rows]
    for code in np.unique(codes_N):
        here = codes_N == code
        mean_L = corpus.spectra_NL[corpus.group_codes == code].mean(axis=0, dtype=np.float64)
        noise_NL[here] = corpus.spectra_NL[rows[here]] - mean_L
    noise_NL = _fine(noise_NL, corpus)
    spread_L = noise_NL.std(axis=0)
    noise_NL /= np.where(spread_L > 0, spread_L, 1.0)
    return _unit(noise_NL)


def _unit(noise_NL: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length 1."""
    length_N1 = np.linalg.norm(noise_NL, axis=1, keepdims=True)
    return np.asarray(noise_NL / np.where(length_N1 > 0, length_N1, 1.0))


def _fine(spectra_NL: NDArray[Any], corpus: Corpus) -> NDArray[Any]:
    """What is finer than 5 nm."""
    points = SMOOTH_NM / float(np.diff(corpus.wavelength_nm).mean())
    return np.asarray(spectra_NL - gaussian_filter1d(spectra_NL, points, axis=1, mode="nearest"))


def _near_means(corpus: Corpus, one: Rows, other: Rows) -> Iterator[Pair]:
    """Groups of `one` and of `other` whose means are nearer than two measurements of one specimen can be.

    A factor between the two is taken out, and what is smoother than 5 nm; one of them may be read backwards.
    """
    name = corpus.captures["group_id"].to_numpy(str)
    ours, theirs = (
        [(str(name[rows[0]]), *_mean(corpus, rows)) for rows in _by_group(corpus, every)] for every in (one, other)
    )
    for (a, *known_a), (b, *known_b), back in product(ours, theirs, (False, True)):
        turn = Turn(back=back)
        (mean_a_L, mean_b_L), (variance_a_L, variance_b_L) = zip(turn.of(np.array(known_a)), known_b, strict=True)
        factor = float(mean_a_L @ mean_b_L) / (float(mean_b_L @ mean_b_L) or 1.0)
        known_L = variance_a_L + factor**2 * variance_b_L
        apart_L = (mean_a_L - factor * mean_b_L) ** 2
        apart = float(np.mean(apart_L[known_L > 0] / known_L[known_L > 0])) if (known_L > 0).any() else np.inf
        if apart < MEANS_APART:
            yield Pair(a, b, 1.0, exact=False, apart=apart, how=turn.how)


def _by_group(corpus: Corpus, rows: Rows) -> list[Rows]:
    """The rows of each group that has enough of them."""
    codes_N = corpus.group_codes[rows]
    groups = [rows[codes_N == code] for code in np.unique(codes_N)]
    return [group for group in groups if len(group) >= LEAST_CAPTURES]


def _mean(corpus: Corpus, rows: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean of captures above 5 nm, and its variance by their own scatter, each (L,)."""
    spectra_NL = corpus.spectra_NL[rows].astype(np.float64)
    mean_L = spectra_NL.mean(axis=0)
    scatter_NL = _fine(spectra_NL - mean_L, corpus)
    return _fine(mean_L[None], corpus)[0], scatter_NL.var(axis=0, ddof=1) / len(rows)


def _near(
    noise_NL: NDArray[np.float32], one: Rows, other: Rows, near: float, same: bool, turn: Turn
) -> Iterator[tuple[int, int, float, str]]:
    """Positions of correlated captures, their correlation and how it shows, block by block, the first ones turned; each
    pair of one set once."""
    points = noise_NL.shape[1]
    high, low = _least(TURNED if turn.back else near, points), -_least(max(TURNED, near), points)
    for first in range(0, len(one), BLOCK):
        a = one[first : first + BLOCK]
        a_NL = turn.of(noise_NL[a])
        for start in range(first if same else 0, len(other), BLOCK):
            b = other[start : start + BLOCK]
            correlation = a_NL @ noise_NL[b].T
            for row, column in np.argwhere((correlation >= high) | (correlation <= low)):
                if not same or a[row] < b[column]:
                    yield int(a[row]), int(b[column]), float(correlation[row, column]), turn.how


def _least(correlation: float, points: int) -> float:
    """The correlation that counts on a grid of so many points; above 1 where chance may give any."""
    return max(correlation, SIGMAS / float(np.sqrt(max(INDEPENDENT * points, 1.0))))


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
