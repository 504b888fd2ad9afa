"""The nouns of a report: a page of sections, a section of blocks (text, list, table, picture), one template for all.

A page is rendered once as self-contained HTML and once as pieces for a user interface that shows
markdown and tables; both come from the same blocks, so they cannot disagree.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from study_core.markdown import markdown_table

Status = Literal["pass", "fail", "none"]
NARROW, WIDE = 3, 12  # columns that a telephone shows side by side, and a page of paper in ordinary print
NARROW_LETTERS, WRAPS_AT = 44, 30  # of a row that fits side by side on a telephone; where a long cell is broken


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Items:
    """A list of sentences."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Terms:
    """Words of the page and what each means."""

    items: tuple[tuple[str, str], ...]


Shade = Literal["", "ahead", "behind", "even", "empty", "good", "bad"]


@dataclass(frozen=True)
class Table:
    """Rows of strings under `columns`. `marks[i]` colours row i (its words say the same).

    The first `text_columns`, and the last one where `last_is_text`, hold words: left-aligned; the others numbers.
    `shades[i][j]` colours one cell, where a table compares along both its sides. On a narrow screen a table of more
    than `NARROW` columns, or of wider ones than fit there, shows each row as a card.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    marks: tuple[Status, ...] = ()
    note: str = ""
    text_columns: int = 1
    last_is_text: bool = False
    shades: tuple[tuple[Shade, ...], ...] = ()

    @property
    def width(self) -> str:
        """The table's classes: `cards` on a telephone for more columns than fit, and small print for the `widest`."""
        wide = ("cards",) if len(self.columns) > NARROW or self._letters > NARROW_LETTERS else ()
        return " ".join((*wide, *(("widest",) if len(self.columns) > WIDE else ())))

    @property
    def _letters(self) -> int:
        """Letters side by side in the widest row that may be; a long cell wraps."""
        return sum(min(max(map(len, cells)), WRAPS_AT) for cells in zip(self.columns, *self.rows, strict=True))

    def is_text(self, column: int) -> bool:
        """Whether a column holds words."""
        return column < self.text_columns or (self.last_is_text and column == len(self.columns) - 1)

    def shade(self, row: int, column: int) -> Shade:
        """How a cell is coloured."""
        return self.shades[row][column] if self.shades else ""

    def mark(self, row: int) -> Status:
        """How a row is coloured; rows without a mark are plain."""
        return self.marks[row] if row < len(self.marks) else "none"

    def markdown(self) -> str:
        """The table as GitHub-flavoured markdown, pipes in cells escaped."""
        return markdown_table(self.columns, self.rows)

    def records(self) -> list[dict[str, str]]:
        """One mapping a row, for a table widget."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


@dataclass(frozen=True)
class Picture:
    """A figure as PNG, with words for those who cannot see it (`alt`) and for those who can (`caption`)."""

    title: str
    png: bytes
    alt: str
    caption: str

    @property
    def uri(self) -> str:
        """`data:` address: the picture travels inside the page."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode("ascii")

    @property
    def parts(self) -> tuple[tuple[int, int, int, int], ...]:
        """x, y, width and height of what a narrow page shows one below the other; empty: the whole."""
        return getattr(self.png, "parts", ())

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, of a picture that has parts."""
        return self.png.size if self.parts else (0, 0)  # type: ignore[attr-defined]

    @property
    def key(self) -> str:
        """What names the picture on its page."""
        return f"p{hashlib.sha256(self.png).hexdigest()[:12]}"


@dataclass(frozen=True)
class Grid:
    """Pictures beside each other, as many as fit; `small` ones are panels, six in a row on a desk and on paper."""

    title: str
    pictures: tuple[Picture, ...]
    small: bool = False
    note: str = ""


@dataclass(frozen=True)
class Code:
    """Commands to copy."""

    lines: tuple[str, ...]


Block = Text | Items | Terms | Table | Picture | Grid | Code


@dataclass(frozen=True)
class Section:
    """One heading of a page; `key` names it in links and artifacts."""

    key: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Page:
    """A whole report: the verdict in one sentence on top, then sections in the order a person reads."""

    title: str
    status: Status
    sentence: str
    lead: tuple[str, ...]
    sections: tuple[Section, ...]
    footer: str = ""
    facts: dict[str, str] = field(default_factory=dict)

    def html(self) -> str:
        """The page as one file: no script, no link to the outside."""
        return _template().render(page=self, kind=lambda block: type(block).__name__)


class Piece(NamedTuple):
    """What one artifact shows. `content`: markdown text, or rows for a table."""

    key: str
    kind: Literal["markdown", "image-markdown", "table"]
    title: str
    content: str | list[dict[str, str]]


def pieces(page: Page) -> list[Piece]:
    """The page in artifact-sized pieces, in reading order; keys are unique, pictures travel as `data:` addresses."""
    found = [Piece("verdict", "markdown", page.sentence, _verdict_markdown(page))]
    for section in page.sections:
        words = [block for block in section.blocks if isinstance(block, Text | Items | Terms | Code)]
        if words:
            text = "\n\n".join(_markdown(block) for block in words)
            found.append(Piece(section.key, "markdown", section.title, f"## {section.title}\n\n{text}\n"))
        shown = [part for block in section.blocks for part in _shown_apart(block)]
        for number, block in enumerate(shown, start=1):
            key = section.key if len(shown) == 1 and not words else f"{section.key}-{number}"
            found.append(_shown(key, block))
    return found


def _shown(key: str, block: Table | Picture) -> Piece:
    if isinstance(block, Table):
        return Piece(key, "table", block.title, block.records())
    alt = block.alt.replace("[", "(").replace("]", ")")
    return Piece(key, "image-markdown", block.title, f"## {block.title}\n\n![{alt}]({block.uri})\n\n{block.caption}\n")


def _shown_apart(block: Block) -> tuple[Table | Picture, ...]:
    return block.pictures if isinstance(block, Grid) else (block,) if isinstance(block, Table | Picture) else ()


def glossary(page: Page, terms: Mapping[str, str]) -> Page:
    """The page with a last section that explains those of `terms` that stand on it as words; unchanged without one."""
    said = " ".join(_words(page))
    used = [name for name in terms if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", said, re.IGNORECASE)]
    if not used:
        return page
    known = tuple((name, terms[name]) for name in sorted(used, key=str.casefold))
    return replace(page, sections=(*page.sections, Section("glossary", "Words", (Terms(known),))))


def _words(page: Page) -> Iterator[str]:
    yield from (page.sentence, *page.lead, *page.facts)
    for section in page.sections:
        yield section.title
        for block in section.blocks:
            if isinstance(block, Text):
                yield block.text
            elif isinstance(block, Items):
                yield from block.items
            elif isinstance(block, Table):
                yield from (block.title, block.note, *block.columns, *(cell for row in block.rows for cell in row))
            else:
                for shown in _shown_apart(block):
                    yield shown.title
                    yield shown.caption if isinstance(shown, Picture) else shown.note


def _verdict_markdown(page: Page) -> str:
    facts = "\n".join(f"- {name}: {value}" for name, value in page.facts.items())
    lead = "\n\n".join(page.lead)
    return f"# {page.sentence}\n\n{lead}\n\n{facts}\n"


def _markdown(block: Text | Items | Terms | Code) -> str:
    if isinstance(block, Terms):
        return "\n".join(f"- **{name}**: {meaning}" for name, meaning in block.items)
    if isinstance(block, Text):
        return block.text
    if isinstance(block, Items):
        return "\n".join(f"- {item}" for item in block.items)
    return "```\n" + "\n".join(block.lines) + "\n```"


@cache
def _template() -> Template:
    folder = Path(__file__).resolve().parent
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,  # file names and reasons come from files that others wrote
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2")
