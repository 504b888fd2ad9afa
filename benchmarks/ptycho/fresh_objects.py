"""The study's arms on objects that no choice was made on, and with a measured probe: every row of one table.

    OMP_NUM_THREADS=1 python -m benchmarks.ptycho.fresh_objects [--hub FOLDER] [--base-npz FILE] [--smoke] [--json FILE]

One network or reconstruction at a time, the most telling rows first; about 30 CPU seconds each at size mini, some 40
minutes for all. A row that is on the disk of `--hub` is not computed again, so a run that was stopped goes on.
`--table` prints what is there. Without the extra [ptycho] the rows of LSQML stay empty.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.harness import parser, report
from ptycho_core.base import with_base
from ptycho_core.comparison import FLAT, LSQML, PINN, SUPERVISED, ArmName, Source, compare_cell, open_cell
from ptycho_core.contract import read_dataset
from ptycho_core.design import ALL, StudyDesign, get_study_design
from ptycho_core.jobs.generate import Generate, generate
from ptycho_core.jobs.reconstruct import RECONSTRUCTION, Reconstruct, reconstruct
from ptycho_core.jobs.train import BUNDLE, Train, train
from ptycho_core.layout import Layout
from ptycho_core.lsqml import LsqmlOptions
from ptycho_core.recipes import recipe_for
from study_core.cli import LocalContext
from study_core.errors import BadInput
from study_core.files import peek_json, write_json
from study_core.job import Content

OBJECTS, SEEDS, DOSES, VIEWS = (2024, 2025), (0, 1, 2), (1e4, 1e3, 1e5), ("dense", "sparse")
SHOWN = {"phMS": "ph_ms_ssim", "amMS": "am_ms_ssim", "MAE": "ph_mae", "FRC50": "ph_frc50"}


class Row(NamedTuple):
    """One image: of which object, from which patterns, by which arm."""

    object: str
    dose: float
    view: str
    arm: ArmName
    seed: int = 0

    @property
    def name(self) -> str:
        return f"{self.object}-{self.dose:g}-{self.view}-{self.arm}-{self.seed}"


def rows(*, measured_probe: bool, smoke: bool) -> Iterator[Row]:
    """Every row, in the order in which they are computed."""
    if smoke:
        yield from (Row("object 2024", 1e4, "dense", arm) for arm in (FLAT, PINN))
        return
    for number, image in enumerate(f"object {one}" for one in OBJECTS):
        for dose in DOSES:
            for view in VIEWS:
                yield from (Row(image, dose, view, arm) for arm in (FLAT, PINN, LSQML))
        yield from (Row(image, dose, ALL, arm) for dose in (1e4, 1e5) for arm in (FLAT, LSQML))
        if measured_probe and number == 0:
            yield from (Row("measured probe", 1e4, view, arm) for view in VIEWS for arm in (FLAT, PINN))
    for seed in SEEDS[1:]:
        for image in (f"object {one}" for one in OBJECTS):
            yield from (Row(image, dose, view, PINN, seed) for dose in DOSES for view in VIEWS)
    for image in (f"object {one}" for one in OBJECTS):
        yield from (Row(image, dose, view, SUPERVISED) for dose in DOSES for view in VIEWS)


def design_of(row: Row, base_npz: Path | None, smoke: bool) -> StudyDesign:
    """The mini study; with another object, or with the file's probe."""
    design = get_study_design("smoke" if smoke else "mini")
    if row.object.startswith("object"):
        seeds = design.seeds.model_copy(update={"object": int(row.object.split()[1])})
        return design.model_copy(update={"seeds": seeds, **({"iterations": 3} if smoke else {})})
    assert base_npz is not None
    return with_base(design, base_npz, image="synthetic")


def data(design: StudyDesign, dose: float, hub: Path, base_npz: Path | None) -> Layout:
    """The dose's datasets, made once."""
    layout = Layout(hub)
    if not layout.metrics_copy(dose, VIEWS[-1]).exists():
        base = Content.of(base_npz) if design.base.sha256 and base_npz else None
        generate(Generate(design=design.for_data(dose), dose=dose, base_npz=base), LocalContext(hub))
    return layout


