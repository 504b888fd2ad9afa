"""What a page is made of: texts, lists, tables, and pictures in a grid that folds on a narrow screen."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from study_core.markdown import markdown_table

NONE = "–"


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Items:
    """A list."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """Rows of texts. `marks` gives each cell a class of the page's style; the first `texts` columns are words."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    marks: tuple[tuple[str, ...], ...] = ()
    texts: int = 1
    last_is_text: bool = False
    note: str = ""

    def mark(self, row: int, column: int) -> str:
        return self.marks[row][column] if self.marks else ""

    def is_text(self, column: int) -> bool:
        return column < self.texts or (self.last_is_text and column == len(self.columns) - 1)

    def markdown(self) -> str:
        """The same rows for summary.md."""
        numbers = [column for column in range(len(self.columns)) if not self.is_text(column)]
        return markdown_table(self.columns, self.rows, numbers)


@dataclass(frozen=True)
class Picture:
    """A PNG with its title, what it shows for those who cannot see it, and a caption."""

    png: bytes
    title: str
    alt: str
    caption: str = ""

    @property
    def uri(self) -> str:
        return "data:image/png;base64," + base64.b64encode(self.png).decode()


@dataclass(frozen=True)
class Grid:
    """Pictures beside each other. `small` ones are panels, six in a row on a desk and on paper."""

    title: str
    pictures: tuple[Picture, ...]
    small: bool = False
    note: str = ""


Block = Text | Items | Table | Grid


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it; `key` is its anchor."""

    key: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Page:
    """The study's page. `status` is pass or fail."""

    title: str
    status: str
    sentence: str
    lead: tuple[str, ...]
    facts: dict[str, str]
    sections: tuple[Section, ...]
    footer: str
