"""The dose and overlap study of ptychography: one deployment; its main job is one run of it at the mini size."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from deployments.tenancy import Asked, MainJob, Served, Step, Tenant


def steps(asked: Asked) -> Iterator[Step]:
    """One study; it simulates its own data."""
    yield Step("ptycho/study", dict(asked.plan))


def tell(folder: Path, console: Console) -> None:
    """The matrix of dose and view, and the verdict's sentence."""
    hub = folder / "hub"
    if (hub / "summary.md").exists():
        summary = (hub / "summary.md").read_text(encoding="utf-8")
        console.print(summary.partition("## Findings")[0].strip(), markup=False, highlight=False)
    if (hub / "verdict.json").exists():
        console.print(json.loads((hub / "verdict.json").read_text(encoding="utf-8"))["sentence"], markup=False)


TENANT = Tenant(
    name="ptycho",
    served=(Served("flows.ptycho.study:dose_overlap", "study"),),
    main=MainJob(steps, corpus=""),
    tell=tell,
    epochs="training.iterations",
    files=("report.html", "auditors_bundle.zip", "hub/summary.md", "audit.jsonl"),
)
