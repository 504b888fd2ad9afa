"""Gates as data: a rule, its verdict, and a judge that knows nothing of any science.

A gate is a name; a rule says which measured number of it is compared with which threshold, on which slice (one group,
one stratum, one dose), absolutely or against a baseline, and why. Silence refuses: a number that is missing, not
finite, a rule without a threshold, a gate without a rule, and an empty list of gates never pass.

>>> rule = GateRule("aggregate", "psnr_mean", ">=", 18.0, "the seed's readiness gate 1")
>>> [record.passed for record in judge({"psnr_mean": 53.4}, [rule])]
[True]
>>> judge({}, [rule])[0].reason
"refused: psnr_mean is missing (the seed's readiness gate 1)"
>>> tail = GateRule("tail", "psnr", ">", 14.0, "no group unusable", each="group")
>>> rows = [Measure("psnr", 53.0, {"group": "T1"}), Measure("psnr", 9.0, {"group": "T2"})]
>>> [(record.slice, record.passed) for record in judge(rows, [tail])]
[({'group': 'T1'}, True), ({'group': 'T2'}, False)]
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Comparison = Literal["<=", ">=", "<", ">", "=="]
Slice = Mapping[str, str]

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "==": operator.eq,
}
_WORDS = {
    ">=": "≥",
    "<=": "≤",
    ">": "above",
    "<": "below",
    "==": "=",
}  # a cell that begins with ">" is a quotation in markdown


class Measure(BaseModel):
    """One measured number: its name, the slice it was measured on, and its value (None: could not be measured)."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")
    metric: str
    value: float | None
    slice: dict[str, str] = Field(default_factory=dict)

    def __init__(self, metric: str, value: float | None, slice: Slice | None = None) -> None:
        super().__init__(metric=metric, value=value, slice=dict(slice or {}))


Measures = Mapping[str, object] | Sequence[Measure]


@dataclass(frozen=True)
class GateRule:
    """One comparison of a gate. A threshold of None is a rule that nobody finished: it refuses.

    `slice` picks one slice; `each` names a key of the slices, and the rule holds for each of its values. `against`
    names a baseline (such as the model in production): the difference to it is compared, so that the threshold is a
    margin. `vacuous` says why the rule cannot fail on these data; such a rule is shown and never counts as a pass.
    """

    gate: str
    metric: str
    comparison: Comparison
    threshold: float | None
    reason: str
    slice: Slice = field(default_factory=dict)
    each: str = ""
    against: str = ""
    vacuous: str = ""


