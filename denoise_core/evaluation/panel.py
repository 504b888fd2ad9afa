"""Panel QA over checkpoints: denoise the panel through each, audit each, rank, and write what an auditor reads.

The verdict files (`verdict_*.json`) are the plain format that promotion reads; everything else carries the
published names (`outputs`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from denoise_core.corpus.manifest import Manifest, read_manifest
from denoise_core.corpus.store import Corpus, open_corpus
from denoise_core.corpus.usable import verify_replicates
from denoise_core.evaluation.audit import audit_predictions
from denoise_core.evaluation.controls import fitted_control_predictions
from denoise_core.evaluation.metrics import Floats
from denoise_core.evaluation.origin import fold_hashes, why_not_shipped
from denoise_core.evaluation.outputs import write_audit, write_json
from denoise_core.evaluation.predictions import read_predictions
from denoise_core.evaluation.report import PanelAudit, rank, summarise
from denoise_core.evaluation.selection import unseen_figures
from denoise_core.evaluation.thresholds import GateThresholds, Reference
from study_core.errors import BadInput

Progress = Callable[[int, int, str], None]


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
    """Judge predictions that lie on disk; the training manifest defaults to the corpus's own.

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


def audit_checkpoints(
    corpus: Corpus,
    panel: Manifest,
    training: Manifest | None,
    checkpoints: Sequence[Path],
    *,
    out: Path,
    thresholds: GateThresholds | Mapping[str, Any],
    incumbent: Path | None = None,
    expected_hash: str | None = None,
    reference: str = "loo",
    selected_on: Sequence[str] = (),
    unseen: Mapping[str, Path] | None = None,
    leave_sample_out: bool = True,
    batch_size: int = 256,
    device: str = "cpu",
    progress: Progress = lambda done, total, what: None,
) -> dict[str, Any]:
    """Judge every checkpoint (and the model now in production) on one panel; a receipt of paths, best first.

    Rows of the panel that stand twice are denoised once. The summary ranks the candidates by composite score.
    `unseen`: a fold's checkpoint, test, train and val manifests, for figures on groups that no choice has seen.
    """
    limits = GateThresholds.model_validate(
        thresholds.model_dump() if isinstance(thresholds, GateThresholds) else dict(thresholds)
    )
    controls = {}
    if training is not None:
        controls = fitted_control_predictions(corpus, panel, training, leave_sample_out=leave_sample_out)
    never_seen = _unseen(corpus, unseen, limits, batch_size, device) if unseen else None
    judged: dict[Path, tuple[PanelAudit, Floats]] = {}
    every = [*dict.fromkeys(checkpoints), *([incumbent] if incumbent and incumbent not in checkpoints else [])]
    for number, path in enumerate(every):
        progress(number, len(every), f"audit {path.name}")
        values, error = _denoised(corpus, panel, path, batch_size, device)
        audit = audit_predictions(
            corpus,
            panel,
            values,
            reference=_reference(reference),
            thresholds=limits,
            training=training,
            controls=controls,
            expected_hash=expected_hash,
            selected_on=selected_on,
            standard_error_ML=error,
            unseen=never_seen,
            checkpoint=str(path),
        )
        judged[path] = (audit, values)
    return _write(corpus, judged, checkpoints, incumbent, panel, out, device)


def _unseen(
    corpus: Corpus, fold: Mapping[str, Path], limits: GateThresholds, batch_size: int, device: str
) -> dict[str, Any]:
    """Figures of a fold's own model on its test groups: same recipe, groups that nothing was chosen on."""
    from denoise_core.inference import denoise_rows
    from denoise_core.model.neural import load_denoiser

    test = read_manifest(fold["test"])
    denoiser = load_denoiser(fold["checkpoint"], device=device)
    rows = corpus.rows(test)
    values = denoise_rows(denoiser, corpus, rows, batch_size)
    base = getattr(denoiser, "base", None)  # a model that corrects no filter has none to be worth more than
    figures = unseen_figures(
        corpus,
        test,
        values,
        training=read_manifest(fold["train"]),
        selected_on=read_manifest(fold["val"]).groups,
        thresholds=limits,
        base_ML=None if base is None else denoise_rows(base, corpus, rows, batch_size),
        base="" if base is None else base.name,
    )
    return {"what": "the warm start's fold model on its test groups", **figures}


