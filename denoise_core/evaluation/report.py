"""An audit on record: verdicts, ranking, and the summary under the published keys."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from denoise_core.corpus.manifest import Manifest
from denoise_core.evaluation.measurement import Reference
from denoise_core.evaluation.thresholds import GATES
from study_core.errors import BadInput
from study_core.gates import GateRecord, passed
from study_core.revision import git_hash


@dataclass(frozen=True)
class PanelAudit:
    """One set of predictions judged. Only an audit under `loo` whose every gate passed may ship (`passed`)."""

    checkpoint: str
    reference: Reference
    panel: Manifest
    gates: tuple[GateRecord, ...]
    metrics: dict[str, float]
    per_spectrum: pd.DataFrame
    per_group: pd.DataFrame
    by_group: dict[str, dict[str, float]]
    downstream: dict[str, Any]
    controls: dict[str, dict[str, Any]]
    notices: tuple[str, ...]
    uncertainty: dict[str, Any] | None = None
    unseen: dict[str, Any] | None = None

    @property
    def reference_may_ship(self) -> bool:
        """A capture scored against itself rewards the identity: `self` reproduces, it never decides."""
        return self.reference == "loo"

    @property
    def passed(self) -> bool:
        """Every gate passed under a reference that may ship."""
        return self.reference_may_ship and not self.failed_gates

    @property
    def failed_gates(self) -> tuple[str, ...]:
        """Names of the gates that did not pass, in the order of `thresholds.GATES`; a gate never judged is failed.

        A gate whose every rule is vacuous has neither passed nor failed.
        """
        judged = {record.gate for record in self.gates}
        failed = {record.gate for record in self.gates if not record.passed}
        applicable = GATES if self.reference_may_ship else GATES[:6]
        return tuple(gate for gate in applicable if gate in failed or gate not in judged)

    @property
    def composite_score(self) -> float:
        """PSNR mean − PSNR standard deviation."""
        return self.metrics["composite_score"]

    @property
    def worth_resolved(self) -> bool:
        """Whether the model is better than the filter that it corrects, on groups that no choice has seen; measured."""
        worth: dict[str, Any] = (self.unseen or {}).get("worth") or {"verdict": {"passed": False}}
        return bool(worth["verdict"]["passed"])

    def gate_passed(self, gate: str) -> bool:
        """Verdict of one gate."""
        return passed(self.gates, gate=gate)

    def verdict_of(self, gate: str) -> bool | None:
        """For the published `…_pass` keys: passed, failed, or None where every rule is vacuous on this panel."""
        mine = [record for record in self.gates if record.gate == gate]
        return None if mine and all(record.passed and record.vacuous for record in mine) else passed(mine)

    @property
    def summary(self) -> dict[str, Any]:
        """Content of `panel_eval_summary.json` for this audit alone."""
        return summarise([self])


def rank(audits: Sequence[PanelAudit], *, ahead: str = "") -> list[PanelAudit]:
    """Best first: those that passed before those that did not, each by composite score; no score (NaN) comes last.

    `ahead`: the checkpoint that goes before its like whatever its score is.
    """

    def key(audit: PanelAudit) -> tuple[bool, bool, float]:
        score = audit.composite_score if math.isfinite(audit.composite_score) else -math.inf
        return audit.passed, audit.checkpoint == ahead, score

    return sorted(audits, key=key, reverse=True)


def summarise(
    audits: Sequence[PanelAudit], *, device: str = "cpu", args: Mapping[str, Any] | None = None, ahead: str = ""
) -> dict[str, Any]:
    """Content of `panel_eval_summary.json`: the best of the audits in full, and a line for each. Strict JSON types.

    `ahead`: as for `rank`.
    """
    if not audits:
        raise BadInput("no audit to summarise", remedy="audit at least one checkpoint")
    ranked = rank(audits, ahead=ahead)
    best = ranked[0]
    content = {
        "manifest": str(best.panel.path) if best.panel.path else None,
        "manifest_hash": best.panel.bytes_sha256,
        "manifest_rows_hash": best.panel.rows_sha256,
        "git_hash": git_hash(Path(__file__).parent) or "unknown",
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
    return dict(strict(content))


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
        "gates": {f"{gate}_pass": audit.verdict_of(gate) for gate in ("aggregate", "tail", "roi", "downstream")},
        "integrity_pass": audit.verdict_of("integrity"),
        **{f"{gate}_pass": audit.verdict_of(gate) for gate in GATES[5:]},
        "gate_records": [result.record() for result in audit.gates],
        "aggregate_metrics": {
            **{name: metrics[name] for name in ("psnr_mean", "psnr_std", "sam_mean")},
            "pass_gate": audit.verdict_of("aggregate"),
        },
        "tail_metrics": {
            **{name: metrics[name] for name in ("psnr_pass_ratio", "sam_pass_ratio", "joint_pass_ratio")},
            "pass_gate": audit.verdict_of("tail"),
        },
        "roi_metrics": {
            **{name: metrics[name] for name in roi},
            "spurious_peaks": int(metrics["spurious_peaks"]),
            "pass_gate": audit.verdict_of("roi"),
            "spurious_per_capture": metrics["spurious_per_capture"],
            "spurious_free_ratio": metrics["spurious_free_ratio"],
        },
        "per_group": audit.per_group.set_index("group_id").to_dict("index"),
        "psnr_std_without_offset_outliers": metrics["psnr_std_without_offset_outliers"],
        "offset_outliers": int(metrics["offset_outliers"]),
        "downstream_metrics": audit.downstream,
        "controls": audit.controls,
        "uncertainty": audit.uncertainty,
        "unseen_groups": audit.unseen,
        "notices": list(audit.notices),
    }


def _line(audit: PanelAudit) -> dict[str, Any]:
    """One checkpoint's line of the ranking, the published keys and ours beside them."""
    gates = ("aggregate", "tail", "roi", "downstream", "integrity", *GATES[5:])
    return {
        "checkpoint": audit.checkpoint,
        "composite_score": audit.composite_score,
        **{f"{gate}_pass": audit.verdict_of(gate) for gate in gates},
        "passed_all_gates": audit.passed,
        **{name: audit.metrics[name] for name in ("psnr_mean", "psnr_std", "sam_mean", "area_within_10_pct_ratio")},
    }


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
