"""How the denoiser's methods and folds are drawn, everywhere alike; the style itself is the house's."""

from __future__ import annotations

from denoise_core.report.labels import CANDIDATE, PRODUCTION
from study_core.report.style import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION, Mark

MARKS = {
    "raw": Mark(ORANGE, "o", "-"),
    "savgol_61_3": Mark(SKY, "s", "-."),
    "lmmse": Mark(GREEN, "^", ":"),
    "f": Mark(PURPLE, "D", "--"),
    "model": Mark(BLUE, "*", "-"),
    PRODUCTION: Mark(VERMILION, "X", "--"),
    CANDIDATE: Mark(BLUE, "*", "-"),
    "reference": Mark(BLACK, "", "--"),
}
_SPARE = (Mark(BLUE, "P", "-"), Mark(VERMILION, "v", "-."), Mark(GREEN, "d", ":"), Mark(PURPLE, "s", "--"))

FOLD_MARKS = (Mark(BLUE, "o", "-"), Mark(VERMILION, "s", "--"), Mark(GREEN, "^", "-."), Mark(PURPLE, "D", ":"),
              Mark(BLACK, "v", "-"))  # fmt: skip


def mark_of(method: str, number: int = 0) -> Mark:
    """The drawing of a method; an unknown one takes a spare by its number."""
    return MARKS.get(method, _SPARE[number % len(_SPARE)])
