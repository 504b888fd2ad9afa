"""docs/architecture.svg: the rooms of the house and who imports whom, read from the code itself.

`make picture` draws it again; a test fails when an arrow appears or disappears and the picture was not drawn again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import grimp
import matplotlib
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

PICTURE = Path(__file__).with_name("architecture.svg")
PACKAGES = ("deployments", "flows", "tasks", "denoise_core", "study_core")

# Room: the modules in it (longest prefix wins), its middle (x, y) and width, and its line of text.
Room = tuple[tuple[str, ...], tuple[float, float], float, str]
ROOMS: dict[str, Room] = {
    "deployments": (("deployments",), (3.6, 9.3), 3.4, "names, forms, the house"),
    "flows": (("flows",), (3.6, 8.0), 3.4, "WHAT happens"),
    "tasks": (("tasks",), (3.6, 6.7), 3.4, "HOW a step runs and is recorded"),
    "tasks.slurm": (("tasks.slurm",), (8.3, 6.7), 2.8, "journal, jobs, remedies"),
    "terminal": (("tasks.terminal",), (8.3, 5.5), 2.8, "shared by the tasks"),
    "command line · jobs": (("denoise_core.__main__", "denoise_core.jobs"), (8.3, 3.9), 3.2, "doors of the science"),
    "report": (("denoise_core.report",), (1.9, 3.9), 2.2, "page, bundle, replay"),
    "recipes": (("denoise_core.recipes",), (4.6, 3.0), 1.9, "named plans"),
    "evaluation": (
        ("denoise_core.evaluation", "denoise_core.inference"),
        (1.9, 2.1),
        2.8,
        "gates, controls, inference",
    ),
    "training": (("denoise_core",), (8.3, 2.5), 2.8, "loop, losses, augmentation"),
    "model": (("denoise_core.model",), (5.1, 1.2), 2.2, "filters, MambaUV, scan"),
    "corpus": (("denoise_core.corpus",), (3.2, 0.0), 2.6, "manifests, folds, spectra"),
    "plans": (("denoise_core.plans",), (5.9, -1.2), 2.0, "the recipe as data"),
    "study_core": (("study_core",), (9.2, -1.2), 2.4, "files, gates, verdicts, jobs"),
    "Prefect": (("prefect",), (0.3, 8.0), 1.3, ""),
    "submitit": (("submitit",), (11.2, 6.7), 1.4, ""),
}
OUTSIDE = ("Prefect", "submitit")
# A band behind rooms: its text and where that stands, lower left corner, width, height, colour.
BANDS = (
    ("denoise_core: the science, usable alone", (0.45, -1.75), (0.3, -1.85), 9.95, 6.45, "#eef5ee"),
    ("tasks", (0.45, 5.1), (0.3, 5.0), 9.95, 2.3, "#f3f0f8"),
    ("flows and deployments", (7.7, 9.55), (1.15, 7.5), 9.1, 2.4, "#eef3fa"),
)
HALF_HEIGHT = 0.36
KEY = "Arrow: imports. Bold: the next room down. Faint: past a room in between. Dashed: libraries that few may import."


def arrows() -> list[tuple[str, str]]:
    """(importing room, imported room), sorted; imports inside functions count as well."""
    graph = grimp.build_graph(*PACKAGES, include_external_packages=True, cache_dir=None)
    found = set()
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            here, there = _room(module), _room(imported)
            if here and there and here != there and here not in OUTSIDE:
                found.add((here, there))
    return sorted(found)


def _room(module: str) -> str | None:
    """The room with the longest prefix of the module's name; None for a library that the picture leaves out."""
    fits = [
        (len(prefix), name)
        for name, (prefixes, *_) in ROOMS.items()
        for prefix in prefixes
        if module == prefix or module.startswith(f"{prefix}.")
    ]
    return max(fits)[1] if fits else None


