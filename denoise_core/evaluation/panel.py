"""Panel QA: what was measured of the candidates, judged, ranked, and written as an auditor reads it.

The verdict files (`verdict_*.json`) are the plain format that promotion reads; everything else carries the
published names (`outputs`). Runs where the measurements lie: it denoises nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from denoise_core.corpus.manifest import Manifest, read_manifest
from denoise_core.corpus.store import open_corpus
from denoise_core.corpus.usable import verify_replicates
from denoise_core.evaluation.audit import audit_predictions
from denoise_core.evaluation.controls import fitted_control_predictions
from denoise_core.evaluation.judging import judge_measurement
from denoise_core.evaluation.measurement import MEASUREMENT, Measurement, Reference, read_measurement
from denoise_core.evaluation.outputs import write_audit, write_json
from denoise_core.evaluation.predictions import PACKED, read_packed, read_predictions
from denoise_core.evaluation.report import PanelAudit, rank, strict, summarise
from denoise_core.evaluation.thresholds import GateThresholds
from study_core.errors import BadInput
from study_core.files import place
from study_core.gates import GateRecord
from study_core.verdict import Verdict

RUNBOOK = (
    "shipping the single best fold leaves 20 % of the data unused and is not representative; "
    "train one production model on the full dataset, with this checkpoint as its warm start"
)


def evaluate_predictions(
    corpus: Path,
    panel: Path,
    predictions: Path,
    out: Path,
    *,
    reference: str = "loo",
    expected_hash: str | None = None,
    training: Path | None = None,
    thresholds: GateThresholds | None = None,
) -> tuple[PanelAudit, dict[str, Any]]:
    """Measure and judge predictions that lie on disk; the training manifest defaults to the corpus's own.

    Returns the audit and its summary. BadInput for anything that cannot be read, naming file and row.
    """
    opened, manifest = open_corpus(corpus), read_manifest(panel)
    trained_on = read_manifest(training) if training else opened.manifest("manifest_train")
    kind = _reference(reference)
    verify_replicates(opened, trained_on, manifest)
    values = read_predictions(predictions, manifest, points=opened.spectra_NL.shape[1])
    audit = audit_predictions(
        opened,
        manifest,
        values,
        reference=kind,
        thresholds=thresholds,
        training=trained_on,
        controls=fitted_control_predictions(opened, manifest, trained_on),
        expected_hash=expected_hash,
        checkpoint=predictions.stem,
    )
    arguments = {"panel": str(panel), "predictions": str(predictions), "reference": reference}
    write_audit(audit, out, predictions.stem, predictions=values, args=arguments)
    return audit, summarise([audit], device="cpu", args=arguments)


def _reference(name: str) -> Reference:
    if name == "loo":
        return "loo"
    if name == "self":
        return "self"
    raise BadInput(f"no reference {name!r}", remedy="loo (decides) or self (reproduces the published audit)")


@dataclass(frozen=True)
class Judged:
    """A candidate's audit and verdict, and the folder of what was measured."""

    audit: PanelAudit
    verdict: Verdict
    folder: Path


def judge_checkpoints(
    measured: Sequence[Path],
    panel: Manifest,
    thresholds: GateThresholds,
    out: Path,
    *,
    expected_hash: str | None = None,
    selected_on: Sequence[str] = (),
    started_on: Sequence[str] = (),
    own_filter: Path | None = None,
) -> list[Judged]:
    """Judge the folders that `checkpoints.measure_checkpoints` wrote, best first, and write `out`.

    `own_filter`: the one of `measured` that holds the filter which the others correct; where what they add to it is
    not resolved, it is the best of those that pass. `out` gets each one's tables and measurement, the best one's
    spectra, the summary and a verdict file a rank.
    """
    audits = {}
    for folder in measured:
        found = read_measurement(folder / MEASUREMENT)
        audit = judge_measurement(
            found, panel, thresholds, expected_hash=expected_hash, selected_on=selected_on, started_on=started_on
        )
        audits[folder] = (found, audit)
    ahead = ""
    if own_filter is not None and not audits[own_filter][1].worth_resolved:
        ahead = audits[own_filter][1].checkpoint
    ranked = rank([audit for _, audit in audits.values()], ahead=ahead)
    names = _names([Path(audit.checkpoint) for audit in ranked])
    by_audit = {id(audit): (folder, found) for folder, (found, audit) in audits.items()}
    judged = []
    for number, (audit, name) in enumerate(zip(ranked, names, strict=True), start=1):
        folder, found = by_audit[id(audit)]
        values = None
        if number == 1:  # the others' spectra lie packed with the job: their tables say enough
            values = read_packed(folder / PACKED, panel)
        write_audit(audit, out, name, predictions=values, device=found.device)
        place(folder / MEASUREMENT, out / f"{name}_{MEASUREMENT}")
        verdict = verdict_of(audit, found, out / "panel_eval_summary.json", name)
        write_json(out / f"verdict_{number:02d}.json", verdict.model_dump(mode="json"))
        judged.append(Judged(audit, verdict, folder))
    write_json(out / "panel_eval_summary.json", summarise(ranked, device=found.device, ahead=ahead))
    return judged


def judge_incumbent(
    measured: Path, panel: Manifest, thresholds: GateThresholds, out: Path, *, expected_hash: str | None = None
) -> Verdict:
    """The verdict on the model in production, on the same panel by the same thresholds; written into `out`."""
    found = read_measurement(measured / MEASUREMENT)
    audit = judge_measurement(found, panel, thresholds, expected_hash=expected_hash)
    verdict = verdict_of(audit, found, out / "panel_eval_summary.json", "")
    write_json(out / "verdict_incumbent.json", verdict.model_dump(mode="json"))
    return verdict


def _names(paths: Sequence[Path]) -> list[str]:
    """File stems, made unique by rank where two checkpoints share one."""
    stems = [path.stem for path in paths]
    return [stem if stems.count(stem) == 1 else f"{stem}_{rank_:02d}" for rank_, stem in enumerate(stems, start=1)]


def verdict_of(audit: PanelAudit, found: Measurement, summary: Path, name: str) -> Verdict:
    """The audit in the format that promotion reads."""
    checkpoint = Path(audit.checkpoint)
    facts = {
        "name": name,
        "may_not_ship": why_not_shipped(checkpoint.name, found.fold),
        "reference": audit.reference,
        "controls": [{"name": control, **row} for control, row in audit.controls.items()],
        "notices": list(audit.notices),
        "metrics": audit.metrics,
        "by_group": audit.by_group,
        "uncertainty": audit.uncertainty,
        "unseen": audit.unseen,
    }
    score = strict(audit.composite_score)
    return Verdict(
        candidate=str(checkpoint),
        candidate_sha256=found.checkpoint_sha256,
        panel_sha256=audit.panel.rows_sha256,
        score=score,
        gates=audit.gates if audit.reference_may_ship else (*audit.gates, NEVER_SHIPS),
        summary=str(summary),
        judge="denoise_core.report.replay:replay",
        facts=strict(facts),
    )


def why_not_shipped(name: str, fold: int | None) -> str | None:
    """The runbook's reason against a fold's model, None for a model that may ship once its gates pass."""
    return None if fold is None else f"{name} is the model of fold {fold}: {RUNBOOK}"


NEVER_SHIPS = GateRecord(
    gate="integrity",
    metric="reference_may_ship",
    comparison=">=",
    threshold=1.0,
    value=0.0,
    passed=False,
    reason="the reference `self` reproduces the published audit and never decides shipping",
)
