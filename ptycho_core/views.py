"""Overlap views: the groups of a half whose centres keep a view's distance, and what the selection looks like.

A view is a dataset of its own: the union of its groups' patterns, and the groups as rows of that union. A half with
too few groups is skipped with its reason; that is a result of the study, never an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho_core.contract import Dataset, read_dataset, validate_dataset_contract
from ptycho_core.design import SPLITS, Split, StudyDesign
from ptycho_core.grouping import (
    Groups,
    form_groups,
    greedy_centres,
    measured_overlap,
    nearest_spacing,
    packing_estimate,
    point_mask,
)
from ptycho_core.layout import Layout
from ptycho_core.npz import read_arrays, write_arrays
from ptycho_core.probes import probe_facts
from study_core.errors import BadInput
from study_core.files import place, write_json

HISTOGRAM_BINS = 24


@dataclass(frozen=True)
class Selection:
    """One view of one half: groups (g, C) as rows of the half, and the statistics of the spacing."""

    groups: NDArray[np.int64]
    statistics: dict[str, Any]
    branch: str


def candidates(points: NDArray[np.float64], design: StudyDesign) -> Groups:
    """Every group of a half before a view selects, for the largest grid of the design."""
    return form_groups(
        points, size=design.channels, k=design.neighbors, seed=design.seeds.grouping, n_groups=design.n_groups
    )


def select(points: NDArray[np.float64], groups: Groups, view: str, design: StudyDesign, diameter: float) -> Selection:
    """Greedy selection at the view's spacing. `points` (n, 2): y, x; `diameter` of the probe's disc, px."""
    spacing = design.spacing(view)
    centres = points[groups.rows].mean(axis=1)
    kept = greedy_centres(centres, spacing)
    rows = groups.rows[kept]
    images, inverse = np.unique(rows, return_inverse=True)
    nearest = nearest_spacing(centres[kept])
    finite = nearest[np.isfinite(nearest)]
    counts, edges = np.histogram(finite, bins=HISTOGRAM_BINS)
    overlap = measured_overlap(points[images], inverse.reshape(rows.shape), diameter)
    statistics = {
        "threshold": spacing,
        "n_positions": len(points),
        "n_groups_candidate": len(groups.rows),
        "n_accepted": len(kept),
        "n_rejected": len(groups.rows) - len(kept),
        "acceptance_rate": len(kept) / len(groups.rows),
        "n_images": len(images),
        **{f"{name}_spacing": float(how(finite)) if len(finite) else None
           for name, how in (("min", np.min), ("mean", np.mean), ("median", np.median), ("max", np.max))},
        "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
        "point_mask_accepted": int(point_mask(points, spacing).sum()),
        "packing_estimate": packing_estimate(centres[kept], spacing),
        "overlap": {"nominal_f": design.views[view], "probe_diameter": diameter, **asdict(overlap)},
        "branch": groups.branch,
    }  # fmt: skip
    return Selection(rows, statistics, groups.branch)


def write_view(
    source: Path, view: str, split: Split, design: StudyDesign, layout: Layout, dose: float
) -> dict[str, Any] | None:
    """Write a view's dataset and statistics; the skip record instead where it has too few groups.

    Returns the skip record, None where the view was written.

    Raises:
        BadInput: the source breaks the contract.
    """
    data = read_dataset(source)
    points = np.stack([data.y, data.x], axis=1).astype(np.float64)
    diameter = probe_facts(data.probe, design.lit_energy).d90
    chosen = select(points, candidates(points, design), view, design, diameter)
    statistics = chosen.statistics
    write_json(layout.spacing(dose, view, split), statistics)
    target, skip = layout.dataset(dose, view, split), layout.skip(dose, view, split)
    if statistics["n_accepted"] < design.min_groups:
        target.unlink(missing_ok=True)
        record = {
            "dose": dose, "view": view, "split": split, "n_accepted": statistics["n_accepted"],
            "min_groups": design.min_groups, "packing_estimate": statistics["packing_estimate"],
            "reason": f"{statistics['n_accepted']} groups are {statistics['threshold']:.1f} px apart in the {split} "
            f"half, {design.min_groups} are needed",
        }  # fmt: skip
        write_json(skip, record)
        return record
    skip.unlink(missing_ok=True)
    arrays, metadata = _arrays(data, chosen, view)
    validate_dataset_contract(
        {**arrays, "metadata": metadata}, split=split, view=view, gridsize=max(design.gridsizes), design=design
    )
    write_arrays(target, arrays, metadata)
    return None


def _arrays(data: Dataset, chosen: Selection, view: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    images, inverse = np.unique(chosen.groups, return_inverse=True)
    arrays: dict[str, NDArray[Any]] = {
        "diffraction": data.diffraction[images],
        "xcoords": data.x[images].astype(np.float64),
        "ycoords": data.y[images].astype(np.float64),
        "probeGuess": data.probe,
        "objectGuess": data.flat,
        "scan_index": data.scan_index[images],
        "groups": inverse.reshape(chosen.groups.shape).astype(np.int64),
    }
    metadata = data.metadata.model_copy(update={"view": view, "branch": chosen.branch})
    return arrays, metadata.model_dump(mode="json")


def generate_overlap_views(
    design: StudyDesign, layout: Layout, *, doses: Sequence[float] = (), views: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Every view of every dose, with `metrics_bundle.json` and its copy under `metrics/`; returns the skip records.

    Raises:
        BadInput: a dataset is missing (run generate) or breaks the contract.
    """
    skips = []
    for dose in doses or design.doses:
        for view in views or tuple(design.views):
            bundle = {}
            for split in SPLITS:
                source = layout.dataset(dose, "baseline", split)
                if not source.exists():
                    raise BadInput("no such dataset", file=source, remedy="run generate for this dose first")
                skip = write_view(source, view, split, design, layout, dose)
                skips += [skip] if skip else []
                bundle[split] = {
                    "output_path": None if skip else _relative(layout.dataset(dose, view, split), layout),
                    "spacing_stats_path": _relative(layout.spacing(dose, view, split), layout),
                    "skipped": skip["reason"] if skip else None,
                }
            place(write_json(layout.metrics_bundle(dose, view), bundle), layout.metrics_copy(dose, view))
    return skips


def check_view(path: Path, *, split: Split, view: str, design: StudyDesign) -> None:
    """Hold a dataset on disk to the whole contract.

    Raises:
        BadInput: naming the file and the first broken rule.
    """
    arrays, metadata = read_arrays(path)
    gridsize = max(design.gridsizes) if view in design.views else 1
    try:
        validate_dataset_contract(
            {**arrays, "metadata": metadata}, split=split, view=view, gridsize=gridsize, design=design
        )
    except BadInput as error:
        raise BadInput(error.what, file=path, row=error.row, remedy=error.remedy) from None


def _relative(path: Path, layout: Layout) -> str:
    return path.relative_to(layout.hub).as_posix()
