"""Words of a plan that become names and paths of files: what may stand in them, as types of a plan's fields.

Every text of a plan has one of these types, so that none leads out of the folder that it is meant for:

- `Name`: one part of a path: a model's key, a version, a run's id;
- `Inside`: a path below the folder that it is joined to;
- `Words`: read by people, or naming a file that is only read.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from study_core.errors import BadInput

LONGEST_PART = 100  # bytes: what is put before and behind it must fit into the 255 of a file's name
LONGEST_WORDS = 1000


def plain(text: str) -> str:
    """The text, where it is one name; ValueError says why not."""
    if not re.fullmatch(r"\w[\w.+@-]*", text) or len(text.encode()) > LONGEST_PART:
        raise ValueError(f"{_shown(text)} is no name: letters, digits, _ . + @ - only, at most {LONGEST_PART}")
    return text


def inside(text: str) -> str:
    """The text, where it is a path that stays below the folder that it is joined to; ValueError says why not."""
    parts = text.split("/")
    if text.startswith("/") or ".." in parts:
        raise ValueError(f"{_shown(text)} leads out of the run's folder: give a path inside it")
    unclean = _unprintable(text) or "\\" in text or not all(part.strip(" .") for part in parts)
    if unclean or len(text) > LONGEST_WORDS or any(len(part.encode()) > LONGEST_PART for part in parts):
        raise ValueError(f"{_shown(text)} is no path of plain names below the run's folder, as logs/run/train.log is")
    return text


def words(text: str) -> str:
    """The text, where it is a line that can be shown and can name a file; ValueError says why not."""
    if _unprintable(text) or len(text) > LONGEST_WORDS or any(len(part.encode()) > 255 for part in text.split("/")):
        most = f"at most {LONGEST_WORDS} letters, 255 bytes between two slashes"
        raise ValueError(f"{_shown(text)}: one line without control characters, {most}")
    return text


Name = Annotated[str, AfterValidator(plain)]
Inside = Annotated[str, AfterValidator(inside)]
Words = Annotated[str, AfterValidator(words)]


def below(folder: Path, relative: str) -> Path:
    """`folder/relative`. BadInput where a link on the way leads out of the folder."""
    path = folder / inside(relative)
    if not path.resolve().is_relative_to(folder.resolve()):
        raise BadInput(
            f"{relative} leads out of the folder, to {path.resolve()}", file=folder, remedy="take away the link"
        )
    return path


def _unprintable(text: str) -> bool:
    return any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in text)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}…")
