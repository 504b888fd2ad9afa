"""One cell compared on a node: rows of numbers and aligned images. Verdicts are made elsewhere, from the numbers."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np

from ptycho_core.comparison import ArmName, ArmResult, Cell, Source, compare_cell, open_cell, row_record
from ptycho_core.contract import read_dataset
from ptycho_core.design import MetricsDesign
from ptycho_core.metrics.masked import lit_mask
from ptycho_core.npz import write_arrays
from study_core.device import device_for
from study_core.errors import TrainingInterrupted
from study_core.files import peek_json, sha256_of, write_json, write_text
from study_core.job import Content, Context, Receipt, Request, Where
from study_core.paths import Name
from study_core.plan import Frozen, identity

METRICS, TABLE, TRUTH = "metrics.json", "metrics.csv", "aligned_truth.npz"


class ArmFile(Frozen):
    """An arm of the cell: its bundle or reconstruction, or why there is none."""

    arm: ArmName
    seed: int = 0
    file: Content | None = None
    missing: str = ""


class Compare(Request):
    """`test` holds the view's patterns, `field` every pattern of the test half (the lit share is taken of it)."""

    dose: float
    view: Name
    metrics: MetricsDesign
    lit_energy: float
    test: Content
    field: Content
    truth: Content
    arms: tuple[ArmFile, ...]
    device: Where[str] = "auto"


class Compared(Receipt):
    """`metrics` and `table` hold the rows; `images` the aligned objects by the arm's name, the truth among them."""

    dose: float
    view: Name
    metrics: Content
    table: Content
    images: dict[str, Content]
    n_success: int
    n_failed: int


def compare(request: Compare, context: Context) -> Compared:
    """Write metrics.json, metrics.csv and `aligned_<arm>.npz`; a cell that is whole already is not computed again.

    Raises:
        BadInput: patterns or truth cannot be used, or the lit region is too small for the metrics.
        TrainingInterrupted: asked to stop between two arms.
    """
    folder, belongs_to = Path(context.folder), identity(request.identity())
    record = peek_json(folder / METRICS)
    if record is None or record.get("belongs_to") != belongs_to or not _whole(folder, record):
        record = _compare(request, context, folder, belongs_to)
    statuses = [row["status"] for row in record["arms"]]
    return Compared(
        dose=request.dose, view=request.view,
        metrics=Content.of(folder / METRICS), table=Content.of(folder / TABLE),
        images={name: Content.of(folder / file) for name, file in image_files(record).items()},
        n_success=statuses.count("success"), n_failed=statuses.count("failed"),
    )  # fmt: skip


def image_files(record: dict[str, Any]) -> dict[str, str]:
    """File of the truth and of each arm that has an image."""
    return {"truth": TRUTH, **{row["name"]: f"aligned_{row['name']}.npz" for row in record["arms"] if row["numbers"]}}


def _whole(folder: Path, record: dict[str, Any]) -> bool:
    files = image_files(record)
    return (folder / TABLE).exists() and all(
        (folder / file).exists() and sha256_of(folder / file) == record["images"].get(name)
        for name, file in files.items()
    )


def _compare(request: Compare, context: Context, folder: Path, belongs_to: str) -> dict[str, Any]:
    data = read_dataset(request.test.path)
    cell = open_cell(data, request.truth.path, request.lit_energy)
    everywhere = int(lit_mask(read_dataset(request.field.path), request.lit_energy).sum())
    _write_truth(folder, cell)
    sources = [Source(arm.arm, arm.seed, arm.file.path if arm.file else None, arm.missing) for arm in request.arms]
    rows = []
    for result in compare_cell(
        cell, sources, request.metrics, device=device_for(request.device), progress=context.progress
    ):
        _write_image(folder, cell, result)
        rows.append(row_record(result))
        if context.should_stop() and len(rows) < len(sources):
            raise TrainingInterrupted(f"stopped after {len(rows)} of {len(sources)} arms")
    lit = int(cell.mask.sum())
    record = {
        "belongs_to": belongs_to, "dose": request.dose, "view": request.view,
        "n_images": len(data.y), "n_groups": len(data.groups) if data.groups.shape[1] > 1 else None,
        "lit_px": lit, "field_lit_px": everywhere, "lit_fraction": lit / everywhere,
        "shared_pixels": cell.shared_pixels, "metrics": request.metrics.model_dump(mode="json"), "arms": rows,
    }  # fmt: skip
    record["images"] = {name: sha256_of(folder / file) for name, file in image_files(record).items()}
    write_text(folder / TABLE, _table(request, rows))
    write_json(folder / METRICS, record)
    return record


def _place(cell: Cell) -> dict[str, Any]:
    """Where an image lies on the patterns' frame; scores depend on it by the grid of the coarser levels."""
    rows, columns = cell.box
    return {
        "mask": cell.mask[cell.box], "offset": np.array([rows.start, columns.start], dtype=np.int64),
        "frame": np.array(cell.mask.shape, dtype=np.int64),
    }  # fmt: skip


def _write_truth(folder: Path, cell: Cell) -> None:
    """The truth where it was lit, and nowhere else."""
    lit = np.where(cell.mask, cell.truth, np.complex64(complex(np.nan, np.nan)))[cell.box]
    write_arrays(folder / TRUTH, {"object": lit.astype(np.complex64), **_place(cell)})


def _write_image(folder: Path, cell: Cell, result: ArmResult) -> None:
    if result.image is None:
        return
    arrays = {
        "object": result.image, **_place(cell), "scale": np.array(result.scale), "shift": np.array(result.shift_yx),
    }  # fmt: skip
    write_arrays(folder / f"aligned_{result.source.name}.npz", arrays)


def _table(request: Compare, rows: list[dict[str, Any]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row["numbers"]))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["dose", "view", "arm", "seed", "status", "reason", *names])
    for row in rows:
        figures = [row["numbers"].get(name) for name in names]
        head = [f"{request.dose:g}", request.view, row["arm"], row["seed"], row["status"], row["reason"] or ""]
        writer.writerow([*head, *("" if value is None else repr(value) for value in figures)])
    return text.getvalue()
