"""The contract of a dataset: every rule that a file of patterns must keep before anything is computed from it.

`validate_dataset_contract` is pure: it looks at the mapping it is given and at nothing else. `read_dataset` opens a
file, holds it to the contract's structure and hands out typed arrays.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from ptycho_core.design import ALL, Split, StudyDesign
from ptycho_core.forward import BATCH
from ptycho_core.grouping import EPSILON, nearest_spacing
from ptycho_core.npz import METADATA, read_arrays
from study_core.errors import BadInput
from study_core.plan import Frozen

AMPLITUDE_LIMIT = 10.0
COUNT_TOLERANCE = 1e-3
FLOAT_EPSILON = 4e-7
"""Relative error of a count that went through float32 amplitude and back."""
GENERATE_AGAIN = "run generate again"
_SHAPES: dict[str, tuple[str, int]] = {
    "diffraction": ("float32", 3), "xcoords": ("float64", 1), "ycoords": ("float64", 1),
    "probeGuess": ("complex64", 2), "objectGuess": ("complex64", 2), "scan_index": ("int64", 1),
}  # fmt: skip


class Metadata(Frozen):
    """What a dataset says of itself."""

    design_sha256: str
    """Of `StudyDesign.for_data(dose)`."""
    dose: float
    s: float
    """Scale: amplitude = sqrt(counts) / s."""
    split: Split | Literal["all"]
    view: str
    split_row: int
    guard_px: int
    seeds: dict[str, int]
    branch: str
    transforms: tuple[str, ...]


@dataclass(frozen=True)
class Dataset:
    """Patterns as they are computed with. n patterns, g groups of C rows; without groups each pattern is its own."""

    diffraction: NDArray[np.float32]
    y: NDArray[np.int64]
    x: NDArray[np.int64]
    probe: NDArray[np.complex64]
    flat: NDArray[np.complex64]
    scan_index: NDArray[np.int64]
    groups: NDArray[np.int64]
    metadata: Metadata

    @property
    def s2(self) -> float:
        """Rates are s2 times the far-field intensity."""
        return self.metadata.s**2

    def counts_of(self, rows: NDArray[np.int64]) -> NDArray[np.int32]:
        """Photon counts of some patterns (len(rows), N, N), DC centred."""
        return np.asarray(np.rint((self.diffraction[rows] * np.float64(self.metadata.s)) ** 2), dtype=np.int32)

    def counts(self) -> NDArray[np.int32]:
        """Photon counts of all patterns (n, N, N)."""
        result = np.empty(self.diffraction.shape, np.int32)
        for start in range(0, len(result), BATCH):
            rows = np.arange(start, min(start + BATCH, len(result)))
            result[rows] = self.counts_of(rows)
        return result


def read_dataset(path: Path, *, truth_allowed: bool = False) -> Dataset:
    """A dataset whose structure, numbers and flat start were checked; the study's own rules need its design.

    Raises:
        BadInput: naming file, key and next step.
    """
    arrays, metadata = read_arrays(path)
    try:
        _check_numbers(arrays, parsed := _parsed(metadata), truth_allowed)
    except BadInput as error:
        raise BadInput(error.what, file=path, row=error.row, remedy=error.remedy) from None
    n = len(arrays["diffraction"])
    return Dataset(
        diffraction=arrays["diffraction"],
        y=arrays["ycoords"].astype(np.int64),
        x=arrays["xcoords"].astype(np.int64),
        probe=arrays["probeGuess"],
        flat=arrays["objectGuess"],
        scan_index=arrays["scan_index"],
        groups=arrays.get("groups", np.arange(n, dtype=np.int64)[:, None]),
        metadata=parsed,
    )


def singles(data: Dataset) -> Dataset:
    """The same patterns, each its own group."""
    return replace(data, groups=np.arange(len(data.y), dtype=np.int64)[:, None])


def validate_dataset_contract(
    data: Mapping[str, Any],
    *,
    split: Split,
    view: str | None,
    gridsize: int,
    design: StudyDesign,
    truth_allowed: bool = False,
) -> None:
    """Hold a dataset (arrays, and `metadata` as uint8 JSON or as a mapping) to every rule of the study.

    `view` None or `baseline` is every position of the split; `truth_allowed` lets `objectGuess` be something else than
    the flat start.

    Raises:
        BadInput: the first rule that is broken, with key or row, what was found and what to do.
    """
    if METADATA not in data:
        raise BadInput("key metadata is missing", remedy=GENERATE_AGAIN)
    arrays = {name: value for name, value in data.items() if name != METADATA}
    metadata = _parsed(data[METADATA])
    _check_numbers(arrays, metadata, truth_allowed)
    if design.neighbors < gridsize**2:
        raise BadInput(f"K = {design.neighbors} < C = {gridsize**2}", remedy="raise neighbors")
    n = arrays["diffraction"].shape[1]
    if n != design.N:
        raise BadInput(f"patterns of {n} px, the design says N = {design.N}", remedy="use the hub of this design")
    if metadata.design_sha256 != design.for_data(metadata.dose).sha256():
        raise BadInput("made for another study design", remedy="use another --hub, or " + GENERATE_AGAIN)
    if metadata.view != (view or ALL):
        raise BadInput(f"holds view {metadata.view}, expected {view or ALL}", remedy="name the right file")
    _check_split(arrays["ycoords"], metadata, split, design)
    _check_groups(arrays, view or ALL, gridsize, design)


def _parsed(raw: Any) -> Metadata:
    try:
        fields = raw if isinstance(raw, Mapping) else json.loads(np.asarray(raw).tobytes())
        return Metadata.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadInput(f"metadata: {where}: {first['msg'].lower()}", remedy=GENERATE_AGAIN) from None
    except (ValueError, TypeError):
        raise BadInput("key metadata is not JSON bytes", remedy=GENERATE_AGAIN) from None


def _check_numbers(arrays: Mapping[str, Any], metadata: Metadata, truth_allowed: bool) -> None:
    """Keys, dtypes, shapes, and everything that needs no design."""
    for key, (dtype, dimensions) in _SHAPES.items():
        if key not in arrays:
            raise BadInput(f"key {key} is missing", remedy=GENERATE_AGAIN)
        found = np.asarray(arrays[key])
        if str(found.dtype) != dtype or found.ndim != dimensions:
            what = f"key {key}: got {found.dtype} with {found.ndim} axes, expected {dtype} with {dimensions}"
            raise BadInput(what, remedy=GENERATE_AGAIN)
        if not np.isfinite(found).all():
            row = int(np.argwhere(~np.isfinite(found))[0][0])
            raise BadInput(f"key {key} holds NaN or infinity", row=row, remedy=GENERATE_AGAIN)
    _check_shapes(arrays)
    _check_amplitude(arrays["diffraction"], metadata)
    _check_positions(arrays)
    total = float((np.abs(arrays["probeGuess"].astype(np.complex128)) ** 2).sum())
    if abs(total - 1) > 1e-5:
        raise BadInput(f"key probeGuess: sum of abs² is {total:.6g}, expected 1", remedy="normalise the probe")
    if not truth_allowed and not (arrays["objectGuess"] == 1).all():
        raise BadInput("key objectGuess is not flat: a reconstruction must start flat",
                       remedy="store ones; the truth belongs into truth.npz")  # fmt: skip


def _check_shapes(arrays: Mapping[str, Any]) -> None:
    n, height, width = arrays["diffraction"].shape
    if n == 0 or height != width or height % 2:
        raise BadInput(f"key diffraction: got {(n, height, width)}, expected (n, N, N), N even", remedy=GENERATE_AGAIN)
    if arrays["probeGuess"].shape != (height, height):
        probe = arrays["probeGuess"].shape
        raise BadInput(f"key probeGuess: got {probe}, expected {(height, height)}", remedy=GENERATE_AGAIN)
    for key in ("xcoords", "ycoords", "scan_index"):
        if len(arrays[key]) != n:
            raise BadInput(f"key {key}: {len(arrays[key])} rows for {n} patterns", remedy=GENERATE_AGAIN)
    steps = np.diff(arrays["scan_index"])
    if (steps <= 0).any():
        raise BadInput("key scan_index does not increase", row=int(np.argmax(steps <= 0)) + 1, remedy=GENERATE_AGAIN)


def _check_amplitude(amplitude: NDArray[np.float32], metadata: Metadata) -> None:
    """Amplitude, not intensity: scaled back and squared it is whole photons, and as many as the dose says."""
    store = "store sqrt(k)/s"
    if (amplitude < 0).any():
        raise BadInput("key diffraction is negative", row=int(np.argwhere(amplitude < 0)[0][0]), remedy=store)
    if amplitude.max() >= AMPLITUDE_LIMIT:
        raise BadInput(f"diffraction looks like counts: largest value {amplitude.max():.4g}", remedy=store)
    totals = np.empty(len(amplitude))
    for start in range(0, len(amplitude), BATCH):
        photons = (amplitude[start : start + BATCH] * np.float64(metadata.s)) ** 2
        error = np.abs(photons - np.rint(photons)) - np.maximum(COUNT_TOLERANCE, FLOAT_EPSILON * photons)
        if (error > 0).any():
            row = start + int(np.argwhere(error > 0)[0][0])
            raise BadInput("diffraction looks like intensity: (s · diffraction)² is not whole", row=row, remedy=store)
        totals[start : start + BATCH] = photons.sum(axis=(1, 2))
    spread = float(np.sqrt(totals.var() / _independent(len(totals)) + metadata.dose / len(totals)))
    if abs(totals.mean() - metadata.dose) > 5 * spread:
        what = f"mean total is {totals.mean():.5g} photons, expected {metadata.dose:g} within {5 * spread:.2g}"
        raise BadInput(what, remedy=GENERATE_AGAIN)


def _independent(patterns: int) -> float:
    """Patterns of a scan overlap and see the same object: about one in nine says something of its own."""
    return max(1.0, patterns / 9)


def _check_positions(arrays: Mapping[str, Any]) -> None:
    half = arrays["diffraction"].shape[1] // 2
    for key, extent in zip(("ycoords", "xcoords"), arrays["objectGuess"].shape, strict=True):
        values = arrays[key]
        broken = values != np.rint(values)
        if broken.any():
            row = int(np.argmax(broken))
            raise BadInput(f"key {key}: {values[row]:.6g} is not a whole pixel", row=row, remedy="run generate")
        outside = (values < half) | (values > extent - half)
        if outside.any():
            row = int(np.argmax(outside))
            what = f"key {key}: the patch at {values[row]:.0f} leaves the object of {extent} px"
            raise BadInput(what, row=row, remedy=GENERATE_AGAIN)


def _check_split(ys: NDArray[np.float64], metadata: Metadata, split: Split, design: StudyDesign) -> None:
    if metadata.split != split:
        raise BadInput(f"holds split {metadata.split}, expected {split}", remedy="name the right file")
    if metadata.guard_px < design.N:
        raise BadInput(f"guard {metadata.guard_px} px < N = {design.N}", remedy=GENERATE_AGAIN)
    half = design.N // 2
    crossing = ys + half > metadata.split_row if split == "train" else ys - half < metadata.split_row
    if crossing.any():
        row = int(np.argmax(crossing))
        what = f"the {split} patch at y {ys[row]:.0f} crosses the cut at row {metadata.split_row}"
        raise BadInput(what, row=row, remedy=GENERATE_AGAIN)


def _check_groups(arrays: Mapping[str, Any], view: str, gridsize: int, design: StudyDesign) -> None:
    n, size = len(arrays["diffraction"]), gridsize**2
    if view == ALL:
        if "groups" in arrays:
            raise BadInput("key groups in a dataset of all positions", remedy="name the view")
        return
    spacing = design.spacing(view)
    if "groups" not in arrays:
        raise BadInput("key groups is missing", remedy="run overlap again")
    groups = np.asarray(arrays["groups"])
    if str(groups.dtype) != "int64" or groups.ndim != 2 or groups.shape[1] != size:
        what = f"key groups: got {groups.dtype} {groups.shape}, expected int64 (g, {size})"
        raise BadInput(what, remedy="run overlap again")
    outside = ((groups < 0) | (groups >= n)).any(axis=1)
    if outside.any():
        raise BadInput(f"a group names a row outside 0..{n - 1}", row=int(np.argmax(outside)), remedy="run overlap")
    unsorted = (np.diff(groups, axis=1) <= 0).any(axis=1)
    if unsorted.any():
        raise BadInput("a group is unsorted or repeats a row", row=int(np.argmax(unsorted)), remedy="run overlap")
    if len(np.unique(groups)) != n:
        raise BadInput(f"{n - len(np.unique(groups))} patterns are in no group", remedy="run overlap again")
    centres = np.stack([arrays["ycoords"], arrays["xcoords"]], axis=1)[groups].mean(axis=1)
    nearest = nearest_spacing(centres)
    if nearest.min(initial=np.inf) < spacing - EPSILON:
        row = int(np.argmin(nearest))
        what = f"group centres {nearest[row]:.4g} px apart, the view {view} needs {spacing:.4g}"
        raise BadInput(what, row=row, remedy="run overlap again")
