"""One cell (dose, view) of the study: every arm's image of the same patterns against the truth, over one mask.

The only phase that opens the test half's truth. An arm that is missing or cannot be read is an empty row with its
reason; it never takes the others with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ptycho_core.contract import Dataset
from ptycho_core.design import MetricsDesign
from ptycho_core.metrics.frc import RingCorrelation
from ptycho_core.metrics.masked import bounding_box, lit_mask
from ptycho_core.metrics.scores import aligned_to, scores
from ptycho_core.npz import read_arrays
from study_core.errors import BadInput

ArmName = Literal["PtychoPINN", "PtychoPINN-gs1", "Baseline", "PtyChi", "flat"]
ARMS: tuple[ArmName, ...] = ("PtychoPINN", "PtychoPINN-gs1", "Baseline", "PtyChi", "flat")
PINN, GS1, SUPERVISED, LSQML, FLAT = ARMS
Complex = NDArray[np.complex64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Source:
    """Where an arm's image comes from: a bundle, a reconstruction, nothing for `flat`; or why there is none."""

    arm: ArmName
    seed: int = 0
    file: Path | None = None
    missing: str = ""

    @property
    def name(self) -> str:
        """For files and people: `PtychoPINN`, `PtychoPINN_seed1`."""
        return self.arm + (f"_seed{self.seed}" if self.seed else "")


@dataclass(frozen=True)
class Cell:
    """What every arm of a cell shares: the patterns, the truth (H, W), the lit mask."""

    data: Dataset
    truth: Complex
    mask: Mask
    shared_pixels: int
    """Lit pixels that a pattern of the train half saw as well: 0, or the split leaks."""

    @property
    def box(self) -> tuple[slice, slice]:
        return bounding_box(self.mask)


@dataclass(frozen=True)
class ArmResult:
    """One row. `image` is aligned, on the cell's box; numbers are empty where `reason` says why."""

    source: Source
    reason: str = ""
    numbers: dict[str, float] = field(default_factory=dict)
    rings: tuple[RingCorrelation, RingCorrelation] | None = None
    image: Complex | None = None
    scale: float = float("nan")
    shift_yx: tuple[float, float] = (float("nan"), float("nan"))


def open_cell(data: Dataset, truth_path: Path, lit_energy: float) -> Cell:
    """Open the truth beside the patterns. Raises BadInput where it is not of their frame."""
    arrays, _ = read_arrays(truth_path)
    truth, train = arrays.get("objectTruth"), arrays.get("train_pixels")
    if truth is None or train is None or truth.shape != data.flat.shape or train.shape != truth.shape:
        raise BadInput("holds no truth of the patterns' frame", file=truth_path, remedy="run generate again")
    mask = lit_mask(data, lit_energy)
    return Cell(data, truth.astype(np.complex64), mask, int((mask & train.astype(bool)).sum()))


def compare_cell(
    cell: Cell, sources: Sequence[Source], design: MetricsDesign, *, device: str = "cpu",
    progress: Callable[..., None] = lambda **fields: None,
) -> Iterator[ArmResult]:  # fmt: skip
    """The row of each source, in their order.

    Raises:
        BadInput: the lit region is too small for the metrics, which no arm could mend.
    """
    for number, source in enumerate(sources):
        progress(done=number, total=len(sources), stage=source.name)
        yield _row(cell, source, design, device)
    progress(done=len(sources), total=len(sources), stage="done")


def _row(cell: Cell, source: Source, design: MetricsDesign, device: str) -> ArmResult:
    if source.missing:
        return ArmResult(source, source.missing)
    try:
        image, extra = arm_image(source, cell.data, device)
    except BadInput as error:
        return ArmResult(source, str(error))
    if not np.isfinite(image).all():
        return ArmResult(source, "the image is not finite")
    found = aligned_to(image, cell.truth, cell.mask)
    scored = scores(found.image, cell.truth, cell.mask, design)
    numbers = {
        **scored.numbers, **extra, **explained_by(image, cell.data),
        "amplitude_ratio": amplitude_ratio(image, cell.truth, cell.mask),
        "scale": found.scale,
    }  # fmt: skip
    if source.arm != FLAT:  # which has nothing to be registered by
        numbers["shift"] = max(abs(value) for value in found.shift_yx)
    kept = np.ascontiguousarray(found.image[cell.box], dtype=np.complex64)
    rings = (scored.phase_rings, scored.amplitude_rings)
    reason = ""
    if numbers.get("shift", 0) > cell.data.probe.shape[0] / 4:
        reason = f"lies {numbers['shift']:.1f} px from the truth: not the same object"
    return ArmResult(source, reason, numbers, rings, kept, found.scale, found.shift_yx)


def arm_image(source: Source, data: Dataset, device: str = "cpu") -> tuple[Complex, dict[str, float]]:
    """(the arm's object on the dataset's frame, what else it knows of itself).

    Raises:
        BadInput: its file is missing, damaged, or of other patterns.
    """
    if source.arm == FLAT:
        from ptycho_core.inference import flat_object

        return flat_object(data), {}
    if source.file is None:
        raise BadInput(f"{source.name} has no file", remedy="run train and reconstruct")
    if source.arm == LSQML:
        return reconstructed(source.file, data), {}
    from ptycho_core.bundle import read_bundle
    from ptycho_core.inference import stitch

    stitched = stitch(read_bundle(source.file, device), data, device)
    return stitched.image, {"deviance_ratio_patch": stitched.deviance_ratio_patch}


def reconstructed(path: Path, data: Dataset) -> Complex:
    """A reconstruction on the dataset's frame. Raises BadInput where it does not fit."""
    arrays, _ = read_arrays(path)
    image, offset = arrays.get("object"), arrays.get("offset")
    if image is None or offset is None or image.ndim != 2 or offset.shape != (2,):
        raise BadInput("keys object and offset are not a reconstruction's", file=path, remedy="run reconstruct again")
    top, left = (int(value) for value in offset)
    height, width = image.shape
    if top < 0 or left < 0 or top + height > data.flat.shape[0] or left + width > data.flat.shape[1]:
        raise BadInput("the object leaves the frame of the patterns", file=path, remedy="run reconstruct again")
    frame: Complex = data.flat.copy()
    frame[top : top + height, left : left + width] = image
    return frame


def explained_by(image: Complex, data: Dataset) -> dict[str, float]:
    """The stitched deviance ratio of an object."""
    from ptycho_core.inference import explained

    return {"deviance_ratio": explained(image, data)}


def amplitude_ratio(image: NDArray[np.complexfloating], truth: Complex, mask: Mask) -> float:
    """Mean amplitude over the truth's, before any scale was fitted: 1 where the absolute scale was kept."""
    return float(np.abs(image[mask]).mean() / np.abs(truth[mask]).mean())


def row_record(result: ArmResult) -> dict[str, Any]:
    """A row for metrics.json: numbers that are not finite are null."""
    source, rings = result.source, result.rings
    return {
        "arm": source.arm, "seed": source.seed, "name": source.name,
        "status": "missing" if source.missing else "failed" if result.reason else "success",
        "reason": result.reason or None,
        "numbers": {name: value if np.isfinite(value) else None for name, value in result.numbers.items()},
        "shift_yx": list(result.shift_yx) if np.isfinite(result.shift_yx).all() else None,
        "rings": None if rings is None else {
            "frequency": rings[0].frequency.tolist(), "phase": rings[0].correlation.tolist(),
            "amplitude": rings[1].correlation.tolist(), "blocks": rings[0].blocks,
        },
    }  # fmt: skip
