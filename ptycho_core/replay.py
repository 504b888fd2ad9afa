"""Replay: metrics and verdict computed again from the archived images and the truth, and what differs.

What travels is small: `aligned_<arm>.npz`, truth, metrics.json, the manifests, verdict.json. No network, no pattern and
no solver is needed; ratios of deviance need the patterns outside the lit region too, and are taken as recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ptycho_core.evaluation.cells import Cell
from ptycho_core.evaluation.gates import judge_study
from ptycho_core.evaluation.thresholds import StudyThresholds
from ptycho_core.jobs.compare import METRICS, TRUTH, image_files
from ptycho_core.metrics.scores import scores
from ptycho_core.npz import read_arrays
from ptycho_core.report.record import StudyRecord, read_study
from study_core.bundles import unpacked
from study_core.errors import BadInput
from study_core.files import peek_json, sha256_of
from study_core.replay import Comparison, Replay

RELATIVE, ABSOLUTE = 1e-6, 1e-9
RATIO_RELATIVE = 1e-5
"""Of an amplitude whose image went through single precision and a fitted scale once more."""


def replay_bundle(corpus: Path | None = None, bundle: Path = Path(".")) -> Replay:
    """The same of a run's bundle (zip or folder). The study simulates its data: `corpus` is not looked at.

    Raises:
        BadInput: as `replay_hub`, and where the bundle is none.
    """
    with unpacked(bundle) as folder:
        return replay_hub(folder / "hub")


def replay_hub(hub: Path) -> Replay:
    """Compute every compared cell of a hub again, then its verdict with the recorded thresholds.

    Raises:
        BadInput: no study, nothing compared, or no verdict on record.
    """
    study = read_study(hub)
    recorded = peek_json(study.layout.verdict)
    if not isinstance(recorded, dict):
        raise BadInput("no verdict on record", file=study.layout.verdict, remedy="run summary first")
    ledger = Comparison(RELATIVE, ABSOLUTE)
    for cell in study.cells:
        if cell.state == "lost":
            ledger.notes.append(f"{cell.name}: {cell.reason}")
        elif cell.state == "compared":
            _cell(study, cell, ledger)
    _verdict(study, recorded, ledger)
    return ledger.outcome(f"relative tolerance {RELATIVE:g}")


def _cell(study: StudyRecord, cell: Cell, ledger: Comparison) -> None:
    folder = study.layout.comparison(cell.dose, cell.view)
    where = f"{folder.relative_to(study.layout.hub).as_posix()}/{METRICS}"
    for name, file in image_files(dict(cell.record)).items():
        try:
            ledger.exact(file, "sha256", cell.record["images"].get(name), sha256_of(folder / file))
        except OSError:
            ledger.exact(f"{where}, {file}", "file", "there", "missing")
    try:
        archived = read_arrays(folder / TRUTH)[0]
        truth, mask = _framed(archived, archived["object"]), _framed(archived, archived["mask"].astype(bool))
    except (BadInput, KeyError, ValueError) as error:
        ledger.notes.append(f"{where}: no truth to compare with ({error})")
        return
    _against_truth(study, cell, truth, mask, ledger)
    for row in cell.record["arms"]:
        if row["numbers"]:
            _row(study, cell, row, np.where(mask, truth, 1), mask, f"{where}, {row['name']}", ledger)


def _against_truth(
    study: StudyRecord, cell: Cell, archived: Any, mask: Any, ledger: Comparison
) -> None:  # fmt: skip
    """The archived truth is a part of the study's own, where that is there."""
    path = study.layout.truth(cell.dose)
    if not path.exists():
        ledger.notes.append(f"{cell.name}: no {path.name}; the archived copy of the truth was used")
        return
    whole = read_arrays(path)[0]["objectTruth"]
    ledger.exact(f"{cell.name}, {TRUTH}", "pixels that differ from truth.npz", 0, int((whole != archived)[mask].sum()))


def _framed(archived: Mapping[str, Any], part: Any) -> Any:
    """An archived part at its place on the whole frame, zeros around it."""
    frame = np.zeros(tuple(archived["frame"]), part.dtype)
    top, left = (int(value) for value in archived["offset"])
    frame[top : top + part.shape[0], left : left + part.shape[1]] = part
    return frame


def _row(
    study: StudyRecord, cell: Cell, row: Mapping[str, Any], truth: Any, mask: Any, where: str, ledger: Comparison
) -> None:  # fmt: skip
    try:
        arrays = read_arrays(study.layout.comparison(cell.dose, cell.view) / f"aligned_{row['name']}.npz")[0]
        image = _framed(arrays, arrays["object"])
        again = scores(image, truth, mask, study.design.metrics)
    except (BadInput, KeyError, ValueError) as error:
        ledger.exact(where, "image", "readable", str(error))
        return
    for name, value in again.numbers.items():
        ledger.close(where, name, row["numbers"].get(name), value)
    ledger.close(where, "scale", row["numbers"].get("scale"), float(arrays["scale"]))
    ratio = float(np.abs(image[mask]).mean() / np.abs(truth[mask]).mean() / arrays["scale"])
    ledger.close(where, "amplitude_ratio", row["numbers"].get("amplitude_ratio"), ratio, relative=RATIO_RELATIVE)
    ledger.close(where, "ring correlation, mean", float(np.mean(row["rings"]["phase"])),
                 float(again.phase_rings.correlation.mean()))  # fmt: skip


def _verdict(study: StudyRecord, recorded: Mapping[str, Any], ledger: Comparison) -> None:
    thresholds = StudyThresholds.model_validate(recorded["thresholds"])
    again = judge_study(study.design, study.evidence, thresholds).record()
    ledger.exact("verdict.json", "design_sha256", recorded["design_sha256"], again["design_sha256"])
    ledger.exact("verdict.json", "passed", recorded["passed"], again["passed"])
    if "changed_thresholds" in recorded:
        ledger.exact("verdict.json", "changed_thresholds", recorded["changed_thresholds"], again["changed_thresholds"])
    ledger.exact("verdict.json", "number of rules", len(recorded["gates"]), len(again["gates"]))
    for old, new in zip(recorded["gates"], again["gates"], strict=False):
        name = f"verdict.json, {old['gate']} {old.get('slice') or ''}".strip()
        ledger.exact(name, f"{old['metric']} passed", old["passed"], new["passed"])
        ledger.close(name, str(old["metric"]), old["value"], new["value"])
