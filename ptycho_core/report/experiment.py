"""The experiment itself in pictures: a pattern at every dose, the probe and its pupil, the scan with its groups."""

from __future__ import annotations

import numpy as np

from ptycho_core.contract import Dataset, read_dataset
from ptycho_core.design import ALL
from ptycho_core.probes import probe_facts
from ptycho_core.report.record import StudyRecord
from ptycho_core.report.style import axes, picture
from study_core.errors import BadInput
from study_core.report.blocks import Grid, Picture
from study_core.report.style import BLUE, GREY, SKY, VERMILION, drawing


def _opened(study: StudyRecord, dose: float, view: str, split: str) -> Dataset | None:
    """None where a dataset is missing or damaged: that costs its picture, not the page."""
    try:
        return read_dataset(study.layout.dataset(dose, view, split))  # type: ignore[arg-type]
    except BadInput:
        return None


def dose_strip(study: StudyRecord) -> Grid:
    """One and the same pattern of the test half at every dose, counts on a square-root scale."""
    pictures = []
    for dose in study.design.doses:
        data = _opened(study, dose, ALL, "test")
        if data is None:
            continue
        row = np.array([len(data.y) // 2])
        counts = data.counts_of(row)[0]
        with drawing():
            drawn, (ax,) = axes(3.4, 3.0)
            shown = ax.imshow(np.sqrt(counts), cmap="cividis", interpolation="nearest")
            ax.set_axis_off()
            ticks = np.linspace(0, np.sqrt(counts.max()), 4)
            bar = drawn.colorbar(shown, ax=ax, shrink=0.85, ticks=ticks)
            bar.set_ticklabels([f"{value:.0f}" for value in ticks**2])
            caption = f"{counts.sum()} photons in this pattern, at most {counts.max()} in a pixel, "
            caption += f"{(counts == 0).mean():.0%} of the pixels empty"
            pictures.append(picture(drawn, f"{dose:g} photons", f"A diffraction pattern at {dose:g} photons", caption))
    return Grid("One pattern at every dose", tuple(pictures))


def probe_pictures(study: StudyRecord) -> Grid:
    """|P|, arg P and the pupil, with what was measured of them."""
    data = next((one for dose in study.design.doses if (one := _opened(study, dose, ALL, "test")) is not None), None)
    if data is None:
        return Grid("Probe", ())
    probe = data.probe.astype(np.complex128)
    far = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(probe)))
    pictures: list[Picture] = []
    for title, values, colours in (
        ("|P|", np.abs(probe), "cividis"), ("arg P", np.angle(probe), "twilight"),
        ("Pupil |FT P|", np.abs(far), "cividis"),
    ):  # fmt: skip
        with drawing():
            drawn, (ax,) = axes(3.4, 3.0)
            shown = ax.imshow(values, cmap=colours, interpolation="nearest")
            ax.set_axis_off()
            drawn.colorbar(shown, ax=ax, shrink=0.85)
            pictures.append(picture(drawn, title, f"The probe: {title}"))
    return Grid("Probe, known and fixed", tuple(pictures), note=probe_facts(data.probe).sentence() + ".")


def scan_picture(study: StudyRecord) -> Grid:
    """Every position of both halves, groups of each view in colour, the guard band hatched."""
    dose = study.design.doses[0]
    halves = {split: _opened(study, dose, ALL, split) for split in ("train", "test")}
    if None in halves.values():
        return Grid("Scan", ())
    pictures = []
    for view in study.design.views:
        with drawing():
            drawn, (ax,) = axes(4.6, 4.4)
            rows = []
            for split, everywhere in halves.items():
                assert everywhere is not None
                rows.append(everywhere.y)
                ax.plot(everywhere.x, everywhere.y, ".", color=GREY, markersize=1.2, alpha=0.6)
                data = _opened(study, dose, view, split)
                for number, group in enumerate(data.groups if data is not None else ()):
                    assert data is not None
                    colour = (BLUE, VERMILION, SKY)[number % 3]
                    order = _around(data.x[group], data.y[group])
                    ax.fill(data.x[group][order], data.y[group][order], color=colour, alpha=0.75, linewidth=1)
            ax.axhspan(rows[0].max(), rows[1].min(), facecolor="none", edgecolor=GREY, hatch="///", linewidth=0)
            ax.set(xlabel="x, px", ylabel="y, px", aspect="equal")
            ax.invert_yaxis()
            title = f"{view}: groups of neighbouring positions"
            pictures.append(picture(drawn, title, f"The scan with the groups of view {view}",
                                    "above: train half; hatched: guard band; below: test half"))  # fmt: skip
    return Grid("Scan and groups", tuple(pictures))


def _around(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Corners of a group in the order around their middle."""
    return np.argsort(np.arctan2(y - y.mean(), x - x.mean()))
