"""What benchmarks have in common: --smoke, --json, the result as JSON, the fastest of some runs."""

from __future__ import annotations

import argparse
import json
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Any


def parser(description: str | None, smoke: str) -> argparse.ArgumentParser:
    """A command line with `--smoke` (its help: what is left out) and `--json FILE`."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--smoke", action="store_true", help=smoke)
    made.add_argument("--json", type=Path, help="write the result here too")
    return made


def best(work: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest of `repeats` runs."""
    return min(timeit.repeat(work, number=1, repeat=repeats))


def report(result: Any, options: argparse.Namespace) -> None:
    """Print a result as JSON, and write it where `--json` says."""
    text = json.dumps(result, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")
