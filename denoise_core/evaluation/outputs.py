"""The audit's files under the published names, so that an auditor's scripts go on working; and reading predictions.

JSON is strict: NaN and infinity are written as null. Every file lands by temporary name and rename.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from denoise_core.evaluation.predictions import denoised_name
from denoise_core.evaluation.report import PanelAudit, strict, summarise
from study_core.files import replacing

Paths = dict[str, Path]


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
    with replacing(paths["per_group"]) as temporary:
        audit.per_group.to_csv(temporary, index=False, float_format="%.4f", lineterminator="\n")
    if predictions is not None:
        _write_predictions(audit, predictions, paths["predictions"])
    write_json(paths["downstream"], audit.downstream)
    write_json(paths["summary"], summarise([audit, *others], device=device, args=args))
    return paths


def write_json(path: Path, content: Any) -> None:
    """Strict JSON, NaN and infinity as null, by temporary name and rename."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(strict(content), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _write_predictions(audit: PanelAudit, predictions: ArrayLike, folder: Path) -> None:
    """One `…_denoised.npy` a capture, in the panel's own sub-folders; twin rows share a file."""
    for relative, spectrum in zip(audit.panel.frame["relative_path"], np.asarray(predictions, np.float32), strict=True):
        with replacing(folder / denoised_name(relative)) as temporary:
            np.save(temporary, spectrum)
