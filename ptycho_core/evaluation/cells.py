"""The cells of a study as what was found of them: compared, skipped with a reason, or lost; and their numbers.

A cell is a dose and a view. Numbers come from the comparison's rows (`metrics.json`) and from the training manifest;
where a cell was trained with several seeds, a number is their mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import fmean, stdev
from typing import Any, Literal

from ptycho_core.comparison import GS1, LSQML, PINN
from ptycho_core.design import ALL, StudyDesign
from study_core.gates import Measure, Slice

State = Literal["compared", "skipped", "lost"]


@dataclass(frozen=True)
class Cell:
    """One cell. `record` is its metrics.json; `reason` says why there is none."""

    dose: float
    view: str
    state: State
    reason: str = ""
    record: Mapping[str, Any] = field(default_factory=dict)

    @property
    def slice(self) -> dict[str, str]:
        return cell_slice(self.dose, self.view)

    @property
    def key(self) -> str:
        """`<dose>/<view>`, as thresholds and verdicts name it."""
        return f"{int(self.dose)}/{self.view}"

    @property
    def name(self) -> str:
        return f"dose {self.dose:g} {self.view}"

    def rows(self, arm: str) -> list[Mapping[str, Any]]:
        """The arm's rows, one a seed."""
        return [row for row in self.record.get("arms", []) if row["arm"] == arm]

    def values(self, arm: str, metric: str) -> list[float]:
        """The number of every row that succeeded and has it."""
        found = [row["numbers"].get(metric) for row in self.rows(arm) if row["status"] == "success"]
        return [value for value in found if value is not None]

    def mean(self, arm: str, metric: str) -> float | None:
        """Over the seeds; None where any seed of the arm lacks it, so that a failed one is not averaged away."""
        rows, values = self.rows(arm), self.values(arm, metric)
        return fmean(values) if values and len(values) == len(rows) else None

    def spread(self, arm: str, metric: str) -> float | None:
        """Standard deviation over the seeds, None for fewer than two."""
        values = self.values(arm, metric)
        return stdev(values) if len(values) > 1 else None

    def difference(self, one: str, other: str, metric: str = "ph_ms_ssim") -> float | None:
        """The first arm's mean minus the second's."""
        first, second = self.mean(one, metric), self.mean(other, metric)
        return None if first is None or second is None else first - second


def cell_slice(dose: float, view: str) -> dict[str, str]:
    """A cell's slice of a measure."""
    return {"dose": str(int(dose)), "view": view}


def cells_of(
    design: StudyDesign, records: Iterable[Mapping[str, Any]], skips: Iterable[Mapping[str, Any]],
    lost: Mapping[tuple[float, str], str] | None = None,
) -> list[Cell]:  # fmt: skip
    """Every cell of the design, by dose, all positions first. `records` are metrics.json contents, `skips` records of
    views without data, `lost` reasons of comparisons that failed."""
    found = {(record["dose"], record["view"]): record for record in records}
    skipped = {(skip["dose"], skip["view"]): str(skip["reason"]) for skip in skips}
    cells = []
    for dose in design.doses:
        for view in (ALL, *design.views):
            key = (dose, view)
            if key in skipped:
                cells.append(Cell(dose, view, "skipped", skipped[key]))
            elif key in found:
                cells.append(Cell(dose, view, "compared", record=found[key]))
            else:
                cells.append(Cell(dose, view, "lost", (lost or {}).get(key, "was not compared")))
    return cells


def cell_measures(cells: Sequence[Cell]) -> dict[str, list[Measure]]:
    """Measures of every arm, by arm: its means by metric, on the slice of the cell."""
    table: dict[str, list[Measure]] = {}
    for cell in cells:
        for arm in dict.fromkeys(row["arm"] for row in cell.record.get("arms", [])):
            names = dict.fromkeys(name for row in cell.rows(arm) for name in row["numbers"])
            table.setdefault(arm, []).extend(
                Measure(name, cell.mean(arm, name), cell.slice) for name in names
            )  # fmt: skip
    return table


def study_measures(cells: Sequence[Cell]) -> list[Measure]:
    """What the gates look at beside the arms' own numbers: leaks, and LSQML from dose to dose."""
    measures = []
    for cell in cells:
        if cell.state == "compared":
            measures.append(Measure("compared", 1, cell.slice))
            measures.append(Measure("shared_pixels", cell.record["shared_pixels"], cell.slice))
    by_view: dict[str, list[Cell]] = {}
    for cell in cells:
        if cell.state != "skipped":
            by_view.setdefault(cell.view, []).append(cell)
    for group in by_view.values():
        ordered = sorted(group, key=lambda cell: cell.dose)
        for lower, higher in pairwise(ordered):
            values = lower.mean(LSQML, "ph_ms_ssim"), higher.mean(LSQML, "ph_ms_ssim")
            gain = None if None in values else values[1] - values[0]  # type: ignore[operator]
            measures.append(Measure("lsqml_gain_over_lower_dose", gain, higher.slice))
    for cell in cells:
        for arm in (PINN, GS1):
            over = _over_rolled(cell, arm)
            if cell.rows(arm):
                measures.append(Measure(f"{arm}_over_rolled", over, cell.slice))
    return measures


def _over_rolled(cell: Cell, arm: str) -> float | None:
    here, aside = cell.mean(arm, "ph_ms_ssim"), cell.mean(arm, "rolled_ph_ms_ssim")
    return None if here is None or aside is None else here - aside


def training_measures(jobs: Iterable[Mapping[str, Any]]) -> list[Measure]:
    """Ratios of every physics-informed training of a manifest, means over seeds, on the slice of its cell and gs."""
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for job in jobs:
        if job["arm"] == "pinn":
            key = (str(int(job["dose"])), str(job["view"]), str(job["gridsize"]))
            groups.setdefault(key, []).append(job["result"])
    measures = []
    for (dose, view, gridsize), results in groups.items():
        where: Slice = {"dose": dose, "view": view, "gridsize": gridsize}
        for name in ("final_loss", "deviance_ratio_test", "deviance_ratio_patch", "deviance_ratio_flat"):
            values = [result.get(name) if result.get("status") == "success" else None for result in results]
            measures.append(Measure(name, None if None in values else fmean(values), where))  # type: ignore[arg-type]
    return measures
