"""Every CPU benchmark, one after the other, against the ratios on record.

`python -m benchmarks.all [--smoke] [--update] [--keep FOLDER]`. A ratio that fell by more than a quarter is reported,
never failed: machines differ, and a ratio measured side by side in one run differs least.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tasks.terminal import Parser
from tasks.terminal import run as run_command

RECORD = Path(__file__).with_name("record.json")
BENCHMARKS = ("scan", "losses", "training", "gpu", "evaluation", "inference", "orchestration", "cold_start")
NOT_IN_SMOKE = ("cold_start",)  # it is `make run` from nothing, which everyone who asks for a smoke has just done
FALL = 0.75  # below this share of the recorded ratio a regression is reported


def run(name: str, smoke: bool, keep: Path | None = None) -> dict[str, Any]:
    """One benchmark in a process of its own; its JSON, which stays in the folder `keep`."""
    with tempfile.TemporaryDirectory() as folder:
        out = (keep or Path(folder)) / f"{name}.json"
        command = [sys.executable, "-m", f"benchmarks.{name}", "--json", str(out), *(["--smoke"] if smoke else [])]
        code = subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode
        if code:
            raise ValueError(f"benchmarks.{name} ended with {code}; see python -m benchmarks.{name} --smoke")
        content: dict[str, Any] = json.loads(out.read_text())
    return content


def ratios(content: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """Every figure below a key `speedup` or `ratios`, named by where it stands."""
    if isinstance(content, dict):
        for key, value in content.items():
            here = f"{path}.{key}" if path else key
            if isinstance(value, int | float) and ("speedup" in here or "ratios" in here):
                yield here, float(value)
            else:
                yield from ratios(value, here)
    elif isinstance(content, list):
        for number, value in enumerate(content):
            yield from ratios(value, f"{path}[{number}]")


def compare(options: argparse.Namespace) -> None:
    """Run them all, and print each ratio beside the one on record."""
    records: dict[str, dict[str, dict[str, float]]] = json.loads(RECORD.read_text())
    known = records["smoke" if options.smoke else "whole"]  # a smoke's sizes are its own, and so are its ratios
    now: dict[str, dict[str, float]] = {}
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
    table = Table(title="Ratios against a rival in the same run", box=None)
    for column in ("benchmark", "ratio", "now", "on record", ""):
        table.add_column(column)
    names = [name for name in BENCHMARKS if not (options.smoke and name in NOT_IN_SMOKE)]
    for name in (*names, *(["dispatch"] if options.slurm else [])):
        started = time.perf_counter()
        found = now[name] = dict(ratios(run(name, options.smoke, options.keep)))
        for ratio, value in found.items():
            before = known.get(name, {}).get(ratio)
            fell = before is not None and value < FALL * before
            table.add_row(
                name, ratio, f"{value:.2f}", "" if before is None else f"{before:.2f}", "FELL" if fell else ""
            )
        print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
        if options.update:
            known[name] = {ratio: round(value, 3) for ratio, value in found.items()}
    if options.json:
        print(json.dumps(now))
    else:
        Console(width=None if sys.stdout.isatty() else 140).print(table)
    if options.update:
        RECORD.write_text(json.dumps(records, indent=2, sort_keys=True) + "\n")


def main() -> int:
    parser = Parser(prog="python -m benchmarks.all", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="seconds each, at small sizes")
    parser.add_argument("--slurm", action="store_true", help="the dispatcher on a real Slurm as well, minutes more")
    parser.add_argument("--update", action="store_true", help="write the ratios to the record")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave every benchmark's own JSON there")
    parser.add_argument("--json", action="store_true", help="the ratios as JSON on standard output")
    return run_command(parser, compare)


if __name__ == "__main__":
    sys.exit(main())
