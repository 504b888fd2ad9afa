"""The verdict of an archived run, computed again from its tables: the model is not needed, the corpus only to be sure.

A figure equals its record within a relative 1e-9; hashes, layers and verdicts equal exactly.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from concept_core.config import Paths
from concept_core.evaluation.measures import Measured, measured
from concept_core.evaluation.tables import read_tables
from concept_core.evaluation.thresholds import REQUIRED, rules
from concept_core.layout import EvaluationFiles, Layout
from concept_core.plans import ConceptPlan, GatePlan
from study_core.bundles import unpacked
from study_core.errors import BadInput
from study_core.files import read_json, sha256_of
from study_core.gates import GateRecord, Measure, judge
from study_core.verdict import PRODUCTION, Verdict, changed_thresholds, own_changes, read_verdict

RELATIVE = 1e-9


def judged(measures: Sequence[Measure], plan: ConceptPlan) -> tuple[GateRecord, ...]:
    """All eight gates over measured numbers; a number or gate that is missing refuses."""
    return judge(measures, rules(plan), required=REQUIRED)


def replay(folder: Path, plan: ConceptPlan) -> tuple[Measured, tuple[GateRecord, ...]]:
    """Measures and verdict from an `evaluations/<model>` folder alone.

    Raises:
        BadInput: a table is missing or cannot be read.
    """
    found = measured(read_tables(EvaluationFiles(folder)))
    return found, judged(found.measures, plan)


@dataclass
class Replayed:
    """How many figures were compared, and what is not as recorded."""

    compared: int = 0
    differences: list[str] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        """Nothing differs, and something was compared."""
        return self.compared > 0 and not self.differences

    def lines(self) -> list[str]:
        """What to print: the outcome first."""
        head = (
            f"equal: {self.compared} figures are as recorded (relative tolerance {RELATIVE:g}; hashes exact)"
            if self.equal
            else f"DIFFERENT: {len(self.differences)} of {self.compared} figures are not as recorded"
        )
        return [head, *(f"  {one}" for one in self.differences)]

    def hold(self, what: str, recorded: object, found: object) -> None:
        """Compare one figure with its record."""
        self.compared += 1
        if not _same(recorded, found):
            self.differences.append(f"{what} was {recorded}, is {found}")


def replay_run(corpus: Path, bundle: Path, *, controls: bool = False) -> Replayed:
    """Judge a run's bundle (zip or folder) again: figures, gates, candidate, and the windows made anew from `corpus`.

    `controls` changes nothing: their scores are archived, and every figure of theirs is computed again in any case.

    Raises:
        BadInput: the bundle is none, or a table in it cannot be read.
    """
    found = Replayed()
    with unpacked(bundle) as folder:
        layout = Layout(folder)
        plan, verdict = _recorded(layout)
        evaluation = layout.evaluation(str(verdict.facts.get("model")))
        again, gates = replay(evaluation.root, plan)
        if "changed_thresholds" in verdict.model_fields_set:
            told = own_changes(verdict.changed_thresholds)
            found.hold("changed thresholds", told, changed_thresholds(plan.gates, GatePlan()))
        found.hold("layer", verdict.facts.get("layer"), again.layer)
        _hold_gates(found, verdict.gates, gates)
        _hold_measures(found, read_json(evaluation.projection)["measures"], again.measures)
        found.hold("hash of the candidate", verdict.candidate_sha256, sha256_of(layout.candidate))
        found.hold("hash of windows.jsonl", verdict.panel_sha256, sha256_of(layout.windows))
        found.hold("hash of the windows made from the corpus", verdict.panel_sha256, _windows(layout, plan, corpus))
    return found


def _recorded(layout: Layout) -> tuple[ConceptPlan, Verdict]:
    try:
        return ConceptPlan.model_validate(read_json(layout.study)), read_verdict(layout.verdict)
    except (OSError, ValidationError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise BadInput(
            f"no study.json and verdict.json to read ({first})", file=layout.root, remedy="name a whole bundle"
        ) from None


def _hold_gates(found: Replayed, recorded: Sequence[GateRecord], again: Sequence[GateRecord]) -> None:
    own = [one for one in recorded if one.gate != PRODUCTION]  # what was in production then is not in the bundle
    found.hold("number of gate rows", len(own), len(again))
    for one, other in zip(own, again, strict=False):
        for name, value in one.model_dump(mode="json").items():
            found.hold(f"{one.gate}, {one.name}: {name}", value, getattr(other, name))


def _hold_measures(found: Replayed, recorded: Sequence[Mapping[str, Any]], again: Sequence[Measure]) -> None:
    before = [Measure(**one) for one in recorded]
    found.hold("number of measures", len(before), len(again))
    for one, other in zip(before, again, strict=False):
        where = ", ".join(f"{key} {value}" for key, value in one.slice.items())
        found.hold(f"{one.metric} [{where}]: what it is", (one.metric, one.slice), (other.metric, other.slice))
        found.hold(f"{one.metric} [{where}]", one.value, other.value)


def _windows(layout: Layout, plan: ConceptPlan, corpus: Path) -> str:
    """The hash of the table that the corpus's rows give today; which file is missing, in words, where one is."""
    from concept_core.corpus.windows import write_windows
    from concept_core.prepare import assembled

    wanted = {name: sha for name, sha in read_json(layout.corpus)["made_from"].items() if name != "data"}
    by_hash = {sha256_of(path): path for path in _files(corpus)}
    missing = [name for name, sha in wanted.items() if sha not in by_hash]
    if missing:
        return f"not to be made: no file of the hash of {', '.join(missing)} in {corpus}"
    paths = Paths(**{name: by_hash[sha] for name, sha in wanted.items()})
    with tempfile.TemporaryDirectory() as folder:
        table = Layout(Path(folder)).windows
        write_windows(table, assembled(plan, paths).windows)
        return sha256_of(table)


def _files(corpus: Path) -> Iterator[Path]:
    return (path for path in sorted(Path(corpus).rglob("*")) if path.is_file())


def _same(recorded: object, found: object) -> bool:
    if isinstance(recorded, float) and isinstance(found, float):
        return math.isclose(recorded, found, rel_tol=RELATIVE, abs_tol=1e-12)
    return recorded == found
