"""The study's gates: rules for every cell that should be there, and the verdict over their numbers.

A rule names its cell, so that a cell that was lost is refused by name; a cell that was skipped for its spacing has no
rule. Where pty-chi could not be used at all, the rules against it say nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ptycho_core.comparison import FLAT, GS1, LSQML, PINN
from ptycho_core.design import ALL, StudyDesign
from ptycho_core.evaluation.cells import Cell, cell_measures, study_measures, training_measures
from ptycho_core.evaluation.thresholds import GATES, CellFloor, StudyThresholds, thresholds_for
from study_core.gates import Comparison, GateRecord, GateRule, Measure, judge, passed
from study_core.plan import Frozen
from study_core.verdict import changed_thresholds, under


class StudyVerdict(Frozen):
    """Every record, and what follows from them."""

    design_sha256: str
    thresholds: StudyThresholds
    gates: tuple[GateRecord, ...]
    cells: tuple[str, ...]
    """`<dose>/<view>` of every cell of the study, in order."""
    lost: tuple[str, ...]
    """Cells that should have been compared and were not, each refused by the gate of integrity."""
    changed_thresholds: tuple[str, ...] = ()
    """Thresholds that are not those measured for this design, in words."""

    @property
    def passed(self) -> bool:
        return passed(self.gates)

    @property
    def failed_cells(self) -> tuple[str, ...]:
        """`<dose>/<view>` of every refused rule, in order."""
        refused = [one.slice for one in self.gates if not one.passed and "view" in one.slice]
        names = dict.fromkeys(f"{where['dose']}/{where['view']}" for where in refused)
        return tuple(name for name in self.cells if name in names)

    def sentence(self) -> str:
        """The verdict in one line, with the cells."""
        failed = [record for record in self.gates if not record.passed]
        if self.passed:
            gates = f"{len({record.gate for record in self.gates})} gates in {len(self.gates)} rules"
            return f"PASSED all {gates}{under(self.changed_thresholds)}"
        gates = ", ".join(dict.fromkeys(record.gate or "gates" for record in failed))
        parts = (
            [f"FAILED {gates}" + (f" in {', '.join(self.failed_cells)}" if self.failed_cells else "")] if failed else []
        )
        parts += [f"not compared: {', '.join(self.lost)}"] if self.lost else []
        return "; ".join(parts) + under(self.changed_thresholds)

    def record(self) -> dict[str, Any]:
        """JSON-ready, what verdict.json holds."""
        return {
            "passed": self.passed, "sentence": self.sentence(), "design_sha256": self.design_sha256,
            "thresholds": self.thresholds.model_dump(mode="json"),
            "changed_thresholds": list(self.changed_thresholds), "lost": list(self.lost),
            "failed_cells": list(self.failed_cells),
            "gates": [record.record() for record in self.gates],
        }  # fmt: skip


@dataclass(frozen=True)
class Evidence:
    """What a verdict is made of: the cells, the jobs of the training manifest and of the golden one (if any)."""

    cells: Sequence[Cell]
    training: Sequence[Mapping[str, Any]] = ()
    reference: Sequence[Mapping[str, Any]] = ()

    @property
    def has_lsqml(self) -> bool:
        """Whether pty-chi could be used; a reconstruction that is missing for another reason is refused."""
        rows = [row for cell in self.cells for row in cell.rows(LSQML)]
        return any(row["status"] != "missing" or not str(row["reason"]).startswith("pty-chi") for row in rows)


def judge_study(design: StudyDesign, evidence: Evidence, thresholds: StudyThresholds) -> StudyVerdict:
    """Judge the numbers; milliseconds, so that other thresholds need no job again."""
    arms, trained = cell_measures(evidence.cells), training_measures(evidence.training)
    measures = [Measure(f"{arm} {one.metric}", one.value, one.slice) for arm, rows in arms.items() for one in rows]
    baselines: dict[str, list[Measure]] = {
        arm: [Measure(f"{PINN} {one.metric}", one.value, one.slice) for one in arms.get(arm, [])]
        for arm in (FLAT, LSQML, GS1)
    }
    baselines[FLAT] += [
        Measure("deviance_ratio_test", one.value, one.slice) for one in trained if one.metric == "deviance_ratio_flat"
    ]
    if evidence.reference:
        baselines["reference"] = training_measures(evidence.reference)
    records = judge(
        [*measures, *trained, *study_measures(evidence.cells)], [*rules_for(design, evidence, thresholds)],
        required=_required(evidence), baselines=baselines,
    )  # fmt: skip
    lost = tuple(cell.key for cell in evidence.cells if cell.state == "lost")
    return StudyVerdict(
        design_sha256=design.sha256(),
        thresholds=thresholds,
        gates=records,
        cells=tuple(cell.key for cell in evidence.cells),
        lost=lost,
        changed_thresholds=changed_thresholds(thresholds, thresholds_for(design)),
    )


def _required(evidence: Evidence) -> list[str]:
    """Gates that a study with a cell in a view may not be without."""
    optional = {"regression", "overlap matters"}
    optional |= set() if evidence.has_lsqml else {"against LSQML", "LSQML sane"}
    if all(cell.state == "skipped" for cell in evidence.cells if cell.view != ALL):
        optional |= {"quality", "chance", "against LSQML", "LSQML sane"}
    if len({cell.dose for cell in evidence.cells}) < 2:
        optional.add("LSQML sane")
    return [gate for gate in GATES if gate not in optional]


def rules_for(design: StudyDesign, evidence: Evidence, t: StudyThresholds) -> Iterable[GateRule]:
    """Every rule, gate by gate. A cell that was lost has one, which refuses; a cell that was skipped has none."""
    for cell in evidence.cells:
        if cell.state != "skipped":
            yield GateRule("integrity", "compared", "==", 1, "Every cell that has patterns is compared", cell.slice)
    cells = [cell for cell in evidence.cells if cell.state == "compared"]
    grouped = [cell for cell in cells if cell.view != ALL]
    for cell in cells:
        yield GateRule("integrity", "shared_pixels", "==", 0, "No pixel is in both halves", cell.slice)
        present = [row["arm"] for row in cell.record.get("arms", []) if row["status"] != "missing"]
        for arm in dict.fromkeys([PINN if cell.view != ALL else GS1, *present]):
            if arm != FLAT:
                yield _rule("integrity", cell, f"{arm} shift", "<=", "shift_px_max", t.shift_px_max)
    for cell in cells:
        yield from _loss_rules(design, cell, t)
    similarity = f"{PINN} ph_ms_ssim"
    for cell in grouped:
        floor = t.floor(cell.dose, cell.view).ph_ms_ssim_min
        yield _rule("quality", cell, similarity, ">=", "ph_ms_ssim_min", floor)
        yield _rule("quality", cell, similarity, ">=", "over_flat_min", t.over_flat_min, against=FLAT)
    for cell in grouped:
        yield _rule("chance", cell, f"{PINN}_over_rolled", ">=", "over_rolled_min", t.over_rolled_min)
    if evidence.has_lsqml:
        for cell in grouped:
            yield _rule("against LSQML", cell, similarity, ">=", "over_lsqml_min", t.over_lsqml_min, against=LSQML)
        yield from _lsqml_rules(cells, t)
    densest = max(design.views, key=lambda view: design.views[view])
    for cell in grouped:
        if cell.view == densest and cell.dose in t.grouping_judged_at and 1 in design.gridsizes:
            yield _rule("overlap matters", cell, similarity, ">=", "grouping_min", t.grouping_min, against=GS1)
    for cell in cells:
        yield _rule("regression", cell, "deviance_ratio_test", "<=", "regression_max", t.regression_max,
                    against="reference", **_gs(design, cell))  # fmt: skip


def _rule(
    gate: str, cell: Cell, metric: str, comparison: Comparison, name: str, value: float | None, *,
    against: str = "", **more: str,
) -> GateRule:  # fmt: skip
    """A rule on a cell; its reason is the description of the threshold's field."""
    field = StudyThresholds.model_fields.get(name) or CellFloor.model_fields[name]
    return GateRule(gate, metric, comparison, value, str(field.description), {**cell.slice, **more}, against=against)


