"""Tables in GitHub-flavoured markdown."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], numbers: Collection[int] = ()) -> str:
    """A pipe inside a cell is escaped, a line break becomes a space; columns `numbers` (from 0) are aligned right."""
    rule = ["---:" if column in numbers else "---" for column in range(len(columns))]
    return "\n".join("| " + " | ".join(_cell(value) for value in line) + " |" for line in (columns, rule, *rows))


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
