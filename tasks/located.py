"""Where a path of a form lies: as given, or below the project."""

from __future__ import annotations

from pathlib import Path

from study_core.errors import BadInput
from tasks.provenance import ROOT


def located(text: str) -> Path:
    """A path that must exist, relative ones below the project's root. Raises BadInput where there is nothing."""
    path = ROOT / text  # an absolute path stays itself
    if not path.exists():
        raise BadInput("no such file", file=path, remedy="check the path; relative ones start at the project's root")
    return path
