"""The verdict of a run as a file: what promotion, archive and triggers read of it."""

from __future__ import annotations

from collections.abc import Sequence

from concept_core.candidate import write_candidate
from concept_core.jobs.concept_eval import Evaluated
from concept_core.layout import Layout
from concept_core.plans import ConceptPlan, GatePlan
from concept_core.steps import Network
from study_core.files import sha256_of, write_json
from study_core.gates import GateRecord
from study_core.verdict import Verdict, changed_thresholds

JUDGE = "concept_core.replay:replay_run"


def write_verdict(
    layout: Layout, plan: ConceptPlan, network: Network, found: Evaluated, records: Sequence[GateRecord]
) -> Verdict:
    """Write candidate, study.json and verdict.json below the run; the panel is the table of windows."""
    candidate = write_candidate(layout, plan, network, found.layer)
    write_json(layout.study, plan.model_dump(mode="json"))
    values = {(one.metric, *sorted(one.slice.values())): one.value for one in found.measures}
    verdict = Verdict(
        candidate=str(candidate), candidate_sha256=sha256_of(candidate), panel_sha256=sha256_of(layout.windows),
        changed_thresholds=changed_thresholds(plan.gates, GatePlan()),
        score=values.get(("worst_auroc", "model", "oof")), gates=tuple(records),
        summary=str(layout.evaluation(network.name).projection), judge=JUDGE,
        facts={
            "concept": plan.data.concept.name, "model": network.name, "layer": found.layer,
            "cav_sha256": found.cav_sha256,
        },
    )  # fmt: skip
    write_json(layout.verdict, verdict.model_dump(mode="json"))
    return verdict
