"""What lies in a run's folder, read once: the verdict, the audit's tables, plans, provenance, logs, jobs.

The folder's files are the interface: this package knows nothing of who wrote them or how the run was
started. Only `verdict.json` must exist; whatever else is missing is missing in the report, and says so.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from denoise_core.corpus.manifest import Manifest, write_manifest
from denoise_core.corpus.store import Corpus
from denoise_core.corpus.usable import values_told
from denoise_core.evaluation.outputs import write_json
from denoise_core.evaluation.predictions import read_predictions
from study_core.errors import BadInput
from study_core.files import replacing

PANEL_EVAL = Path("final_analytics") / "panel_eval"
INPUTS = "inputs.json"
PANEL_FILE, TRAINING_FILE = Path("manifests/validation_panel.csv"), Path("manifests/manifest_train.csv")
CAPTURE_COLUMNS = ("relative_path", "group_id", "psnr_db", "sam_deg", "roi_area_error_pct")


@dataclass(frozen=True)
class RunRecord:
    """One run's folder. Mappings are the files' JSON, empty where a file is missing; tables are None then."""

    folder: Path
    verdict: Mapping[str, Any]
    summary: Mapping[str, Any]
    plan: Mapping[str, Any]
    training_plan: Mapping[str, Any]
    provenance: Mapping[str, Any]
    inputs: Mapping[str, Any]
    per_spectrum: pd.DataFrame | None
    per_group: pd.DataFrame | None
    downstream: Mapping[str, Any]
    jobs: pd.DataFrame | None
    curves: Mapping[str, pd.DataFrame]
    events: tuple[Mapping[str, Any], ...]
    incumbent: Mapping[str, Any]
    """The verdict on the model in production, judged on the same panel."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """The verdict's figures for people."""
        return _mapping(self.verdict.get("facts"))

    @property
    def metrics(self) -> Mapping[str, Any]:
        return _mapping(self.facts.get("metrics"))

    @property
    def gates(self) -> list[Mapping[str, Any]]:
        """One record a rule, in the audit's order."""
        return list(self.verdict.get("gates") or [])

    @property
    def passed(self) -> bool:
        """Every gate passed, and there is at least one: silence refuses."""
        return bool(self.gates) and all(gate.get("passed") is True for gate in self.gates)

    @property
    def controls(self) -> dict[str, Mapping[str, Any]]:
        return {str(row["name"]): row for row in self.facts.get("controls") or []}

    @property
    def name(self) -> str:
        """Stem of the audit's files; the checkpoint's own where the verdict names none."""
        return str(self.facts.get("name") or Path(str(self.verdict.get("candidate", "candidate"))).stem)

    @property
    def predictions_folder(self) -> Path:
        return self.folder / PANEL_EVAL / f"{self.name}_panel_preds"

    def predictions(self, panel: Manifest, points: int) -> NDArray[np.float64]:
        """The archived spectra, float64 (M, L) in the panel's order; BadInput naming file and row."""
        return read_predictions(self.predictions_folder, panel, points=points)

    def event(self, kind: str) -> Mapping[str, Any]:
        """The last record of a kind since the run (or its last retry) began; empty where there is none."""
        begun = max((place for place, one in enumerate(self.events) if one.get("kind") == "opened"), default=0)
        return next((one for one in reversed(self.events[begun:]) if one.get("kind") == kind), {})

    @cached_property
    def started(self) -> str:
        """Time of the log's first event, empty without a log."""
        return str(self.events[0].get("time", "")) if self.events else ""


