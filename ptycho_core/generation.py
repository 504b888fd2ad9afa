"""One dose from nothing to validated halves: base, scan, simulate, canonicalise, split, validate.

Each stage is a function that a caller may replace. Equal designs give equal bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho_core.base import Base, make_base
from ptycho_core.contract import validate_dataset_contract
from ptycho_core.design import ALL, SPLITS, Split, StudyDesign, dose_name
from ptycho_core.forward import amplitudes, dose_scale, intensities, photons
from ptycho_core.layout import Layout
from ptycho_core.npz import write_arrays
from study_core.files import locked, peek_json, sha256_of, write_json

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Simulated:
    """Counts (n, N, N) of every position, DC centred, and the scale s² of the dose."""

    counts: NDArray[np.unsignedinteger]
    s2: float


def simulate(base: Base, design: StudyDesign, dose: float) -> Simulated:
    """Photon counts at the positions rounded to whole pixels."""
    intensity = intensities(base.image, base.probe, _whole(base.scan.y), _whole(base.scan.x))
    s2 = dose_scale(intensity, dose)
    return Simulated(photons(intensity, s2, design.seeds.simulation), s2)


def canonicalise(base: Base, simulated: Simulated, design: StudyDesign, dose: float) -> tuple[Arrays, dict[str, Any]]:
    """Counts to the dataset's keys: amplitude, whole-pixel positions, flat start; with metadata of split `all`."""
    s = float(np.sqrt(simulated.s2))
    arrays: Arrays = {
        "diffraction": amplitudes(simulated.counts, s),
        "xcoords": np.rint(base.scan.x),
        "ycoords": np.rint(base.scan.y),
        "probeGuess": base.probe,
        "objectGuess": np.ones(base.image.shape, np.complex64),
        "scan_index": np.arange(len(base.scan.y), dtype=np.int64),
    }
    moved = max(np.abs(arrays["xcoords"] - base.scan.x).max(), np.abs(arrays["ycoords"] - base.scan.y).max())
    metadata = {
        "design_sha256": design.for_data(dose).sha256(), "dose": dose, "s": s, "split": "all", "view": ALL,
        "split_row": base.scan.split_row, "guard_px": design.guard_px, "branch": "standard",
        "seeds": {name: value for name, value in design.seeds.model_dump().items() if isinstance(value, int)},
        "transforms": [
            *base.transforms,
            f"positions rounded to whole pixels, by {moved:.3f} px at most",
            "diffraction = sqrt(counts) / s",
        ],
    }  # fmt: skip
    return arrays, metadata


def split_half(
    arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, Any], base: Base, split: Split, design: StudyDesign
) -> tuple[Arrays, dict[str, Any]]:
    """The positions of one half, thinned to `n_images` where the design wants fewer."""
    rows = base.scan.rows(split)
    if 0 < design.n_images < len(rows):
        rng = np.random.default_rng(design.seeds.subsampling)
        rows = np.sort(rng.choice(rows, design.n_images, replace=False))
    picked = {
        name: value[rows] if name in ("diffraction", "xcoords", "ycoords", "scan_index") else value
        for name, value in arrays.items()
    }
    return picked, {**metadata, "split": split}


@dataclass(frozen=True)
class Stages:
    """The stages of a generation; replace one to test the others, or to simulate otherwise."""

    base: Callable[[StudyDesign, Path | None], Base] = make_base
    simulate: Callable[[Base, StudyDesign, float], Simulated] = simulate
    canonicalise: Callable[[Base, Simulated, StudyDesign, float], tuple[Arrays, dict[str, Any]]] = canonicalise
    split: Callable[..., tuple[Arrays, dict[str, Any]]] = split_half
    validate: Callable[..., None] = validate_dataset_contract


