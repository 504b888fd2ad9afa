"""Which commit a piece of code is of."""

from __future__ import annotations

import subprocess
from pathlib import Path


def git_hash(folder: Path) -> str | None:
    """Commit of the checkout around `folder`, with `-dirty` where files differ from it; None outside a checkout."""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
