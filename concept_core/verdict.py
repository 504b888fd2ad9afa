"""The verdict of a run as a file: what promotion, archive and triggers read of it."""

from __future__ import annotations

from collections.abc import Sequence

from concept_core.jobs.concept_eval import Evaluated
from concept_core.layout import Layout
from study_core.files import sha256_of, write_json
from study_core.gates import GateRecord
from study_core.verdict import Verdict

VERDICT = "verdict.json"


def verdict_of(layout: Layout, model: str, found: Evaluated, records: Sequence[GateRecord]) -> Verdict:
    """Candidate is the CAV folder of the model; it was judged on the table of windows."""
    values = {(one.metric, *sorted(one.slice.values())): one.value for one in found.measures}
    return Verdict(
        candidate=str(layout.cavs(model).root),
        candidate_sha256=found.cav_sha256,
        panel_sha256=sha256_of(layout.windows),
        score=values.get(("worst_auroc", "model", "oof")),
        gates=tuple(records),
        summary=str(layout.evaluation(model).projection),
        facts={"model": model, "layer": found.layer},
    )


def write_verdict(layout: Layout, model: str, found: Evaluated, records: Sequence[GateRecord]) -> Verdict:
    """Write verdict.json below the run."""
    verdict = verdict_of(layout, model, found, records)
    write_json(layout.root / VERDICT, verdict.model_dump(mode="json"))
    return verdict