def generate_dose(
    design: StudyDesign,
    dose: float,
    layout: Layout,
    *,
    base_npz: Path | None = None,
    stages: Stages | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Write everything of one dose below `layout.dose(dose)`; returns the dose's entry of the run manifest.

    Raises:
        BadInput: the base cannot be used, or what was generated breaks the contract.
    """  # fmt: skip
    stages = stages or Stages()
    lines: list[str] = []

    def log(line: str) -> None:
        lines.append(line)
        target = layout.generate_log(dose)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("\n".join(lines) + "\n", encoding="utf-8")
        tell(line)

    base = stages.base(design, base_npz)
    log(f"base: object {base.image.shape[0]} x {base.image.shape[1]}, {'; '.join(base.transforms) or 'own formulas'}")
    log(f"scan: {len(base.scan.y)} positions, {base.scan.in_train.sum()} train, {base.scan.in_test.sum()} test")
    simulated = stages.simulate(base, design, dose)
    write_arrays(
        layout.raw(dose), {"counts": simulated.counts, "xcoords": base.scan.x, "ycoords": base.scan.y},
        {"s2": simulated.s2, "dose": dose, "simulated_at": "positions rounded to whole pixels"},
    )  # fmt: skip
    log(f"simulate: s² {simulated.s2:.6g}, largest count {simulated.counts.max()}")
    arrays, metadata = stages.canonicalise(base, simulated, design, dose)
    write_arrays(layout.canonical(dose), arrays, metadata)
    log(f"canonicalise: {metadata['transforms'][-2]}")
    for split in SPLITS:
        picked, said = stages.split(arrays, metadata, base, split, design)
        stages.validate({**picked, "metadata": said}, split=split, view=None, gridsize=1, design=design)
        write_arrays(layout.dataset(dose, ALL, split), picked, said)
        log(f"split and validate: {split} holds {len(picked['diffraction'])} patterns")
    write_truth(base, design, layout, dose)
    return _entry(design, dose, layout, simulated)


def write_truth(base: Base, design: StudyDesign, layout: Layout, dose: float) -> None:
    """The object with the pixels of both halves, and apart from it the train half alone, NaN elsewhere."""
    pixels = {}
    for split in SPLITS:
        rows, half = base.scan.rows(split), design.N // 2
        ys, xs = _whole(base.scan.y)[rows], _whole(base.scan.x)[rows]
        mask = np.zeros(base.image.shape, dtype=bool)
        mask[ys.min() - half : ys.max() + half, xs.min() - half : xs.max() + half] = True
        pixels[f"{split}_pixels"] = mask
    said = {"split_row": base.scan.split_row, "guard_px": design.guard_px, "N": design.N}
    write_arrays(layout.truth(dose), {"objectTruth": base.image, **pixels}, said)
    half_only = np.where(pixels["train_pixels"], base.image, np.complex64(complex(np.nan, np.nan)))
    write_arrays(layout.truth_train(dose), {"objectTruth": half_only.astype(np.complex64)}, said)


def _entry(design: StudyDesign, dose: float, layout: Layout, simulated: Simulated) -> dict[str, Any]:
    files = {
        "train": layout.dataset(dose, ALL, "train"), "test": layout.dataset(dose, ALL, "test"),
        "truth": layout.truth(dose), "truth_train": layout.truth_train(dose),
        "simulated_raw": layout.raw(dose), "canonical": layout.canonical(dose),
    }  # fmt: skip
    counts = simulated.counts
    return {
        "dose": dose,
        **{name: path.relative_to(layout.hub).as_posix() for name, path in files.items()},
        "intermediate_dir": layout.dose(dose).relative_to(layout.hub).as_posix(),
        "sha256": {name: sha256_of(path) for name, path in files.items()},
        "s": float(np.sqrt(simulated.s2)),
        "mean_counts": float(counts.sum() / len(counts)),
        "zero_fraction": float((counts == 0).mean()),
        "max_count": int(counts.max()),
        "design_sha256": design.for_data(dose).sha256(),
    }


def merge_run_manifest(layout: Layout, entries: Mapping[float, Mapping[str, Any]]) -> Path:
    """Lay the doses' entries over the hub's run manifest; others stay. Safe beside another writer."""
    layout.hub.mkdir(parents=True, exist_ok=True)
    with locked(layout.hub / ".run_manifest.lock"):
        known = peek_json(layout.run_manifest) or {}
        return write_json(
            layout.run_manifest, {**known, **{dose_name(dose): dict(entry) for dose, entry in entries.items()}}
        )


def _whole(values: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.rint(values).astype(np.int64)
