"""The audit's files under the published names, so that an auditor's scripts go on working; and reading predictions.

JSON is strict: NaN and infinity are written as null. Every file lands by temporary name and rename.
"""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from denoise_core.corpus.files import replacing
from denoise_core.evaluation.audit import PanelAudit

Paths = dict[str, Path]


def rank(audits: Sequence[PanelAudit]) -> list[PanelAudit]:
    """Best first: those that passed before those that did not, each by composite score; no score (NaN) comes last."""

    def key(audit: PanelAudit) -> tuple[bool, float]:
        return audit.passed, audit.composite_score if math.isfinite(audit.composite_score) else -math.inf

    return sorted(audits, key=key, reverse=True)


def summarise(
    audits: Sequence[PanelAudit], *, device: str = "cpu", args: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Content of `panel_eval_summary.json`: the best of the audits in full, one line for each of the others."""
    ranked = rank(audits)
    best = ranked[0]
    return {
        "manifest": str(best.panel.path) if best.panel.path else None,
        "manifest_hash": best.panel.bytes_sha256,
        "manifest_rows_hash": best.panel.rows_sha256,
        "git_hash": git_hash(),
        "device": device,
        "args": dict(args or {}),
        "versions": {name: version(name) for name in ("torch", "numpy", "scipy", "pandas")},
        "checkpoints_evaluated": [audit.checkpoint for audit in audits],
        "passing_checkpoints": [audit.checkpoint for audit in ranked if audit.passed],
        "ranked_order": [audit.checkpoint for audit in ranked],
        "best_checkpoint": best.checkpoint,
        "best_composite_score": best.composite_score,
        "best_passed_all_gates": best.passed,
        "per_checkpoint": [_line(audit) for audit in ranked],
        **audit_record(best),
    }


def audit_record(audit: PanelAudit) -> dict[str, Any]:
    """One audit's part of the summary: verdicts, metrics, controls, notices."""
    metrics = audit.metrics
    roi = ("area_within_10_pct_ratio", "centroid_mae_nm_median", "depth_mae_median")
    return {
        "passed": audit.passed,
        "failed_gates": list(audit.failed_gates),
        "reference": audit.reference,
        "reference_may_ship": audit.reference_may_ship,
        "composite_score": audit.composite_score,
        "gates": {f"{gate}_pass": audit.gate_passed(gate) for gate in ("aggregate", "tail", "roi", "downstream")},
        "integrity_pass": audit.gate_passed("integrity"),
        "skill_pass": audit.gate_passed("skill"),
        "gate_records": [result.record() for result in audit.gates],
        "aggregate_metrics": {
            **{name: metrics[name] for name in ("psnr_mean", "psnr_std", "sam_mean")},
            "pass_gate": audit.gate_passed("aggregate"),
        },
        "tail_metrics": {
            **{name: metrics[name] for name in ("psnr_pass_ratio", "sam_pass_ratio", "joint_pass_ratio")},
            "pass_gate": audit.gate_passed("tail"),
        },
        "roi_metrics": {
            **{name: metrics[name] for name in roi},
            "spurious_peaks": int(metrics["spurious_peaks"]),
            "pass_gate": audit.gate_passed("roi"),
            "spurious_per_capture": metrics["spurious_per_capture"],
            "spurious_free_ratio": metrics["spurious_free_ratio"],
        },
        "per_group": audit.per_group,
        "psnr_std_without_offset_outliers": metrics["psnr_std_without_offset_outliers"],
        "offset_outliers": int(metrics["offset_outliers"]),
        "downstream_metrics": audit.downstream,
        "controls": audit.controls,
        "uncertainty": audit.uncertainty,
        "unseen_groups": audit.unseen,
        "notices": list(audit.notices),
    }


def write_audit(
    audit: PanelAudit,
    out_dir: Path,
    name: str = "mamba_tiny_uv_best",
    *,
    predictions: ArrayLike | None = None,
    others: Sequence[PanelAudit] = (),
    device: str = "cpu",
    args: Mapping[str, Any] | None = None,
) -> Paths:
    """Write one audit's tables and predictions and the summary; returns the paths by role.

    `others`: further audits of the same panel that the summary ranks beside this one (write
    each one's own tables with its own name; the summary of the last call covers them all).
    """
    out_dir = Path(out_dir)
    paths: Paths = {
        "summary": out_dir / "panel_eval_summary.json",
        "per_spectrum": out_dir / f"{name}_per_spectrum_metrics.csv",
        "per_group": out_dir / f"{name}_per_group_summary.csv",
        "predictions": out_dir / f"{name}_panel_preds",
        "downstream": out_dir / f"{name}_panel_preds" / "downstream_metrics.json",
    }
    with replacing(paths["per_spectrum"]) as temporary:
        audit.per_spectrum.to_csv(temporary, index=False, float_format="%.6f", lineterminator="\n")
    _write_groups(audit, paths["per_group"])
    if predictions is not None:
        _write_predictions(audit, predictions, paths["predictions"])
    write_json(paths["downstream"], audit.downstream)
    write_json(paths["summary"], summarise([audit, *others], device=device, args=args))
    return paths


def write_json(path: Path, content: Any) -> None:
    """Strict JSON, NaN and infinity as null, by temporary name and rename."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(strict(content), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def strict(value: Any) -> Any:
    """The same content in JSON's own types: NaN and infinity become None, numpy scalars Python's."""
    if isinstance(value, Mapping):
        return {str(key): strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Path):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def git_hash() -> str:
    """Commit of the code that judges; "unknown" outside a checkout."""
    here = Path(__file__).resolve().parent
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def _line(audit: PanelAudit) -> dict[str, Any]:
    """One checkpoint's line of the ranking, the published keys and gates 0 and 5 beside them."""
    gates = ("aggregate", "tail", "roi", "downstream", "integrity", "skill")
    return {
        "checkpoint": audit.checkpoint,
        "composite_score": audit.composite_score,
        **{f"{gate}_pass": audit.gate_passed(gate) for gate in gates},
        "passed_all_gates": audit.passed,
        **{name: audit.metrics[name] for name in ("psnr_mean", "psnr_std", "sam_mean", "area_within_10_pct_ratio")},
    }


def _write_groups(audit: PanelAudit, path: Path) -> None:
    names = ("psnr_mean", "psnr_std", "sam_mean", "sam_std", "area_error_median", "area_error_90pct")
    lines = [",".join(("group_id", "count", *names))]
    for group, row in audit.per_group.items():
        values = ("" if math.isnan(row[name]) else f"{row[name]:.4f}" for name in names)
        lines.append(",".join((group, f"{row['count']:.0f}", *values)))
    with replacing(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_predictions(audit: PanelAudit, predictions: ArrayLike, folder: Path) -> None:
    """One `…_denoised.npy` a capture, in the panel's own sub-folders; twin rows share a file."""
    for relative, spectrum in zip(audit.panel.frame["relative_path"], np.asarray(predictions, np.float32), strict=True):
        with replacing(folder / denoised_name(relative)) as temporary:
            np.save(temporary, spectrum)


def denoised_name(relative_path: str) -> str:
    """`a/b/rep_000.npy` → `a/b/rep_000_denoised.npy`: the published name of a denoised capture."""
    return relative_path.removesuffix(".npy") + "_denoised.npy"
