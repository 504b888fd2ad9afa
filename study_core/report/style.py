"""How figures look: the Okabe–Ito colours, one style for all, and a figure turned into a small PNG.

A figure of panels side by side knows where a narrow page may part it: it is drawn once, and shown in pieces there.

Colour never stands alone: every series has its own marker and line style too. Figures are drawn without
pyplot, which keeps state of its own; the style is global in matplotlib, so one thread draws at a time.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from PIL import Image

DPI = 150
WIDTH_IN, ALONE_IN = 9.0, 5.0  # of panels side by side, and of one: its letters can be read on a telephone
LEGEND_LETTERS = 56  # of a legend's row, its marks counted as five each
COLOURS_IN_PNG = 256

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
GREY, PALE = "#6e6e6e", "#e9e9e9"
SEQUENTIAL = "cividis"  # monotone in lightness, the same to the colour-blind and in grey print


class Mark(NamedTuple):
    """How one series is drawn everywhere."""

    colour: str
    marker: str
    line: str


_ONE_AT_A_TIME = threading.RLock()
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.2,
}


@contextmanager
def drawing() -> Iterator[None]:
    """Figures made inside carry the report's style; the caller's settings come back."""
    with _ONE_AT_A_TIME, mpl.rc_context(_STYLE):
        yield


Part = tuple[int, int, int, int]


class Drawn(bytes):
    """A figure as PNG. `size`: width and height in pixels; `parts`: x, y, width, height of what stands alone in it."""

    size: tuple[int, int]
    parts: tuple[Part, ...]


def figure(
    rows: int = 1, columns: int = 1, *, height: float, width: float | None = None, **options: Any
) -> tuple[Figure, list[Axes]]:
    """A figure in inches, of the page's width (or one column's) if not told otherwise, and its axes row by row.

    Panels that share an axis beside each other all say its values: a narrow page parts them.
    """
    drawn = Figure(figsize=(width or (WIDTH_IN if columns > 1 else ALONE_IN), height), layout="constrained")
    FigureCanvasAgg(drawn)
    axes = drawn.subplots(rows, columns, squeeze=False, **options)
    flat = [axis for row in axes for axis in row]
    for axis in flat if options.get("sharey") else ():
        axis.tick_params(labelleft=True)
    return drawn, flat


def legend(drawn: Figure, handles: Sequence[Any], labels: Sequence[str] = ()) -> None:
    """One legend above all panels, in as many rows as keep it readable on a narrow page."""
    said = list(labels) or [str(handle.get_label()) for handle in handles]
    columns = max(1, min(len(said), LEGEND_LETTERS // (5 + max(map(len, said), default=0))))
    drawn.legend(handles, said, loc="outside upper center", ncols=columns)


def png(drawn: Figure) -> Drawn:
    """The figure as PNG with a palette: a third of the bytes, the same to the eye."""
    drawn.set_dpi(DPI)
    drawn.set_facecolor("white")
    canvas = FigureCanvasAgg(drawn)
    canvas.draw()  # type: ignore[no-untyped-call]  # once: savefig would lay it out twice, to the same pixels
    pixels = canvas.buffer_rgba()  # type: ignore[no-untyped-call]
    coloured = Image.frombuffer("RGBA", canvas.get_width_height(), pixels, "raw", "RGBA", 0, 1).convert("RGB")
    # k-means after it would bring the mean error from .8 to .3 of 255 levels, and doubles a figure's time.
    small = coloured.quantize(COLOURS_IN_PNG, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    out = io.BytesIO()
    small.save(out, format="PNG")  # optimised: 8 % smaller for twice the time
    done = Drawn(out.getvalue())
    done.size, done.parts = small.size, tuple(_parts(drawn, *small.size))
    return done


def _parts(drawn: Figure, width: int, height: int) -> Iterator[Part]:
    """The legend, then the panels row by row (columns whole where their axis is shared); none of a single column."""
    placed = [(axis, spec) for axis in drawn.axes if (spec := axis.get_subplotspec()) is not None]
    columns = placed[0][1].get_gridspec().ncols if placed else 1
    if columns < 2:
        return
    boxes = [
        (spec.rowspan.start, spec.colspan.start, box)
        for axis, spec in placed
        if axis.axison and (box := axis.get_tightbbox()) is not None
    ]
    if any(len(axis.get_shared_x_axes().get_siblings(axis)) > 1 for axis, _ in placed):
        boxes = [(0, column, box) for _, column, box in boxes]
    top = float(height)
    for box in (box for shown in drawn.legends if (box := shown.get_tightbbox()) is not None):
        yield _pixels(box.x0 - 6, box.y0 - 6, box.x1 + 6, height, height)
        top = min(top, box.y0)
    rows = _bounds([(row, Bbox([[-box.y1, 0], [-box.y0, 0]])) for row, _, box in boxes], -top, 0)
    ends = _bounds([(column, box) for _, column, box in boxes], 0, width)
    for row, column in sorted({(row, column) for row, column, _ in boxes}):
        yield _pixels(ends[column][0], -rows[row][1], ends[column][1], -rows[row][0], height)


def _bounds(boxes: Sequence[tuple[int, Bbox]], first: float, last: float) -> dict[int, tuple[float, float]]:
    """Where each row or column of boxes begins and ends: half way to the next one."""
    numbers = sorted({number for number, _ in boxes})
    low = {n: min(box.x0 for number, box in boxes if number == n) for n in numbers}
    high = {n: max(box.x1 for number, box in boxes if number == n) for n in numbers}
    cuts = [first, *((high[a] + low[b]) / 2 for a, b in pairwise(numbers)), last]
    return dict(zip(numbers, pairwise(cuts), strict=True))


def _pixels(x0: float, y0: float, x1: float, y1: float, height: int) -> Part:
    """Matplotlib's corners, from below, as a page's from above."""
    return max(0, round(x0)), max(0, round(height - y1)), round(x1 - x0), round(y1 - y0)
