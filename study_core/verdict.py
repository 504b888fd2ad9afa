"""What the gates decided about one candidate: the file format between a study and promotion, archive and triggers.

They read nothing else, so they know nothing of the science behind a metric.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from study_core.files import read_json
from study_core.gates import GateRecord, passed
from study_core.plan import difference

MOST_NAMED = 3  # changed thresholds in the verdict's sentence; all of them stand in its record


def changed_thresholds(used: BaseModel, standard: BaseModel) -> tuple[str, ...]:
    """Each threshold that differs from the study's own: `psnr_mean_min 60 (standard 18)`."""
    return tuple(f"{name} {now} (standard {own})" for name, (own, now) in difference(standard, used).items())


def under(changed: Sequence[str]) -> str:
    """The end of a verdict's sentence that names changed thresholds, the first few of them; empty where none is."""
    return f"; under changed thresholds: {few(changed)}" if changed else ""


def few(changed: Sequence[str]) -> str:
    """The first few of changed thresholds, and how many there are beside them."""
    more = f" and {len(changed) - MOST_NAMED} more" if len(changed) > MOST_NAMED else ""
    return f"{', '.join(changed[:MOST_NAMED])}{more}"


PRODUCTION = "production"
"""Gate and baseline of the row that holds a candidate against the model in production; no core judges it."""


class Verdict(BaseModel):
    """All gates of one candidate on one panel. Silence refuses: no records, no pass."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    candidate: str = Field(description="Path of the checkpoint that was judged")
    candidate_sha256: str
    panel_sha256: str
    data: str = Field("", description="What it was judged on, for people: the corpus's folder or name")
    data_sha256: str = Field("", description="Hash of that data, the panel's included; empty: not recorded")
    changed_thresholds: tuple[str, ...] = Field((), description="Thresholds that are not the study's own, in words")
    score: float | None = Field(None, description="Ranking score of the core; larger is better")
    gates: tuple[GateRecord, ...] = ()
    summary: str = Field("", description="Path of the core's own summary file")
    judge: str = Field("", description="module:function of the core that replays this verdict from a bundle")
    facts: dict[str, Any] = Field(default_factory=dict, description="Figures for people; never judged here")

    @property
    def passed(self) -> bool:
        return passed(self.gates)

    @property
    def failed_gates(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(record.gate for record in self.gates if not record.passed))

    def sentence(self) -> str:
        """The verdict in a line."""
        if not self.gates:
            return "REFUSED: no gate was evaluated"
        if self.passed:
            vacuous = {record.gate for record in self.gates if record.vacuous}
            judged = {record.gate for record in self.gates if not record.vacuous}
            aside = f"; vacuous here: {', '.join(sorted(vacuous - judged))}" if vacuous - judged else ""
            return f"PASSED all {len(judged)} gates{aside}{self.under()}"
        failures = [record for record in self.gates if not record.passed]
        named = ", ".join(
            f"{record.name} {'missing' if record.value is None else f'{record.value:.6g}'} "
            f"(needs {record.comparison} {record.threshold})"
            for record in failures
        )
        gates = f"gate{'s' if len(self.failed_gates) > 1 else ''} {', '.join(self.failed_gates)}"
        return f"FAILED {gates}: {named}{self.under()}"

    def under(self) -> str:
        """What a verdict under thresholds that are not the study's own says of them; empty under its own."""
        return under(self.changed_thresholds)

    def table(self) -> list[dict[str, Any]]:
        """Rows for an artifact or a terminal, in the order of the gates."""
        return [
            {
                "verdict": record.state,
                "gate": record.gate,
                "metric": record.name,
                "value": record.value,
                "needs": record.needs,
                "reason": record.vacuous or record.reason,
            }
            for record in self.gates
        ]


def own_changes(changed: Sequence[str]) -> tuple[str, ...]:
    """The changed thresholds of the study's own gates: without the margin over production, which no core judges."""
    return tuple(line for line in changed if not line.startswith(f"{PRODUCTION}."))


def read_verdict(path: Path) -> Verdict:
    return Verdict.model_validate(read_json(path))
