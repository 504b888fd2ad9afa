"""What a study starts from: object, probe and positions, by the study's own formulas or from a base .npz.

A base file has probeGuess (N, N), objectGuess (H, W), xcoords, ycoords (n,); complex128 is accepted, other keys
(`*_start`, diffraction) are ignored. It is only read, never copied into the hub.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho_core.design import BaseDesign, StudyDesign
from ptycho_core.npz import read_arrays
from ptycho_core.objects import synthetic_object
from ptycho_core.probes import lens, normalised, probe_facts
from ptycho_core.scan import Scan, file_scan, frame, grid_scan
from study_core.errors import BadInput
from study_core.files import sha256_of

AMPLITUDE_MAX = 1.2
"""Of a transmission: what the network's output can reach."""


@dataclass(frozen=True)
class Base:
    """Object (H, W), probe (N, N), scan, and what was done to get them."""

    image: NDArray[np.complex64]
    probe: NDArray[np.complex64]
    scan: Scan
    transforms: tuple[str, ...]


def with_base(design: StudyDesign, path: Path, *, image: str = "file", scan: str = "design", tile: bool = False
              ) -> StudyDesign:  # fmt: skip
    """The design that starts from a file: named by its hash, so that another file is another study.

    Raises:
        BadInput: no such file, options that do not go together, or a file that cannot be used (see `make_base`): so
            it is known before a hub is claimed or a job is sent.
    """
    if not path.is_file():
        raise BadInput("no such file", file=path, remedy="check --base-npz")
    base = BaseDesign.model_validate({"sha256": sha256_of(path), "object": image, "scan": scan, "tile": tile})
    based = StudyDesign.model_validate({**design.model_dump(), "base": base.model_dump()})
    make_base(based, path)
    return based


def make_base(design: StudyDesign, base_npz: Path | None = None) -> Base:
    """Object, probe and scan of a design.

    Raises:
        BadInput: the base file is missing, not the one of the design, or cannot be used; file, key and next step.
    """
    if not design.base.sha256:
        scan = grid_scan(design)
        return Base(synthetic_object(frame(design), design.seeds.object), lens(design.N, design.probe), scan, ())
    if base_npz is None:
        raise BadInput("this study starts from a base file", remedy="give it with --base-npz")
    if (found := sha256_of(base_npz) if base_npz.is_file() else "") and found != design.base.sha256:
        what = f"sha256 is {found[:12]}, the study was designed for {design.base.sha256[:12]}"
        raise BadInput(what, file=base_npz, remedy="use the same file, or another --hub")
    try:
        return _from_file(design, read_arrays(base_npz, remedy="store it with numpy.savez")[0])
    except BadInput as error:
        raise BadInput(error.what, file=error.file or base_npz, row=error.row, remedy=error.remedy) from None


def _from_file(design: StudyDesign, arrays: dict[str, NDArray[Any]]) -> Base:
    probe = normalised(_probe(arrays, design.N))
    transforms = [f"probe of the base file, normalised: {probe_facts(probe, design.lit_energy).sentence()}"]
    scan = grid_scan(design)
    if design.base.scan == "file":
        ys, xs = (_array(arrays, key, 1) for key in ("ycoords", "xcoords"))
        if len(ys) != len(xs):
            raise BadInput(f"{len(ys)} ycoords, {len(xs)} xcoords", remedy="use a file with one row a position")
        scan = file_scan(ys.astype(np.float64), xs.astype(np.float64), design)
        _inside(scan, design.N)
    if design.base.object == "synthetic":
        shape = frame(design) if design.base.scan == "design" else _reach(scan, design.N)
        return Base(synthetic_object(shape, design.seeds.object), probe, scan, tuple(transforms))
    image, done = _object(arrays, scan, design)
    return Base(image, probe, scan, (*transforms, *done))


def _array(arrays: dict[str, NDArray[Any]], key: str, dimensions: int) -> NDArray[Any]:
    if key not in arrays:
        raise BadInput(f"key {key} is missing", remedy="a base file has probeGuess, objectGuess, xcoords, ycoords")
    array = arrays[key]
    if array.dtype.kind not in ("c" if dimensions == 2 else "fiu") or array.ndim != dimensions:
        kind = "complex" if dimensions == 2 else "real"
        what = f"key {key}: got {array.dtype} {array.shape}, expected {kind} with {dimensions} axes"
        raise BadInput(what, remedy="store one plain array under this key")
    if not np.isfinite(array).all():
        row = int(np.argwhere(~np.isfinite(array))[0][0])
        raise BadInput(f"key {key} holds NaN or infinity", row=row, remedy="mend the base file")
    return array


def _probe(arrays: dict[str, NDArray[Any]], n: int) -> NDArray[Any]:
    probe = _array(arrays, "probeGuess", 2)
    height, width = probe.shape
    if height != width:
        raise BadInput(f"key probeGuess: {height} x {width} is not square", remedy="crop it to a square")
    if height % 2:
        raise BadInput(f"key probeGuess: side {height} is odd", remedy="pad or crop it by one pixel")
    if height != n:
        raise BadInput(f"key probeGuess: {height} x {width}, the design says N = {n}", remedy="choose another --size")
    if not np.abs(probe).any():
        raise BadInput("key probeGuess is zero everywhere", remedy="use a file with a probe")
    return probe


def _inside(scan: Scan, n: int) -> None:
    """Whether every patch begins inside the object; where it must end is the object's own check."""
    outside = (np.rint(scan.y) < n // 2) | (np.rint(scan.x) < n // 2)
    if outside.any():
        row = int(np.argmax(outside))
        what = f"the patch at (y {scan.y[row]:.6g}, x {scan.x[row]:.6g}) begins outside the object"
        raise BadInput(what, row=row, remedy=f"shift ycoords and xcoords so that none is below {n // 2}")


def _reach(scan: Scan, n: int) -> tuple[int, int]:
    """Height and width that hold every patch of a scan."""
    return int(np.rint(scan.y).max()) + n // 2, int(np.rint(scan.x).max()) + n // 2


def _object(
    arrays: dict[str, NDArray[Any]], scan: Scan, design: StudyDesign
) -> tuple[NDArray[np.complex64], list[str]]:
    image, done = _array(arrays, "objectGuess", 2), []
    needed = frame(design) if design.base.scan == "design" else _reach(scan, design.N)
    if image.shape[0] < needed[0] or image.shape[1] < needed[1]:
        if not design.base.tile:
            what = f"key objectGuess: {image.shape[0]} x {image.shape[1]} px, the scan needs {needed[0]} x {needed[1]}"
            raise BadInput(what, remedy="add --tile to repeat it, or --object synthetic to take the probe alone")
        repeats = [-(-want // have) for want, have in zip(needed, image.shape, strict=True)]
        done.append(f"object of {image.shape[0]} x {image.shape[1]} px repeated {repeats[0]} x {repeats[1]} times")
        image = np.tile(image, repeats)
    if design.base.scan == "design":
        image = image[: needed[0], : needed[1]]
    largest = float(np.quantile(np.abs(image), 0.999))
    if largest > AMPLITUDE_MAX or largest == 0:
        if largest == 0:
            raise BadInput("key objectGuess is zero everywhere", remedy="use a file with an object")
        done.append(f"object divided by {largest:.6g}, its amplitude's 99.9 % quantile")
        image = image / largest
    return image.astype(np.complex64), done
