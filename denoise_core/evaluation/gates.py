"""Gates as data: a rule, its verdict, and a judge that knows nothing of spectra.

A gate is a name; a rule says which metric of it is compared with which threshold, and why.
Silence refuses: a metric that is missing, not a number or infinite, a rule without a
threshold, a gate without a rule, and an empty list of gates never pass.

>>> rule = GateRule("aggregate", "psnr_mean", ">=", 18.0, "the seed's readiness gate 1")
>>> [result.passed for result in judge({"psnr_mean": 53.4}, [rule])]
[True]
>>> judge({}, [rule])[0].reason
'refused: psnr_mean is missing (the seed's readiness gate 1)'
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Comparison = Literal["<=", ">=", "<", ">", "=="]

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "==": operator.eq,
}


@dataclass(frozen=True)
class GateRule:
    """One comparison of a gate. A threshold of None is a rule that nobody finished: it refuses."""

    gate: str
    metric: str
    comparison: Comparison
    threshold: float | None
    reason: str


@dataclass(frozen=True)
class GateResult:
    """A rule's verdict. `value` is None where the metric was missing or not a finite number."""

    gate: str
    metric: str
    comparison: str
    threshold: float | None
    value: float | None
    passed: bool
    reason: str

    def record(self) -> dict[str, Any]:
        """JSON-ready, keys in the order of the fields."""
        return asdict(self)


def refused(gate: str, metric: str, why: str) -> GateResult:
    """A verdict of a check that could not be made: never passed."""
    return GateResult(gate, metric, "", None, None, False, f"refused: {why}")


def judge(
    metrics: Mapping[str, object], rules: Iterable[GateRule], *, required: Sequence[str] = ()
) -> tuple[GateResult, ...]:
    """Verdicts in the order of the rules; then one refusal for each required gate that has no rule.

    No rule and no required gate gives one refusal: an empty gate list never passes.
    """
    results = [_verdict(metrics, rule) for rule in rules]
    judged = {result.gate for result in results}
    results += [refused(gate, "", "the gate has no threshold") for gate in required if gate not in judged]
    return tuple(results) or (refused("", "", "the list of gates is empty"),)


def passed(results: Sequence[GateResult], *, gate: str | None = None) -> bool:
    """Whether every verdict (of one gate, if named) is a pass and there is at least one."""
    chosen = [result for result in results if gate is None or result.gate == gate]
    return bool(chosen) and all(result.passed for result in chosen)


def _verdict(metrics: Mapping[str, object], rule: GateRule) -> GateResult:
    value = _finite(metrics.get(rule.metric))
    if value is None:
        state = "is missing" if metrics.get(rule.metric) is None else "is not a finite number"
        return _result(rule, None, False, f"refused: {rule.metric} {state} ({rule.reason})")
    if rule.threshold is None or not math.isfinite(rule.threshold):
        return _result(rule, value, False, f"refused: {rule.metric} has no threshold ({rule.reason})")
    return _result(rule, value, _COMPARE[rule.comparison](value, rule.threshold), rule.reason)


def _result(rule: GateRule, value: float | None, verdict: bool, reason: str) -> GateResult:
    return GateResult(rule.gate, rule.metric, rule.comparison, rule.threshold, value, verdict, reason)


def _finite(value: object) -> float | None:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