def detours(edges: list[tuple[str, str]]) -> set[tuple[str, str]]:
    """Arrows that another way of arrows implies: drawn faint, so that the floors show."""

    def reach(start: str, without: tuple[str, str]) -> set[str]:
        seen, todo = set(), [start]
        while todo:
            here = todo.pop()
            for edge in edges:
                if edge[0] == here and edge != without and edge[1] not in seen:
                    seen.add(edge[1])
                    todo.append(edge[1])
        return seen

    return {edge for edge in edges if edge[1] in reach(edge[0], edge)}


def drawn(picture: Path = PICTURE) -> list[tuple[str, str]]:
    """The arrows that a picture was drawn from; they travel in its metadata."""
    text = picture.read_text(encoding="utf-8")
    start = text.index("<dc:description>") + len("<dc:description>")
    edges = json.loads(text[start : text.index("</dc:description>")].replace("&quot;", '"'))
    return [(here, there) for here, there in edges]


def draw(out: Path = PICTURE) -> Path:
    """Write the picture; equal imports give equal bytes."""
    edges = arrows()
    figure = Figure(figsize=(10.4, 9.4))
    axes = figure.subplots()
    axes.set(xlim=(-0.6, 12.2), ylim=(-2.5, 10.05))
    axes.axis("off")
    for text, place, corner, width, height, colour in BANDS:
        shape = "round,pad=0,rounding_size=0.12"
        axes.add_patch(FancyBboxPatch(corner, width, height, fc=colour, ec="none", boxstyle=shape, zorder=0))
        axes.text(*place, text, va="bottom", fontsize=9, color="#666666", style="italic")
    faint = detours(edges)
    for edge in edges:
        _arrow(axes, edge, faint=edge in faint)
    axes.text(0.45, -2.15, KEY, va="top", fontsize=8, color="#444444")
    for name, (_, middle, width, text) in ROOMS.items():
        _box(axes, name, middle, width, text)
    with matplotlib.rc_context({"svg.hashsalt": "architecture", "svg.fonttype": "none"}):
        figure.savefig(
            out, format="svg", bbox_inches="tight", metadata={"Date": None, "Description": json.dumps(edges)}
        )
    return out


def _box(axes: Any, name: str, middle: tuple[float, float], width: float, text: str) -> None:
    (x, y), outside = middle, name in OUTSIDE
    axes.add_patch(
        FancyBboxPatch((x - width / 2, y - HALF_HEIGHT), width, 2 * HALF_HEIGHT, lw=1.1, zorder=3, fc="#ffffff",
                       ec="#999999" if outside else "#334466", ls="--" if outside else "-",
                       boxstyle="round,pad=0,rounding_size=0.1")
    )  # fmt: skip
    axes.text(x, y + (0.12 if text else 0), name, ha="center", va="center", fontsize=11, weight="bold", zorder=4)
    if text:
        axes.text(x, y - 0.17, text, ha="center", va="center", fontsize=8, color="#444444", zorder=4)


def _arrow(axes: Any, edge: tuple[str, str], *, faint: bool) -> None:
    start, end = (_edge_of(*edge), _edge_of(*reversed(edge)))
    far = abs(start[0] - end[0]) + abs(start[1] - end[1]) > 3
    axes.add_patch(
        FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=9 if faint else 13, shrinkA=0, shrinkB=1,
                        color="#b9bfc9" if faint else "#334466", lw=0.8 if faint else 1.6, zorder=1 if faint else 2,
                        connectionstyle=f"arc3,rad={0.12 if far and faint else 0.0}")
    )  # fmt: skip


def _edge_of(room: str, other: str) -> tuple[float, float]:
    """Where the line between two rooms' middles leaves the first one's box."""
    (x, y), width = ROOMS[room][1], ROOMS[room][2]
    dx, dy = ROOMS[other][1][0] - x, ROOMS[other][1][1] - y
    share = min(width / 2 / abs(dx) if dx else 9.0, HALF_HEIGHT / abs(dy) if dy else 9.0)
    return x + share * dx, y + share * dy


if __name__ == "__main__":
    print(draw())