def read_run(folder: Path) -> RunRecord:
    """Read a run's folder. BadInput when there is no verdict, or when a file is not what its name says."""
    folder = Path(folder)
    verdict = _json(folder / "verdict.json")
    if not verdict:
        raise BadInput(
            "no verdict.json in this folder", file=folder, remedy="name a run's folder: one whose audit has ended"
        )
    name = str(_mapping(verdict.get("facts")).get("name") or Path(str(verdict.get("candidate", ""))).stem)
    evaluation = folder / PANEL_EVAL
    return RunRecord(
        folder=folder,
        verdict=verdict,
        summary=_json(evaluation / "panel_eval_summary.json"),
        plan=_json(folder / "plan.json"),
        training_plan=_json(folder / "training_plan.json"),
        provenance=_json(folder / "provenance.json"),
        inputs=_json(folder / INPUTS),
        per_spectrum=_table(evaluation / f"{name}_per_spectrum_metrics.csv", CAPTURE_COLUMNS),
        per_group=_table(evaluation / f"{name}_per_group_summary.csv", ("group_id",)),
        downstream=_json(evaluation / f"{name}_panel_preds" / "downstream_metrics.json"),
        jobs=_table(folder / "jobs.csv", ("job",)),
        curves=_curves(folder / "logs"),
        events=_events(folder / "audit.jsonl"),
        incumbent=_json(evaluation / "verdict_incumbent.json"),
    )


def write_inputs(folder: Path, corpus: Corpus, panel: Manifest, training: Manifest | None) -> dict[str, Any]:
    """Put the manifests (byte for byte) and the hashes of all data into the run's folder, as `inputs.json`; return it.

    What `replay` holds against the corpus and the manifests that it is given.
    """
    grid = corpus.wavelength_nm
    content = {
        "corpus": {
            "name": corpus.root.resolve().name,
            "sha256": corpus.sha256,
            "captures": len(corpus),
            "groups": int(corpus.captures["group_id"].nunique()),
            "wavelength_nm": [float(grid[0]), float(grid[-1])],
            "points": len(grid),
            "values": values_told(corpus),
            "generator": _json(corpus.root / "corpus.json") or None,
        },
        "panel": _put_manifest(panel, folder / PANEL_FILE),
        "training": _put_manifest(training, folder / TRAINING_FILE) if training is not None else None,
    }
    write_json(folder / INPUTS, content)
    return content


def _put_manifest(manifest: Manifest, target: Path) -> dict[str, Any]:
    if manifest.path is None:
        manifest = write_manifest(manifest.frame, target)
    else:
        with replacing(target) as temporary:
            shutil.copyfile(manifest.path, temporary)
    return {
        "file": f"{target.parent.name}/{target.name}",
        "rows": len(manifest),
        "unique": int(manifest.frame["relative_path"].nunique()),
        "groups": list(manifest.groups),
        "rows_sha256": manifest.rows_sha256,
        "bytes_sha256": manifest.bytes_sha256,
    }


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadInput(f"not JSON ({error})", file=path, remedy="restore the run's own file") from error
    if not isinstance(content, dict):
        raise BadInput("not a JSON object", file=path, remedy="restore the run's own file")
    return content


def _table(path: Path, columns: tuple[str, ...]) -> pd.DataFrame | None:
    if not path.exists() or not path.read_bytes().strip():  # a table of no rows may lack its header too
        return None
    try:
        table = pd.read_csv(path)
    except (ValueError, UnicodeDecodeError) as error:
        raise BadInput(f"not a CSV table ({error})", file=path, remedy="restore the run's own file") from error
    if missing := [name for name in columns if name not in table]:
        raise BadInput(f"no column {', '.join(missing)}", file=path, remedy="restore the run's own file")
    return table


def _curves(logs: Path) -> dict[str, pd.DataFrame]:
    found = {path.parent.name: _table(path, ("epoch",)) for path in sorted(logs.glob("*/metrics.csv"))}
    return {name: table for name, table in found.items() if table is not None and len(table)}


def _events(path: Path) -> tuple[Mapping[str, Any], ...]:
    """The audit log's records, for reading only: whether the chain holds is its verifier's business."""
    if not path.exists():
        return ()
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            found.append(_mapping(json.loads(line)))
        except ValueError:
            found.append({"text": "(a line that is not a record)"})
    return tuple(found)
