"""The verdict of an archived run, computed again from its tables: the model is not needed, the corpus only to be sure.

A figure equals its record within a relative 1e-9; hashes, layers and verdicts equal exactly.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
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
from study_core.replay import Comparison, Replay
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


def replay_run(corpus: Path, bundle: Path) -> Replay:
    """Judge a run's bundle (zip or folder) again: figures, gates, candidate, and the windows made anew from `corpus`.

    The controls' scores are archived, and every figure of theirs is computed again.

    Raises:
        BadInput: the bundle is none, or a table in it cannot be read.
    """
    found = Comparison(RELATIVE, 1e-12)
    with unpacked(bundle) as folder:
        layout = Layout(folder)
        plan, verdict = _recorded(layout)
        evaluation = layout.evaluation(str(verdict.facts.get("model")))
        again, gates = replay(evaluation.root, plan)
        if "changed_thresholds" in verdict.model_fields_set:
            told = own_changes(verdict.changed_thresholds)
            _hold(found, "changed thresholds", told, changed_thresholds(plan.gates, GatePlan()))
        _hold(found, "layer", verdict.facts.get("layer"), again.layer)
        _hold_gates(found, verdict.gates, gates)
        _hold_measures(found, read_json(evaluation.projection)["measures"], again.measures)
        _hold(found, "hash of the candidate", verdict.candidate_sha256, sha256_of(layout.candidate))
        _hold(found, "hash of windows.jsonl", verdict.panel_sha256, sha256_of(layout.windows))
        _hold(found, "hash of the windows made from the corpus", verdict.panel_sha256, _windows(layout, plan, corpus))
    return found.outcome(f"relative tolerance {RELATIVE:g}; hashes exact")


def _recorded(layout: Layout) -> tuple[ConceptPlan, Verdict]:
    try:
        return ConceptPlan.model_validate(read_json(layout.study)), read_verdict(layout.verdict)
    except (OSError, ValidationError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise BadInput(
            f"no study.json and verdict.json to read ({first})", file=layout.root, remedy="name a whole bundle"
        ) from None


def _hold_gates(found: Comparison, recorded: Sequence[GateRecord], again: Sequence[GateRecord]) -> None:
    own = [one for one in recorded if one.gate != PRODUCTION]  # what was in production then is not in the bundle
    _hold(found, "number of gate rows", len(own), len(again))
    for one, other in zip(own, again, strict=False):
        for name, value in one.model_dump(mode="json").items():
            _hold(found, f"{one.gate}, {one.name}: {name}", value, getattr(other, name))


def _hold_measures(found: Comparison, recorded: Sequence[Mapping[str, Any]], again: Sequence[Measure]) -> None:
    before = [Measure(**one) for one in recorded]
    _hold(found, "number of measures", len(before), len(again))
    for one, other in zip(before, again, strict=False):
        where = ", ".join(f"{key} {value}" for key, value in one.slice.items())
        _hold(found, f"{one.metric} [{where}]: what it is", (one.metric, one.slice), (other.metric, other.slice))
        _hold(found, f"{one.metric} [{where}]", one.value, other.value)


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


def _hold(found: Comparison, what: str, recorded: object, again: object) -> None:
    numbers = isinstance(recorded, float) and isinstance(again, float)
    (found.close if numbers else found.exact)("", what, recorded, again)
