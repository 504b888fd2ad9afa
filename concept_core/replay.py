"""The verdict of an archived run, computed again from its tables: neither the model nor the corpus is needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from concept_core.evaluation.measures import Measured, measured
from concept_core.evaluation.tables import read_tables
from concept_core.evaluation.thresholds import REQUIRED, rules
from concept_core.layout import EvaluationFiles
from concept_core.plans import ConceptPlan
from study_core.gates import GateRecord, Measure, judge


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