def _denoised(
    corpus: Corpus, panel: Manifest, path: Path, batch_size: int, device: str
) -> tuple[Floats, Floats | None]:
    from denoise_core.inference import denoise_rows
    from denoise_core.model.neural import load_denoiser

    denoiser = load_denoiser(path, device=device)
    unique, twin_M = np.unique(corpus.rows(panel), return_inverse=True)
    values = np.asarray(denoise_rows(denoiser, corpus, unique, batch_size), np.float64)
    error = np.asarray(denoiser.standard_error(corpus.spectra_NL[unique], corpus.context(unique)), np.float64)
    return values[twin_M], error[twin_M] if np.isfinite(error).all() else None


def _write(
    corpus: Corpus,
    judged: Mapping[Path, tuple[PanelAudit, Floats]],
    checkpoints: Sequence[Path],
    incumbent: Path | None,
    panel: Manifest,
    out: Path,
    device: str,
) -> dict[str, Any]:
    folds = fold_hashes(corpus)
    ranked = rank([judged[path][0] for path in dict.fromkeys(checkpoints)])
    names = _names([Path(audit.checkpoint) for audit in ranked])
    for audit, name in zip(ranked, names, strict=True):
        best = audit is ranked[0]  # the others' spectra are a batch of inference away: their tables say enough
        values = judged[Path(audit.checkpoint)][1] if best else None
        write_audit(audit, out, name, predictions=values, device=device)
    summary = out / "panel_eval_summary.json"
    write_json(summary, summarise(ranked, device=device))
    verdicts = [
        _verdict(audit, folds, panel, out / f"verdict_{number:02d}.json", summary, name)
        for number, (audit, name) in enumerate(zip(ranked, names, strict=True), start=1)
    ]
    held = None
    if incumbent:
        held = _verdict(judged[incumbent][0], folds, panel, out / "verdict_incumbent.json", summary, "")
    return {"verdicts": verdicts, "incumbent": held, "summary": str(summary), "folder": str(out)}


def _names(paths: Sequence[Path]) -> list[str]:
    """File stems, made unique by rank where two checkpoints share one."""
    stems = [path.stem for path in paths]
    return [stem if stems.count(stem) == 1 else f"{stem}_{rank_:02d}" for rank_, stem in enumerate(stems, start=1)]


def _verdict(audit: PanelAudit, folds: Mapping[str, int], panel: Manifest, path: Path, summary: Path, name: str) -> str:
    """One verdict in the format that promotion reads."""
    checkpoint = Path(audit.checkpoint)
    with open(checkpoint, "rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    records = [result.record() for result in audit.gates]
    if not audit.reference_may_ship:
        records.append(_never_ships())
    content = {
        "candidate": str(checkpoint),
        "candidate_sha256": digest,
        "panel_sha256": panel.rows_sha256,
        "score": audit.composite_score,
        "gates": records,
        "summary": str(summary),
        "facts": {
            "name": name,
            "may_not_ship": why_not_shipped(checkpoint, folds),
            "reference": audit.reference,
            "controls": [{"name": control, **row} for control, row in audit.controls.items()],
            "notices": list(audit.notices),
            "metrics": audit.metrics,
            "uncertainty": audit.uncertainty,
            "unseen": audit.unseen,
        },
    }
    write_json(path, content)
    return str(path)


def _never_ships() -> dict[str, Any]:
    return {
        "gate": "integrity",
        "metric": "reference_may_ship",
        "comparison": ">=",
        "threshold": 1.0,
        "value": 0.0,
        "passed": False,
        "reason": "the reference `self` reproduces the published audit and never decides shipping",
    }
