"""One dose on a node: simulate, validate, and select the overlap views. Its folder is laid out like a hub."""

from __future__ import annotations

from typing import Any

from ptycho_core.design import ALL, SPLITS, StudyDesign
from ptycho_core.generation import generate_dose, merge_run_manifest
from ptycho_core.layout import Layout
from ptycho_core.views import generate_overlap_views
from study_core.job import Content, Context, Receipt, Request


class Generate(Request):
    """`design` is `StudyDesign.for_data(dose)`: what else a study decides renames no data."""

    design: StudyDesign
    dose: float
    base_npz: Content | None = None


class Generated(Receipt):
    """`datasets` by `<view>_<split>`, skipped ones left out; `records` are what people and the report read."""

    dose: float
    datasets: dict[str, Content]
    truth: Content
    truth_train: Content
    records: dict[str, Content]
    entry: dict[str, Any]
    """The dose's entry of the run manifest."""
    skips: tuple[dict[str, Any], ...]


def generate(request: Generate, context: Context) -> Generated:
    """Write the dose below the job's folder."""
    design, dose, layout = request.design, request.dose, Layout(context.folder)
    base = request.base_npz.path if request.base_npz else None
    total = 2
    context.progress(done=0, total=total, stage="simulate")
    entry = generate_dose(design, dose, layout, base_npz=base)
    merge_run_manifest(layout, {dose: entry})
    context.progress(done=1, total=total, stage="overlap")
    skips = generate_overlap_views(design, layout, doses=(dose,))
    context.progress(done=total, total=total, stage="done")
    paths = {(view, split): layout.dataset(dose, view, split) for view in (ALL, *design.views) for split in SPLITS}
    others = [layout.raw(dose), layout.canonical(dose), layout.generate_log(dose)]
    for view in design.views:
        others += [layout.metrics_bundle(dose, view), layout.metrics_copy(dose, view)]
        others += [layout.spacing(dose, view, split) for split in SPLITS]
        others += [path for split in SPLITS if (path := layout.skip(dose, view, split)).exists()]
    return Generated(
        dose=dose,
        datasets={f"{view}_{split}": Content.of(path) for (view, split), path in paths.items() if path.exists()},
        truth=Content.of(layout.truth(dose)),
        truth_train=Content.of(layout.truth_train(dose)),
        records={path.relative_to(layout.hub).as_posix(): Content.of(path) for path in others},
        entry=entry,
        skips=tuple(skips),
    )
