"""The nouns of a report: a page of sections, a section of blocks (text, list, table, picture), one template for all.

A page is rendered once as self-contained HTML and once as pieces for a user interface that shows
markdown and tables; both come from the same blocks, so they cannot disagree.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

Status = Literal["pass", "fail", "none"]


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Items:
    """A list of sentences."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """Rows of strings under `columns`. `marks[i]` colours row i (its words say the same).

    The first `text_columns`, and the last one where `last_is_text`, hold words: left-aligned; the others numbers.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    marks: tuple[Status, ...] = ()
    note: str = ""
    text_columns: int = 1
    last_is_text: bool = False

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


@dataclass(frozen=True)
class Code:
    """Commands to copy."""

    lines: tuple[str, ...]


Block = Text | Items | Table | Picture | Code


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
        words = [block for block in section.blocks if isinstance(block, Text | Items | Code)]
        if words:
            text = "\n\n".join(_markdown(block) for block in words)
            found.append(Piece(section.key, "markdown", section.title, f"## {section.title}\n\n{text}\n"))
        shown = [block for block in section.blocks if isinstance(block, Table | Picture)]
        for number, block in enumerate(shown, start=1):
            key = section.key if len(shown) == 1 and not words else f"{section.key}-{number}"
            found.append(_shown(key, block))
    return found


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A GitHub-flavoured table; a pipe inside a cell is escaped, a line break becomes a space."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(_cell(value) for value in line) + " |" for line in lines)


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def _shown(key: str, block: Table | Picture) -> Piece:
    if isinstance(block, Table):
        return Piece(key, "table", block.title, block.records())
    alt = block.alt.replace("[", "(").replace("]", ")")
    return Piece(key, "image-markdown", block.title, f"## {block.title}\n\n![{alt}]({block.uri})\n\n{block.caption}\n")


def _verdict_markdown(page: Page) -> str:
    facts = "\n".join(f"- {name}: {value}" for name, value in page.facts.items())
    lead = "\n\n".join(page.lead)
    return f"# {page.sentence}\n\n{lead}\n\n{facts}\n"


def _markdown(block: Text | Items | Code) -> str:
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
