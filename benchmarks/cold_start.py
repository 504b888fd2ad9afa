"""`make run` from nothing, by phase: corpus, server, deployments, fold 02, warm start; then once more on what it left.

    OMP_NUM_THREADS=1 python -m benchmarks.cold_start [--smoke] [--json FILE]

Wall seconds, since most of it is processes that start and wait. Rival: the same science without the house, fold 02 and
the warm start trained, applied and judged by `python -m denoise_core` in a shell. Installing is `make`'s and not in it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.harness import parser, report

ROOT = Path(__file__).resolve().parent.parent
PHASES = (  # (what a line of the terminal shows, the phase that it ends)
    (r"^UI: ", "server and deployments"),
    (r"train-fold_02\s+Completed", "fold 02: start and training"),
    (r"denoise-fold_02\s+Completed", "fold 02: denoising"),
    (r"evaluate-fold_02\s+Completed", "fold 02: scores"),
    (r"^act-of-god/warm-start ", "fold 02: review, end of its run"),
    (r"verify panel\s+Completed", "warm start: start"),
    (r"train-god_run\s+Completed", "warm start: training"),
    (r"audit-panel\s+Completed", "warm start: audit"),
    (r"warm-start\S*\s+Completed", "warm start: report, bundle, shipping"),
)


def timed(command: list[str], env: dict[str, str]) -> tuple[dict[str, float], float]:
    """Seconds of every phase seen in the output, and of the whole command; CalledProcessError when it fails."""
    began = last = time.perf_counter()
    found: dict[str, float] = {}
    process = subprocess.Popen(command, env=env, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        now = time.perf_counter()
        name = next((phase for pattern, phase in PHASES if re.search(pattern, line) and phase not in found), None)
        if name:
            found[name], last = now - last, now
    if code := process.wait():
        raise subprocess.CalledProcessError(code, command)
    found["stopping"] = time.perf_counter() - last
    return found, time.perf_counter() - began


def by_hand(corpus: Path, folder: Path, env: dict[str, str]) -> float:
    """Seconds of the main job's science alone: no server, no jobs, no log, no report."""

    def core(*arguments: object) -> str:
        command = [sys.executable, "-m", "denoise_core", *map(str, arguments)]
        done = subprocess.run(command, env=env, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
        return done.stdout

    given = ("--corpus", corpus)
    panel = corpus / "validation_panel.csv"
    began = time.perf_counter()
    core("folds", *given, "--out", folder)
    splits = {name: folder / "fold_02" / f"{name}_manifest.csv" for name in ("train", "val", "test")}
    named = ("--train-manifest", splits["train"], "--val-manifest", splits["val"])
    fold = json.loads(core("train", *given, "--plan", "track_h_mini", *named, "--out", folder / "fold", "--json"))
    for name, manifest in splits.items():
        where = ("--manifest", manifest, "--checkpoint", fold["checkpoint"], "--out", folder / name)
        core("denoise", *given, *where, "--layout", "packed")
    warm = ("--plan", "act_of_god_mini", "--init-checkpoint", fold["checkpoint"])
    god = json.loads(core("train", *given, *warm, "--out", folder / "god", "--json"))
    core("denoise", *given, "--manifest", panel, "--checkpoint", god["checkpoint"], "--out", folder / "panel")
    core("evaluate", *given, "--panel", panel, "--predictions", folder / "panel", "--out", folder / "audit")
    return time.perf_counter() - began


def run(*, smoke: bool = False) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        env = {
            **os.environ,
            "PREFECT_HOME": str(folder / "prefect"),
            "GATED_ARTIFACTS": str(folder / "artifacts"),
            "GATED_PORT": "0",
        }
        corpus = folder / "corpus"
        make = [sys.executable, "-m", "denoise_core", "corpus", "--out", str(corpus), "--size", "mini", "--seed", "1"]
        began = time.perf_counter()
        subprocess.run(make, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        corpus_s = time.perf_counter() - began
        house = [sys.executable, "-m", "tasks.cli", "run", "--corpus", str(corpus)]
        cold, cold_s = timed(house, env)
        if missing := [phase for _, phase in PHASES if phase not in cold]:
            raise RuntimeError(f"no line of the terminal ended {', '.join(missing)}; see PHASES")
        found = {"benchmark": "cold_start", "corpus_s": corpus_s, "cold": cold, "cold_s": cold_s}
        if not smoke:
            warm, warm_s = timed(house, env)
            alone_s = by_hand(corpus, folder / "by_hand", env)
            found |= {"again": warm, "again_s": warm_s, "science_alone_s": alone_s}
            found["ratios"] = {"science alone over the main job": alone_s / cold_s, "cold over again": cold_s / warm_s}
    return found


def main() -> None:
    line = parser(__doc__, "from nothing only")
    options = line.parse_args()
    report(run(smoke=options.smoke), options)


if __name__ == "__main__":
    main()
