"""Everything that a run's folder knows of its study, read once: what figures, tables and page are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from concept_core.corpus.windows import Window, read_windows
from concept_core.evaluation.measures import Measured, measured
from concept_core.evaluation.proteins import TestProtein, test_proteins
from concept_core.evaluation.tables import Tables, read_tables
from concept_core.evaluation.threshold_registry import ThresholdRegistry, read_registry
from concept_core.evaluation.tracks import Tracks
from concept_core.layout import CavFiles, EvaluationFiles, Layout
from concept_core.plans import ConceptPlan
from concept_core.replay import judged
from study_core.files import peek_json
from study_core.gates import GateRecord, passed

ROLE_NAMES = {
    "model": "model", "L0": "letters (layer 0)", "bag20": "bag of residues", "dipeptide": "dipeptides",
    "untrained": "untrained network", "concept_free": "concept-free network", "pssm": "PSSM", "pattern": "pattern",
}  # fmt: skip
STRATUM_NAMES = {
    "rand": "other proteins", "hard": "nearest in composition", "shuf": "own residues, shuffled",
    "scr": "ligands moved",
}  # fmt: skip


@dataclass(frozen=True)
class StudyRecord:
    """One evaluated model of a run. Tracks, sensitivity and reports are missing where they were not made."""

    plan: ConceptPlan
    model: str
    files: EvaluationFiles
    windows: tuple[Window, ...]
    tables: Tables
    found: Measured
    gates: tuple[GateRecord, ...]
    registry: ThresholdRegistry
    proteins: tuple[TestProtein, ...]
    tracks: Tracks | None
    sensitivity: Mapping[str, Any] | None
    reports: Mapping[int, Mapping[str, Any]]
    corpus: Mapping[str, Any]

    @property
    def layer(self) -> int:
        return self.found.layer

    @property
    def passed(self) -> bool:
        return passed(self.gates)

    def value(self, metric: str, **where: str) -> float | None:
        """One measure; None where it was not made."""
        wanted = sorted(where.items())
        return next(
            (one.value for one in self.found.measures if one.metric == metric and sorted(one.slice.items()) == wanted),
            None,
        )

    def roles(self) -> list[str]:
        """Sources that were scored, in the order of a ladder: least knowledge first, the model last."""
        order = ["bag20", "L0", "untrained", "concept_free", "dipeptide", "pssm", "pattern", "model"]
        return [role for role in order if self.value("worst_auroc", source=role, part="oof") is not None]


def read_study(layout: Layout, plan: ConceptPlan, model: str) -> StudyRecord:
    """The record of a run's evaluation of a model.

    Raises:
        BadInput: no evaluation, or one that cannot be read.
    """
    files = layout.evaluation(model)
    tables = read_tables(files)
    found = measured(tables)
    windows = read_windows(layout.windows)
    data = plan.data
    proteins = test_proteins(windows, pattern=data.concept.pattern, longest=plan.detection.longest, seed=data.seed)
    return StudyRecord(
        plan=plan,
        model=model,
        files=files,
        windows=tuple(windows),
        tables=tables,
        found=found,
        gates=judged(found.measures, plan),
        registry=read_registry(files.thresholds),
        proteins=tuple(proteins),
        tracks=_tracks(files.tracks, len(proteins)),
        sensitivity=peek_json(files.sensitivity),
        reports=_reports(layout.cavs(model), tables.facts.layers),
        corpus=peek_json(layout.corpus) or {},
    )


def _tracks(path: Path, proteins: int) -> Tracks | None:
    return Tracks.read(path, proteins) if path.exists() else None


def _reports(files: CavFiles, layers: tuple[int, ...]) -> dict[int, Mapping[str, Any]]:
    found = {layer: peek_json(files.report(layer)) for layer in layers}
    return {layer: report for layer, report in found.items() if report}