def _gs(design: StudyDesign, cell: Cell) -> dict[str, str]:
    return {"gridsize": str(max(design.gridsizes) if cell.view != ALL else 1)}


def _loss_rules(design: StudyDesign, cell: Cell, t: StudyThresholds) -> Iterable[GateRule]:
    gs = _gs(design, cell)
    if cell.view != ALL:
        most = t.floor(cell.dose, cell.view).deviance_ratio_max
        yield _rule("loss", cell, "deviance_ratio_test", "<=", "deviance_ratio_max", most, **gs)
    yield _rule("loss", cell, "deviance_ratio_patch", ">=", "patch_ratio_min", t.patch_ratio_min, **gs)
    reason = "It explains more than a flat object does"
    yield GateRule("loss", "deviance_ratio_test", "<", 0, reason, {**cell.slice, **gs}, against=FLAT)


def _lsqml_rules(cells: Sequence[Cell], t: StudyThresholds) -> Iterable[GateRule]:
    for cell in cells:
        if cell.view == "dense" and cell.dose == t.lsqml_judged_at:
            low, high = t.lsqml_amplitude
            yield _rule("LSQML sane", cell, f"{LSQML} ph_ms_ssim", ">=", "lsqml_min", t.lsqml_min)
            yield _rule("LSQML sane", cell, f"{LSQML} amplitude_ratio", ">=", "lsqml_amplitude", low)
            yield _rule("LSQML sane", cell, f"{LSQML} amplitude_ratio", "<=", "lsqml_amplitude", high)
    for cell in cells:
        if any(other.view == cell.view and other.dose < cell.dose for other in cells):
            yield _rule("LSQML sane", cell, "lsqml_gain_over_lower_dose", ">=", "lsqml_over_lower_dose_min",
                        t.lsqml_over_lower_dose_min)  # fmt: skip
