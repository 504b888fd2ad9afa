"""One measured spectrum as it stands in a file, and why a file has none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class NotASpectrum(ValueError):
    """Why a file is not taken, in a few words; `detail`: this file's own figures, so that others may share the why."""

    def __init__(self, why: str, detail: str = "") -> None:
        super().__init__(f"{why} ({detail})" if detail else why)
        self.why, self.detail = why, detail


@dataclass(frozen=True, eq=False)
class Curve:
    """One measured spectrum: wavelengths (L,) and values (L,) as they stand in the file, in its order.

    `label`: of a table's column or row. `title`: of a trace in a file of several. `levels`: treatment, sample and angle
    where a table has columns of these names. `declared_x`, `declared_y`: what the file itself says the axis and the
    values are, in the words of `units.py`; empty where it says nothing.
    """

    x_L: Array
    y_L: Array
    label: str = ""
    title: str = ""
    levels: tuple[str, ...] = ()
    declared_x: str = ""
    declared_y: str = ""
    notes: tuple[str, ...] = ()


def verify_curve(curve: Curve) -> None:
    """NotASpectrum where lengths, numbers or the order of the wavelengths are no spectrum's."""
    x_L: NDArray[Any] = curve.x_L
    if len(x_L) != len(curve.y_L) or len(x_L) < 8:
        raise NotASpectrum(f"{len(x_L)} wavelengths and {len(curve.y_L)} values: no spectrum")
    if not (np.isfinite(x_L).all() and np.isfinite(curve.y_L).all()):
        raise NotASpectrum("a wavelength or a value is no finite number")
    steps = np.diff(x_L)
    if (steps > 0).all() or (steps < 0).all():
        return
    twice = x_L[1:][steps == 0]
    if len(twice) and ((steps >= 0).all() or (steps <= 0).all()):
        raise NotASpectrum("a wavelength stands twice: keep one of its values", f"{twice[0]:g}")
    turn = int(np.flatnonzero(np.sign(steps) != np.sign(steps.sum()))[0])
    raise NotASpectrum("the wavelengths neither rise nor fall throughout", f"{x_L[turn]:g}, then {x_L[turn + 1]:g}")
