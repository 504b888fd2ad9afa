"""How figures look: the house's colours and style, a line style for every arm, small figures."""

from __future__ import annotations

from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from study_core.report.blocks import Picture
from study_core.report.style import BLUE, GREEN, GREY, SKY, VERMILION, png


class Mark(NamedTuple):
    """Colour never stands alone: every arm has a line style too."""

    colour: str
    line: str


MARKS = {
    "PtychoPINN": Mark(BLUE, "-"), "PtychoPINN-gs1": Mark(SKY, "-."), "Baseline": Mark(GREEN, "--"),
    "PtyChi": Mark(VERMILION, "-"), "flat": Mark(GREY, ":"),
}  # fmt: skip


def axes(width: float = 4.0, height: float = 2.8, columns: int = 1, **options: Any) -> tuple[Figure, list[Axes]]:
    """A small figure, inches, and its axes in a row."""
    drawn = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(drawn)
    return drawn, list(drawn.subplots(1, columns, squeeze=False, **options)[0])


def picture(drawn: Figure, title: str, alt: str, caption: str = "") -> Picture:
    """The figure as a picture of the page."""
    return Picture(title, png(drawn), alt, caption)
