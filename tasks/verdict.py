"""What a gate decided, as any core reports it: the file format between a core and promotion.

A core's audit writes JSON with these fields; promotion, archive and triggers read nothing else, so they
know nothing of the science behind a metric.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from tasks.files import read_json

_WORDS = {">=": "≥", "<=": "≤", ">": "above", "<": "below"}  # a cell that begins with ">" is a quotation in markdown


class GateRecord(BaseModel):
    """One rule's outcome. `value` None means the metric was missing or not a number: refused."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    gate: str
    metric: str
    comparison: str
    threshold: float | None
    value: float | None
    passed: bool
    reason: str = ""


class Verdict(BaseModel):
    """All gates of one candidate on one panel. Silence refuses: no records, no pass."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    candidate: str = Field(description="Path of the checkpoint that was judged")
    candidate_sha256: str
    panel_sha256: str
    score: float | None = Field(None, description="Ranking score of the core; larger is better")
    gates: tuple[GateRecord, ...] = ()
    summary: str = Field("", description="Path of the core's own summary file")
    facts: dict[str, Any] = Field(default_factory=dict, description="Figures for people; never judged here")

    @property
    def passed(self) -> bool:
        return bool(self.gates) and all(record.passed for record in self.gates)

    @property
    def failed_gates(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(record.gate for record in self.gates if not record.passed))

    def sentence(self) -> str:
        """The verdict in a line."""
        if not self.gates:
            return "REFUSED: no gate was evaluated"
        if self.passed:
            return f"PASSED all {len({record.gate for record in self.gates})} gates"
        failures = [record for record in self.gates if not record.passed]
        named = ", ".join(
            f"{record.metric} {'missing' if record.value is None else f'{record.value:.6g}'} "
            f"(needs {record.comparison} {record.threshold})"
            for record in failures
        )
        return f"FAILED gate{'s' if len(self.failed_gates) > 1 else ''} {', '.join(self.failed_gates)}: {named}"

    def table(self) -> list[dict[str, Any]]:
        """Rows for an artifact or a terminal, in the order of the gates."""
        return [
            {
                "verdict": "pass" if record.passed else "FAIL",
                "gate": record.gate,
                "metric": record.metric,
                "value": record.value,
                "needs": f"{_WORDS.get(record.comparison, record.comparison)} {record.threshold}",
                "reason": record.reason,
            }
            for record in self.gates
        ]


def read_verdict(path: Path) -> Verdict:
    return Verdict.model_validate(read_json(path))


def from_records(records: list[Mapping[str, Any]], **fields: Any) -> Verdict:
    return Verdict(gates=tuple(GateRecord.model_validate(record) for record in records), **fields)