class GateRecord(BaseModel):
    """A rule's outcome. `value` is None where the number was missing or not finite: refused."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    gate: str
    metric: str
    comparison: str
    threshold: float | None
    value: float | None
    passed: bool
    reason: str = ""
    slice: dict[str, str] = Field(default_factory=dict)
    against: str = ""
    vacuous: str = ""

    @property
    def where(self) -> str:
        """The slice and the baseline in a word or two, empty for the whole."""
        parts = [", ".join(f"{key} {value}" for key, value in self.slice.items())]
        parts += [f"over {self.against}"] if self.against else []
        return " ".join(part for part in parts if part)

    @property
    def name(self) -> str:
        """What was compared, for a sentence: the metric, with its slice."""
        return f"{self.metric} [{self.where}]" if self.where else self.metric

    @property
    def state(self) -> str:
        """pass, FAIL or vacuous."""
        return "FAIL" if not self.passed else "vacuous" if self.vacuous else "pass"

    @property
    def needs(self) -> str:
        """The comparison and its threshold, for a cell of a table; empty where nothing was compared."""
        if not self.comparison or self.threshold is None:
            return ""
        return f"{_WORDS.get(self.comparison, self.comparison)} {self.threshold}"

    def record(self) -> dict[str, Any]:
        """JSON-ready, keys in the order of the fields; slice, baseline and vacuity only where there is one."""
        return {
            name: value
            for name, value in self.model_dump(mode="json").items()
            if value or name not in ("slice", "against", "vacuous")
        }


def refused(gate: str, metric: str, why: str) -> GateRecord:
    """The record of a check that could not be made: never passed."""
    return GateRecord(
        gate=gate, metric=metric, comparison="", threshold=None, value=None, passed=False, reason=f"refused: {why}"
    )


def judge(
    measures: Measures,
    rules: Iterable[GateRule],
    *,
    required: Sequence[str] = (),
    baselines: Mapping[str, Measures] | None = None,
    expected: Mapping[str, Collection[str]] | None = None,
) -> tuple[GateRecord, ...]:
    """Records in the order of the rules; then one refusal for each required gate that has no rule.

    `expected` names the values that a key of the slices must have: a rule for `each` of them refuses for one that was
    not measured.

    No rule and no required gate gives one refusal: an empty gate list never passes. A rule `against` a baseline that
    is not there compares nothing and leaves no record: there is nothing to be worse than.
    """
    table = _Table(measures)
    known = {name: _Table(rows) for name, rows in (baselines or {}).items()}
    records: list[GateRecord] = []
    judged = set()
    for rule in rules:
        if rule.against and rule.against not in known:
            continue
        judged.add(rule.gate)
        slices = table.slices(rule) if rule.each else [dict(rule.slice)]
        if not slices:
            records.append(refused(rule.gate, rule.metric, f"no {rule.each} was measured ({rule.reason})"))
        records += [_record(table, known.get(rule.against), rule, where) for where in slices]
        absent = set((expected or {}).get(rule.each, ())) - {where[rule.each] for where in slices} if rule.each else ()
        records += [refused(rule.gate, rule.metric, f"{rule.each} {name} was not measured") for name in sorted(absent)]
    records += [refused(gate, "", "the gate has no threshold") for gate in required if gate not in judged]
    return tuple(records) or (refused("", "", "the list of gates is empty"),)


def passed(records: Sequence[GateRecord], *, gate: str | None = None) -> bool:
    """Whether no record (of one gate, if named) failed and at least one could have."""
    chosen = [record for record in records if gate is None or record.gate == gate]
    return all(record.passed for record in chosen) and any(not record.vacuous for record in chosen)


class _Table:
    """Measured numbers by name and slice."""

    def __init__(self, measures: Measures) -> None:
        rows: Iterable[tuple[str, Slice, object]] = (
            ((name, {}, value) for name, value in measures.items())
            if isinstance(measures, Mapping)
            else ((row.metric, row.slice, row.value) for row in measures)
        )
        self._values = {(name, _key(where)): value for name, where, value in rows}

    def slices(self, rule: GateRule) -> list[dict[str, str]]:
        """The slices in which a rule's metric was measured: those that have its `each` key and agree with its slice."""
        found = (dict(where) for name, where in self._values if name == rule.metric)
        return [one for one in found if rule.each in one and rule.slice.items() <= one.items()]

    def value(self, metric: str, where: Slice) -> object:
        return self._values.get((metric, _key(where)))


def _key(where: Slice) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(where.items()))


def _record(table: _Table, baseline: _Table | None, rule: GateRule, where: dict[str, str]) -> GateRecord:
    def said(value: float | None, verdict: bool, reason: str) -> GateRecord:
        return GateRecord(
            gate=rule.gate, metric=rule.metric, comparison=rule.comparison, threshold=rule.threshold, value=value,
            passed=verdict, reason=reason, slice=where, against=rule.against, vacuous=rule.vacuous,
        )  # fmt: skip

    raw = table.value(rule.metric, where)
    value = _finite(raw)
    if value is not None and baseline is not None:
        before = _finite(raw := baseline.value(rule.metric, where))
        value = None if before is None else value - before
    if value is None:
        state = "is missing" if raw is None else "is not a finite number"
        return said(None, False, f"refused: {rule.metric} {state} ({rule.reason})")
    if rule.threshold is None or not math.isfinite(rule.threshold):
        return said(value, False, f"refused: {rule.metric} has no threshold ({rule.reason})")
    return said(value, _COMPARE[rule.comparison](value, rule.threshold), rule.reason)


def _finite(value: object) -> float | None:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
