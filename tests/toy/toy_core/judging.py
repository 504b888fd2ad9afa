"""The gates, and the verdict replayed from a bundle: numbers and thresholds, no job."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from study_core.files import read_json
from study_core.gates import GateRecord, GateRule, Measure, judge
from study_core.plan import Frozen
from study_core.verdict import PRODUCTION


class Gates(Frozen):
    words_min: float = 3.0
    seen_min: float = 1.0


def judged(measures: tuple[Measure, ...], gates: Gates) -> tuple[GateRecord, ...]:
    enough = GateRule("size", "words", ">=", gates.words_min, "fewer words say nothing")
    each = GateRule("letters", "seen", ">=", gates.seen_min, "every letter must occur", each="word")
    return judge(measures, [enough, each])


@dataclass(frozen=True)
class Replayed:
    equal: bool

    def lines(self) -> list[str]:
        return ["equal" if self.equal else "DIFFERENT: a verdict is not what its numbers say"]


def replay(corpus: Path, bundle: Path) -> Replayed:
    """Judge the archived numbers of a run's folder again."""
    measures = tuple(Measure(**row) for row in read_json(bundle / "measures.json"))
    gates = Gates.model_validate(read_json(bundle / "plan.json")["gates"])
    again = [record.model_dump(mode="json") for record in judged(measures, gates)]
    own = [record for record in read_json(bundle / "verdict.json")["gates"] if record["gate"] != PRODUCTION]
    return Replayed(own == again)
