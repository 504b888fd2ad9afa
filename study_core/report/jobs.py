"""What the jobs behind a verdict took, for the page of any study: the table `jobs.csv` of a run's folder."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from study_core.report.blocks import Table

_NONE = "–"
COLUMNS = {
    "job": "job",
    "state": "state",
    "slurm_ids": "job id",
    "nodes": "node",
    "queue_wait_s": "wait (s)",
    "elapsed_s": "elapsed (s)",
    "cpu_efficiency": "CPU used",
    "memory_efficiency": "memory used",
    "gpu_utilisation": "GPU used",
    "gpu_hours": "GPU-hours",
    "gpu_energy_wh": "energy (Wh)",
    "attempts": "attempts",
    "remedies": "remedies",
}
SUMMED = {"queue_wait_s": "s of waiting", "gpu_hours": "GPU-hours", "gpu_energy_wh": "Wh on the GPUs"}


def read_jobs(path: Path) -> list[dict[str, str]]:
    """Rows of a run's `jobs.csv`, a row a job; none where there is no such file, or nothing in it."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        return [row for row in csv.DictReader(stream) if row.get("job")]


def jobs_table(rows: Sequence[Mapping[str, Any]]) -> Table | None:
    """One row a cluster job with its efficiency, and what the verdict cost in all; None without jobs."""
    if not rows:
        return None
    known = [column for column in COLUMNS if column in rows[0]]
    return Table(
        "Jobs and their efficiency",
        tuple(COLUMNS[column] for column in known),
        tuple(tuple(_cell(column, row[column]) for column in known) for row in rows),
        tuple("pass" if row["state"] == "done" else "fail" for row in rows) if "state" in known else (),
        note=f"Used: share of what was asked for. {_NONE}: not measured there. {_sums(rows)}",
        text_columns=sum(column in known for column in ("job", "state", "slurm_ids", "nodes")),
        last_is_text="remedies" in known,
    )


def _sums(rows: Sequence[Mapping[str, Any]]) -> str:
    """Waiting, GPU-hours, and energy: each where every job told it."""
    told = [
        f"{sum(float(row[name]) for row in rows):.6g} {words}"
        for name, words in SUMMED.items()
        if not any(_missing(row.get(name)) for row in rows)
    ]
    return f"In all {', '.join(told)}." if told else ""


def _missing(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _cell(column: str, value: Any) -> str:
    if _missing(value):
        return _NONE
    if column.endswith(("efficiency", "utilisation")):
        return f"{100 * float(value):.0f} %"
    return f"{float(value):.1f}" if column.endswith("_s") else str(value)
