"""Windows of proteins: the labelled table that embedding, probes and controls share, and the arithmetic of spans.

A span is 0-based and half-open. A window knows its protein's whole letters (a decoy's are already permuted), its
stratum, its homology group, and the part and fold that its group fell into.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from concept_core.corpus.rows import Span
from concept_core.plans import Stratum
from study_core.errors import BadInput
from study_core.files import write_text
from study_core.plan import Frozen

Part = Literal["train", "held_out"]


class Window(Frozen):
    """One labelled window of a protein."""

    key: str = Field(description="Unique: accession, start, stratum")
    accession: str
    sequence: str = Field(description="The protein as it is embedded")
    start: int = Field(ge=0)
    end: int
    stratum: Stratum
    group: str = Field(description="Homology group; a decoy's is its positive's")
    part: Part = "train"
    fold: int = Field(-1, description="Cross-validation fold in the training part; -1 held out")
    parent: str | None = Field(None, description="Key of the positive that a decoy was made from")
    domains: tuple[Span, ...] = Field((), description="Known occurrences in `sequence`; a decoy has none in its window")

    @property
    def positive(self) -> bool:
        return self.stratum == "pos"

    @property
    def span(self) -> Span:
        return self.start, self.end

    @property
    def letters(self) -> str:
        """The window's own residues."""
        return self.sequence[self.start : self.end]


def key_of(accession: str, start: int, stratum: str) -> str:
    """The name of a window."""
    return f"{accession}:{start}:{stratum}"


def read_windows(file: Path) -> list[Window]:
    """The windows of a run, in order. Raises BadInput where there are none or they cannot be read."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
        windows = [Window.model_validate(json.loads(line)) for line in lines]
    except FileNotFoundError:
        raise BadInput("no such file", file=file, remedy="run the data step first") from None
    except ValueError as error:
        raise BadInput(
            f"no table of windows ({str(error).splitlines()[0]})", file=file, remedy="run data again"
        ) from None
    if not windows:
        raise BadInput("no windows", file=file, remedy="run the data step again")
    return windows


def write_windows(file: Path, windows: Iterable[Window]) -> Path:
    """Replace `file` by one window a line."""
    return write_text(file, "".join(window.model_dump_json() + "\n" for window in windows))


def overlap(one: Span, other: Span) -> float:
    """Intersection over union of two half-open spans.

    >>> overlap((0, 41), (10, 51))
    0.6078431372549019
    """
    shared = max(0, min(one[1], other[1]) - max(one[0], other[0]))
    return shared / ((one[1] - one[0]) + (other[1] - other[0]) - shared)


def centred(span: Span, width: int, length: int) -> Span:
    """The window of `width` residues around a span's middle, moved inside a protein of `length`.

    A protein shorter than the window is the window.

    >>> centred((10, 33), 41, 100), centred((0, 23), 41, 100), centred((5, 9), 41, 30)
    ((1, 42), (0, 41), (0, 30))
    """
    middle = (span[0] + span[1]) // 2
    start = max(0, min(middle - width // 2, length - width))
    return start, min(start + width, length)


def best_overlap(window: Span, domains: Sequence[Span], length: int) -> float:
    """IOU of a window with the best window of its own width centred on a known span; 0 where there is none."""
    width = window[1] - window[0]
    return max((overlap(window, centred(domain, width, length)) for domain in domains), default=0.0)
