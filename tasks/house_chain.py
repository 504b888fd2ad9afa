"""The house's name, and the chain of its runs: each log's first record names the run that was opened before it.

A run that was taken out of a house, or of a copy of one, is named by its successor. The last one has none: heads that
were told elsewhere (`tasks.anchor`) name it. `house.json` at the root of the artifacts holds the name and the last run.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from study_core.files import create_json, locked, make_folder, peek_json, write_json
from tasks.audit_log import LOG

HOUSE = "house.json"
CHAIN = "house"  # in the data of a log's first record
PRUNED = "pruned"  # folder of the log of runs that were removed, and the kind of its records


def known(root: Path) -> str:
    """The name of the house at `root`; empty where it has none yet."""
    found = peek_json(root / HOUSE)
    return str(found.get("id") or "") if isinstance(found, dict) else ""


def named(root: Path) -> str:
    """The name of the house at `root`, made at the first call: it goes with the folder wherever that is moved."""
    if not known(root):
        make_folder(root)
        create_json(root / HOUSE, {"id": uuid.uuid4().hex})
    return known(root)


@contextmanager
def entering(root: Path, folder: Path) -> Iterator[Entry]:
    """Held while a run's first record is written: what it says of the house; `Entry.written` makes it the last one."""
    name = named(root)
    with locked(root / f".{HOUSE}.lock"):
        yield Entry(root, folder, name)


class Entry:
    """A run on its way into the chain; one whose log is there already (a retry) stays where it is."""

    def __init__(self, root: Path, folder: Path, name: str) -> None:
        self._root, self._new, last = root, not (folder / LOG).exists(), peek_json(root / HOUSE)
        follows = last.get("last") if self._new and isinstance(last, dict) else None
        self.data: dict[str, Any] = {"id": name, "folder": folder.relative_to(root).as_posix(), "follows": follows}

    def written(self, record: Mapping[str, Any]) -> None:
        if self._new:
            last = {"folder": self.data["folder"], "log": record["sha256"]}
            write_json(self._root / HOUSE, {"id": self.data["id"], "last": last})


def root_of(folder: Path, below: str) -> Path | None:
    """The root of the house that a log in `folder` lies in as it was written: its own place is `below` it. None
    elsewhere."""
    parts = Path(below).parts
    return folder.parents[len(parts) - 1] if parts and folder.parts[-len(parts) :] == parts else None


def place(record: Mapping[str, Any]) -> tuple[str, Mapping[str, Any] | None]:
    """(folder below its house, the run that it follows) of a log's first record; none of a log of old."""
    told = record["data"].get(CHAIN)
    if not isinstance(told, dict):
        return "", None
    follows = told.get("follows")
    whole = isinstance(follows, dict) and {"folder", "log"} <= follows.keys()
    return str(told.get("folder") or ""), follows if whole else None
