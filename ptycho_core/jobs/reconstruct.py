"""One LSQML reconstruction on a node, from a view's patterns and a flat start. The truth is no input of it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from ptycho_core.contract import read_dataset
from ptycho_core.inference import explained
from ptycho_core.lsqml import LsqmlOptions, reconstruct_patterns
from ptycho_core.metrics.masked import lit_mask
from ptycho_core.npz import write_arrays
from study_core.device import device_for
from study_core.files import peek_json, sha256_of, write_json
from study_core.job import Content, Context, Receipt, Request, Where
from study_core.plan import identity

RECONSTRUCTION, RECORD = "reconstruction.npz", "reconstruction.json"


class Reconstruct(Request):
    """`patterns` is a view's dataset; one that does not start flat is refused."""

    options: LsqmlOptions
    patterns: Content
    device: Where[str] = "auto"


class Reconstructed(Receipt):
    """`amplitude_ratio_to_start` is the mean amplitude over the lit pixels, of a start of 1."""

    reconstruction: Content
    record: Content
    num_epochs: int
    options: dict[str, Any]
    ptychi: str
    torch: str
    seconds: float
    final_loss: float
    deviance_ratio: float
    amplitude_ratio_to_start: float


def reconstruct(request: Reconstruct, context: Context) -> Reconstructed:
    """Write reconstruction.npz (object, offset in the frame, loss of each epoch); finished work is not repeated.

    Raises:
        BadInput: pty-chi is missing, or the patterns cannot be used.
        TrainingInterrupted: asked to stop.
    """
    folder, belongs_to = Path(context.folder), identity(request.identity())
    record = peek_json(folder / RECORD)
    if record is None or record.get("belongs_to") != belongs_to or not _whole(folder, record):
        record = _reconstruct(request, context, folder, belongs_to)
    return Reconstructed.model_validate({
        "reconstruction": Content.of(folder / RECONSTRUCTION), "record": Content.of(folder / RECORD),
        **{name: record[name] for name in Reconstructed.model_fields if name in record},
    })  # fmt: skip


def _whole(folder: Path, record: dict[str, Any]) -> bool:
    path = folder / RECONSTRUCTION
    return path.exists() and sha256_of(path) == record.get("output_sha256")


def _reconstruct(request: Reconstruct, context: Context, folder: Path, belongs_to: str) -> dict[str, Any]:
    data, begun = read_dataset(request.patterns.checked()), time.monotonic()
    done = reconstruct_patterns(
        data, request.options, device=device_for(request.device), progress=context.progress,
        should_stop=context.should_stop,
    )  # fmt: skip
    top, left, height, width = done.frame
    path = write_arrays(
        folder / RECONSTRUCTION,
        {
            "object": done.image[top : top + height, left : left + width],
            "offset": np.array([top, left], dtype=np.int64),
            "loss": np.array(done.loss),
        },
        {"options": request.options.model_dump(mode="json"), "view": data.metadata.view, "dose": data.metadata.dose},
    )
    record = {
        "belongs_to": belongs_to, "algorithm": "LSQML", "num_epochs": len(done.loss),
        "options": request.options.model_dump(mode="json"), **done.versions,
        "seconds": time.monotonic() - begun, "final_loss": done.loss[-1],
        "deviance_ratio": explained(done.image, data),
        "amplitude_ratio_to_start": float(np.abs(done.image[lit_mask(data)]).mean()),
        "output_sha256": sha256_of(path),
    }  # fmt: skip
    write_json(folder / RECORD, record)
    return record
