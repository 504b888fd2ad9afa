"""Whether the values of a corpus can be measured reflectance, asked once when it is opened.

What is refused is named with what it looks like: percent, absorbance, swapped references, a dead detector, rounding,
copies. Absorbance or 1 - R that happens to lie in [0, 1] looks like reflectance: values alone cannot tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from denoise_core.corpus.manifest import FIRST_ROW
from study_core.errors import BadInput

CLIP_MARGIN = 0.01  # dark captures dip to -0.003 by detector noise; anything farther out is not reflectance
MOST_ABSORBANCE = 6.0  # above it no spectrometer measures: percent, counts
FLAT = 0.5  # share of neighbouring values that are equal; noise leaves 0.002 in the published corpus
STRIDE = 8  # every eighth value is enough to look twice at a capture

Spectra = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Outside:
    """Values clipped from a corpus: flat `index` (int64) into its (N, L) array and the `value` (float32) measured."""

    index: NDArray[np.int64]
    value: NDArray[np.float32]


NONE_OUTSIDE = Outside(np.empty(0, np.int64), np.empty(0, np.float32))


def clip_reflectance(spectra_NL: Spectra) -> Outside:
    """Clip to [0, 1] in place; returns what was clipped."""
    index = np.flatnonzero((spectra_NL < 0) | (spectra_NL > 1))
    outside = Outside(index.astype(np.int64), spectra_NL.flat[index].copy())
    np.clip(spectra_NL, 0.0, 1.0, out=spectra_NL)
    return outside


def verify_reflectance(spectra_NL: Spectra, relative_paths: Sequence[str], source: Path, first: int = 0) -> None:
    """BadInput at the first value that is not finite, or farther outside [0, 1] than detector noise explains.

    `first`: the row of the first spectrum, where only a part of a corpus is given.
    """
    inside_NL = (spectra_NL >= -CLIP_MARGIN) & (spectra_NL <= 1 + CLIP_MARGIN)  # False for NaN too
    if inside_NL.all():
        return
    row, column = (int(i) for i in np.argwhere(~inside_NL)[0])
    value = float(spectra_NL[row, column])
    finite = bool(np.isfinite(value))
    raise BadInput(
        f"{relative_paths[row]} holds {value:.6g} at index {column}" + (", outside [0, 1]" if finite else ""),
        file=source,
        row=first + row + FIRST_ROW,
        remedy=_looks_like(spectra_NL[row]) if finite else "export the capture again, or remove the row",
    )


def _looks_like(spectrum_L: Spectra) -> str:
    """What a spectrum outside [0, 1] seems to be, and what to do about it."""
    low, high = float(np.nanmin(spectrum_L)), float(np.nanmax(spectrum_L))
    if high > MOST_ABSORBANCE:
        return "percent, it seems: give a fraction (percent / 100; gated import --units percent), or remove the row"
    if low >= 1.0:
        return (
            "nowhere below 1: were sample and white reference swapped, or is it absorbance or percent? Give "
            "reflectance as a fraction (gated import --units), or remove the row"
        )
    if low < -CLIP_MARGIN and high <= 1 + CLIP_MARGIN:
        return "negative: subtract the dark reference, not the white one, or a baseline; or remove the row"
    return (
        "absorbance or percent? Give reflectance as a fraction (gated import --units absorbance, or percent), or "
        "remove the row"
    )


@dataclass
class Measured:
    """Looks at a corpus's spectra in turn for what no spectrometer measures; `see` every part, then `verify`."""

    source: Path
    _first: dict[int, str] = field(default_factory=dict)
    _copies: list[tuple[int, str, str]] = field(default_factory=list)

    def see(self, spectra_NL: Spectra, relative_paths: Sequence[str], first: int = 0) -> None:
        """BadInput (file, row) at the first dead or rounded capture; copies are remembered for `verify`."""
        near_NS = spectra_NL[:, 1::STRIDE] == spectra_NL[:, : spectra_NL.shape[1] - 1 : STRIDE]
        some_NS = spectra_NL[:, ::STRIDE]
        suspect = np.flatnonzero((near_NS.mean(axis=1) > FLAT) | (some_NS == np.rint(some_NS)).all(axis=1))
        bad_N = np.zeros(len(spectra_NL), dtype=bool)
        bad_N[suspect] = [_is_dead(spectrum_L) for spectrum_L in spectra_NL[suspect]]
        if bad_N.any():
            row = int(bad_N.argmax())
            what, remedy = _dead(spectra_NL[row])
            many = f" ({int(bad_N.sum())} such captures)" if bad_N.sum() > 1 else ""
            raise BadInput(
                f"{relative_paths[row]} {what}{many}",
                file=self.source,
                row=first + row + FIRST_ROW,
                remedy=f"{remedy}, or leave it out",
            )
        for row, (spectrum_L, name) in enumerate(zip(spectra_NL, relative_paths, strict=True), start=first):
            other = self._first.setdefault(hash(spectrum_L.tobytes()), name)
            if other != name:
                self._copies.append((row, name, other))

    def verify(self) -> None:
        """BadInput (file, row) where captures are copies: in two measurements noise never agrees in every value."""
        if not self._copies:
            return
        row, name, other = self._copies[0]
        many = f" ({len(self._copies)} copies in all)" if len(self._copies) > 1 else ""
        raise BadInput(
            f"{name} is {other} again, value by value{many}",
            file=self.source,
            row=row + FIRST_ROW,
            remedy="measure it again, or leave it out: copies make references and gates better than they are",
        )


def _is_dead(spectrum_L: Spectra) -> bool:
    flat = float((spectrum_L[1:] == spectrum_L[:-1]).mean()) > FLAT
    return flat or np.array_equal(spectrum_L, np.rint(spectrum_L))


def _dead(spectrum_L: Spectra) -> tuple[str, str]:
    """What is wrong with a spectrum that is flat or of whole numbers, and the remedy."""
    low, high = float(spectrum_L.min()), float(spectrum_L.max())
    if low == high:
        said = "zero" if low == 0 else f"{low:.6g}"
        return f"is {said} at every wavelength", "look at shutter and detector, and measure it again"
    if np.array_equal(spectrum_L, np.rint(spectrum_L)):
        return f"holds only the whole numbers {low:g} and {high:g}", "export it with its decimals"
    return "has the same value as its neighbour at most wavelengths", "export it with all its decimals, unsaturated"
