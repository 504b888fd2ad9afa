"""The initiative's module names for the phases of `python -m ptycho_core`: the same options, one module a phase."""

from __future__ import annotations

import sys

from ptycho_core.__main__ import main


def phase(command: str) -> int:
    """Run one command with the options of this process."""
    return main([command, *sys.argv[1:]])