def image_file(row: Row, design: StudyDesign, layout: Layout) -> Path | None:
    """The arm's bundle or reconstruction, computed unless it is there."""
    if row.arm == FLAT:
        return None
    if row.arm == LSQML:
        folder = layout.reconstruction(row.dose, row.view, "test")
        options = LsqmlOptions(epochs=design.epochs, seed=design.seeds.reconstruction)
        asked = Reconstruct(options=options, patterns=Content.of(layout.dataset(row.dose, row.view, "test")))
        reconstruct(asked, LocalContext(_made(folder)))
        return folder / RECONSTRUCTION
    supervised = row.arm == SUPERVISED
    view, gridsize = (ALL, 1) if supervised else (row.view, 2)
    arm = "baseline" if supervised else "pinn"
    folder = _made(layout.training(row.dose, view, gridsize, seed=row.seed, arm=arm))
    train(
        Train(
            recipe=recipe_for(design, "baseline" if supervised else "pinn", gridsize, row.seed),
            train=Content.of(layout.dataset(row.dose, view, "train")),
            test=Content.of(layout.dataset(row.dose, view, "test")),
            truth=Content.of(layout.truth_train(row.dose)) if supervised else None,
            device="cpu",
        ),
        LocalContext(folder),
    )
    return folder / BUNDLE


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def measured(row: Row, hub: Path, base_npz: Path | None, smoke: bool) -> dict[str, Any]:
    """The row's numbers, from the disk where they are there."""
    kept = hub / "rows" / f"{row.name}.json"
    if known := peek_json(kept):
        return dict(known)
    design, begun = design_of(row, base_npz, smoke), time.process_time()
    layout = data(design, row.dose, hub / row.object.replace(" ", "_"), base_npz)
    source = Source(row.arm, row.seed, image_file(row, design, layout))
    spent = time.process_time() - begun
    cell = open_cell(
        read_dataset(layout.dataset(row.dose, row.view, "test")), layout.truth(row.dose), design.lit_energy
    )
    (result,) = compare_cell(cell, [source], design.metrics)
    if result.reason:
        raise BadInput(f"{row.name}: {result.reason}")
    found = {**row._asdict(), "numbers": result.numbers, "cpu_s": round(spent, 1)}
    _made(kept.parent)
    write_json(kept, found)
    return found


def table(found: list[dict[str, Any]]) -> str:
    """Markdown: a line a cell and arm; mean over training seeds, with (lowest to highest) where there are several."""
    cells: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for one in sorted(found, key=lambda one: (one["object"], one["dose"], one["view"], one["arm"])):
        cells.setdefault((one["object"], one["dose"], one["view"], one["arm"]), []).append(one["numbers"])
    lines = [f"| object | dose | view | arm | n | {' | '.join(SHOWN)} |", "| --- " * (5 + len(SHOWN)) + "|"]
    for (image, dose, view, arm), numbers in cells.items():
        figures = [_spread([one[key] for one in numbers]) for key in SHOWN.values()]
        lines.append(f"| {image} | {dose:g} | {view} | {arm} | {len(numbers)} | {' | '.join(figures)} |")
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    mean = f"{statistics.fmean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.3f} to {max(values):.3f})"


if __name__ == "__main__":
    asked = parser(__doc__, "smoke size, three iterations, flat and network of one cell")
    asked.add_argument("--hub", type=Path, default=Path("artifacts/fly64/fresh_objects"), help="kept between calls")
    asked.add_argument("--base-npz", type=Path, help="adds the rows with this file's probe")
    asked.add_argument("--table", action="store_true", help="print what is there, compute nothing")
    options = asked.parse_args()
    torch.set_num_threads(1)
    hub = options.hub / "smoke" if options.smoke else options.hub
    wanted = list(rows(measured_probe=options.base_npz is not None, smoke=options.smoke))
    there = []
    for one in wanted:
        if options.table and not (hub / "rows" / f"{one.name}.json").exists():
            continue
        try:
            there.append(measured(one, hub, options.base_npz, options.smoke))
        except BadInput as error:  # pty-chi is not installed, or an arm that failed: the others go on
            print(f"{one.name}: {error}", file=sys.stderr)
    print(table(there))
    report(there, options) if options.json else None
