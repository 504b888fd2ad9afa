"""How figures look: Okabe-Ito colours, a marker and a line style for every arm, drawn without pyplot's own state."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ptycho_core.report.blocks import Picture

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILION, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#6e6e6e"
DPI = 130


class Mark(NamedTuple):
    """Colour never stands alone: every arm has a line style too."""

    colour: str
    line: str


MARKS = {
    "PtychoPINN": Mark(BLUE, "-"), "PtychoPINN-gs1": Mark(SKY, "-."), "Baseline": Mark(GREEN, "--"),
    "PtyChi": Mark(VERMILION, "-"), "flat": Mark(GREY, ":"),
}  # fmt: skip
_ONE_AT_A_TIME = threading.RLock()
_STYLE: Any = {
    "font.family": "DejaVu Sans", "font.size": 9, "axes.titlesize": 9.5, "axes.titlelocation": "left",
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#e3e3e3",
    "grid.linewidth": 0.6, "axes.axisbelow": True, "legend.frameon": False, "legend.fontsize": 8,
    "lines.linewidth": 1.4,
}  # fmt: skip


@contextmanager
def drawing() -> Iterator[None]:
    """Figures made inside carry the page's style; the caller's settings come back."""
    with _ONE_AT_A_TIME, mpl.rc_context(_STYLE):
        yield


def axes(width: float = 4.0, height: float = 2.8, columns: int = 1, **options: Any) -> tuple[Figure, list[Axes]]:
    """A small figure, inches, and its axes in a row."""
    drawn = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(drawn)
    return drawn, list(drawn.subplots(1, columns, squeeze=False, **options)[0])


def picture(drawn: Figure, title: str, alt: str, caption: str = "") -> Picture:
    """The figure as a picture of the page."""
    out = io.BytesIO()
    drawn.savefig(out, format="png", dpi=DPI, facecolor="white")
    return Picture(out.getvalue(), title, alt, caption)
