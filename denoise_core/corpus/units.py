"""What axes and values of spectra are measured in: the words that files have for it, and the way to nm and reflectance.

Words are read, never guessed: a word that is not known stays as it is, and nothing converts it.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from denoise_core.corpus.curves import Array
from denoise_core.corpus.study import Units

TO_NM: dict[str, Callable[[Array], Array]] = {
    "nm": lambda x_L: x_L,
    "um": lambda x_L: 1e3 * x_L,
    "angstrom": lambda x_L: 0.1 * x_L,
    "cm-1": lambda x_L: 1e7 / x_L,
    "ev": lambda x_L: 1239.841984 / x_L,
}
TO_REFLECTANCE: dict[Units, Callable[[Array], Array]] = {
    "reflectance": lambda y_L: y_L,
    "percent": lambda y_L: y_L / 100.0,
    "absorbance": lambda y_L: 10.0**-y_L,
    "absorptance": lambda y_L: 1.0 - y_L,
}
SAID = {
    "percent": "percent to fraction",
    "absorbance": "absorbance A to reflectance 10^-A",
    "absorptance": "1 - R to reflectance",
}
AXES, UNITS = tuple(TO_NM), tuple(TO_REFLECTANCE)

_AXIS = {
    "cm-1": r"cm\s*\^?\s*[-−⁻]\s*[1¹]|1\s*/\s*cm|wave\s*numbers?|wellenzahl|xwaven",
    "angstrom": r"å|angstr",
    "ev": r"(?<![a-z])ev(?![a-z])|electron.?volt|^xev$",
    "um": r"[µμ]m|(?<![a-z])um(?![a-z])|microm|mikrom|xumetr",
    "nm": r"(?<![a-z])nm(?![a-z])|nanom|xnmetr",
}
_VALUES = {
    "absorptance": r"absorptan|1\s*-\s*r(?![a-z])",
    "percent": r"%|percent|prozent|pourcent|ypercnt",
    "absorbance": r"absorb|absorpt|extin[kc]tion|(?<![a-z])(abs|od)(?![a-z])|log\s*\(?1/r|yabsrb|ylogdr",
    "kubelka-munk": r"kubelka|ykmonk|f\(r\)",
    "transmittance": r"transmi|ytrans",
    "counts": r"counts?|intensit|ycount|yinten",
    "reflectance": r"reflect|reflex|réflect|remission|yreflec|(?<![a-z])r(?![a-z])",
}


def axis_of(text: str) -> str:
    """The unit of an axis that a text names; empty where it names none."""
    return _first(_AXIS, text)


def values_of(text: str) -> str:
    """What a text says that values are; empty where it says nothing."""
    return _first(_VALUES, text)


def _first(words: dict[str, str], text: str) -> str:
    return next((name for name, pattern in words.items() if re.search(pattern, text, re.IGNORECASE)), "")


def axis_hint(x_L: Array) -> str:
    """What an axis that nobody named looks like, with the option that says so; empty where it may be in nm."""
    low, high = float(x_L.min()), float(x_L.max())
    if high < 20.0:
        return f"wavelengths from {low:g} to {high:g}: micrometres? --axis um; or --axis ev"
    if high > 2600.0:
        return f"wavelengths from {low:g} to {high:g}: wavenumbers? --axis cm-1; or --axis angstrom"
    return ""


def to_reflectance(y_L: Array, units: str) -> Array:
    """Values of these units as a fraction."""
    return next(convert for name, convert in TO_REFLECTANCE.items() if name == units)(y_L)


def from_reflectance(fraction_L: Array, units: Units) -> Array:
    """Reflectance in the units that it was converted from."""
    if units == "absorbance":
        return -np.log10(np.maximum(fraction_L, 1e-6))
    return {"percent": 100.0 * fraction_L, "absorptance": 1.0 - fraction_L}.get(units, fraction_L)


def to_nm(x_L: Array, axis: str) -> Array:
    """An axis in nm; infinite where a wavenumber or an energy is zero."""
    with np.errstate(divide="ignore"):
        return TO_NM[axis](x_L)
