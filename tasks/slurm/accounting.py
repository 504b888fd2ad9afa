"""One row a job: elapsed, queue wait, CPU, memory and GPU use, GPU-hours, energy; and the table of all rows as CSV.

The node's own records come first (they exist without slurmdbd); Slurm's accounting fills in what a killed job could
not write. Times are seconds, memory is MB (2^20 bytes), efficiencies are shares of what was asked for.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tasks.slurm import files
from tasks.slurm.entries import Entry
from tasks.slurm.resources import Resources
from tasks.slurm.states import Row

COLUMNS = (
    "job",
    "key",
    "stage",
    "state",
    "cause",
    "attempts",
    "starts",
    "slurm_ids",
    "nodes",
    "submitted",
    "queue_wait_s",
    "elapsed_s",
    "cpus",
    "cpu_s",
    "cpu_efficiency",
    "memory_requested_mb",
    "memory_peak_mb",
    "memory_efficiency",
    "gpus",
    "gpu_utilisation",
    "gpu_memory_peak_mb",
    "gpu_hours",
    "gpu_energy_wh",
    "remedies",
)
_MB = float(1 << 20)


def row_of(
    entry: Entry,
    section: Resources,
    starts: list[dict[str, Any]],
    last_usage: Mapping[str, Any] | None,
    slurm_ids: Iterable[str],
    history: Iterable[Row] = (),
) -> dict[str, Any]:
    """The row of an ended job, over all starts since a person last asked for it."""
    numbers = {attempt.number for attempt in entry.round()}
    own = [line for line in starts if line["attempt"] in numbers]
    begun = [line for line in own if line["event"] == "start"]
    runs = [line["usage"] for line in own if line.get("usage")]
    if last_usage and not any(run["started"] == last_usage["started"] for run in runs):
        runs.append(dict(last_usage))  # a killed run: its last sample
    rows = list(history)
    asked, gpus = entry.attempt.memory_bytes or section.memory_bytes, section.gpus * section.nodes
    submitted = entry.round()[0].created
    elapsed = sum(run["elapsed_seconds"] for run in runs) or sum(
        row.ended - row.started for row in rows if row.ended and row.started
    )
    cpu = sum(run["cpu_seconds"] for run in runs) or sum(row.cpu_seconds or 0.0 for row in rows)
    peak = max([run["max_rss_bytes"] for run in runs] + [row.max_rss_bytes or 0 for row in rows], default=0)
    first = min([line["at"] for line in begun] + [row.started for row in rows if row.started], default=None)
    return {
        "job": entry.spec["name"],
        "key": entry.key,
        "stage": entry.spec["stage"],
        "state": entry.state,
        "cause": entry.cause,
        "attempts": len(numbers),
        "starts": len(begun),
        "slurm_ids": " ".join(slurm_ids),
        "nodes": " ".join(sorted({line["node"] for line in begun} | {row.node for row in rows if row.node})),
        "submitted": submitted,
        "queue_wait_s": _rounded(max(0.0, first - submitted) if first is not None else None),
        "elapsed_s": _rounded(elapsed),
        "cpus": section.cpus,
        "cpu_s": _rounded(cpu),
        "cpu_efficiency": _rounded(cpu / (elapsed * section.cpus) if elapsed else None),
        "memory_requested_mb": _rounded(asked / _MB if asked else None),
        "memory_peak_mb": _rounded(peak / _MB if peak else None),
        "memory_efficiency": _rounded(peak / asked if peak and asked else None),
        "gpus": gpus,
        "gpu_utilisation": _rounded(_mean_gpu(runs)),
        "gpu_memory_peak_mb": _rounded(_peak_gpu(runs)),
        "gpu_hours": _rounded(elapsed * gpus / 3600),
        "gpu_energy_wh": _rounded(_energy_wh(runs)),
        "remedies": "; ".join(attempt.remedy for attempt in entry.round() if attempt.remedy),
    }


def _mean_gpu(runs: list[dict[str, Any]]) -> float | None:
    """Mean over all samples of all runs, as a share."""
    samples = sum(run["gpu_samples"] for run in runs if run["gpu_utilisation"] is not None)
    total = sum(run["gpu_samples"] * run["gpu_utilisation"] for run in runs if run["gpu_utilisation"] is not None)
    return total / samples / 100 if samples else None


def _peak_gpu(runs: list[dict[str, Any]]) -> float | None:
    peaks = [run["gpu_memory_bytes"] for run in runs if run["gpu_memory_bytes"]]
    return max(peaks) / _MB if peaks else None


def _energy_wh(runs: list[dict[str, Any]]) -> float | None:
    """By the GPUs' own counters; None where one run's GPUs have none."""
    joules = [run.get("gpu_energy_joules") for run in runs]
    known = [one for one in joules if one is not None]
    return sum(known) / 3600 if known and len(known) == len(joules) else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def write_csv(rows: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Write the rows of many jobs as one table."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    files.make_folder(path.parent)
    files.write_bytes(path, stream.getvalue().encode(), mode=files.SHARED_FILE)
