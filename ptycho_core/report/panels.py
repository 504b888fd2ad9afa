"""Reconstructions as pictures, pixel by pixel: phase, amplitude and phase error of every arm on common scales.

One frame a dose, the same for every arm; pixels that no pattern lit are white.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ptycho_core.comparison import LSQML, PINN, SUPERVISED
from ptycho_core.design import ALL, StudyDesign
from ptycho_core.evaluation.cells import Cell
from ptycho_core.jobs.compare import TRUTH
from ptycho_core.metrics.align import phase_and_amplitude
from ptycho_core.npz import read_arrays
from ptycho_core.report.record import StudyRecord
from ptycho_core.report.tables import SHORT, three
from study_core.errors import BadInput
from study_core.report.blocks import Grid, Picture

GREYS = 96
"""Levels of a panel: noise in 256 of them doubles the page and shows nothing more."""
ERROR_RAD = 0.5
_ORANGE, _WHITE, _BLUE = (179, 71, 0), (255, 255, 255), (0, 90, 150)

Real = NDArray[np.float64]


@dataclass(frozen=True)
class Scales:
    """Ends of the grey scales: phase in rad, amplitude as transmission."""

    phase: tuple[float, float]
    amplitude: tuple[float, float]


@dataclass(frozen=True)
class _Shown:
    """One image on its own box of the frame."""

    phase: Real
    amplitude: Real
    error: Real
    mask: NDArray[np.bool_]
    corner: tuple[int, int]
    scale: float | None = None
    """That was fitted; None for the truth."""


def panels(study: StudyRecord, dose: float) -> list[Grid]:
    """Three rows of a dose: phase, amplitude, error of the phase; empty where nothing of it was compared."""
    chosen = _chosen(study, dose)
    truth = _truth(study, dose)
    if truth is None or not chosen:
        return []
    scales = _scales(study.design, truth)
    shown = [("truth", "", truth), *chosen]
    frame = _frame([one for _, _, one in shown])
    low, high = scales.phase
    dim, clear = scales.amplitude
    photons = f"{dose:g} photons"
    return [
        Grid(
            f"Phase at {photons}",
            tuple(_grey(title, said, one.phase, one, frame, scales.phase) for title, said, one in shown), small=True,
            note=f"Black {low:+.1f} rad, white {high:+.1f} rad, the same in every panel; unlit pixels are white.",
        ),
        Grid(
            f"Amplitude at {photons}",
            tuple(_grey(title, _scaled(one), one.amplitude, one, frame, scales.amplitude) for title, _, one in shown),
            small=True, note=f"Black {dim:.2f}, white {clear:.2f}; after the fitted scale, which is small for noise.",
        ),
        Grid(
            f"Error of the phase at {photons}",
            tuple(_error(title, one, frame) for title, _, one in shown[1:]), small=True,
            note=f"Blue {-ERROR_RAD:+.1f} rad and below, white 0, orange {ERROR_RAD:+.1f} rad and above.",
        ),
    ]  # fmt: skip


def _chosen(study: StudyRecord, dose: float) -> list[tuple[str, str, _Shown]]:
    """(title, score, image): the PINN of each view, Baseline in the densest, LSQML of each view."""
    views = [view for view in study.design.views if study.cell(dose, view).state == "compared"]
    wanted = [(PINN, view) for view in views]
    wanted += [(SUPERVISED, views[0])] if views else [(SUPERVISED, ALL)]
    wanted += [(LSQML, view) for view in views] or [(LSQML, ALL)]
    found = []
    for arm, view in wanted:
        cell = study.cell(dose, view)
        row = next((row for row in cell.rows(arm) if row["numbers"]), None)
        image = None if row is None else _read(study, cell, f"aligned_{row['name']}.npz")
        if row is not None and image is not None:
            name = f"{SHORT[arm]}, {view}" if view != ALL else SHORT[arm]
            found.append((name, f"MS-SSIM {three(row['numbers']['ph_ms_ssim'])}", image))
    return found


def _truth(study: StudyRecord, dose: float) -> _Shown | None:
    """Of the cell that saw most of the field."""
    cells = [cell for cell in study.cells if cell.dose == dose and cell.state == "compared"]
    widest = max(cells, key=lambda cell: cell.record["lit_px"], default=None)
    return None if widest is None else _read(study, widest, TRUTH)


def _read(study: StudyRecord, cell: Cell, file: str) -> _Shown | None:
    """None where an image is missing or damaged: that costs its panel, not the page."""
    folder = study.layout.comparison(cell.dose, cell.view)
    try:
        own, truth = _open(folder / file), _open(folder / TRUTH)
    except BadInput:
        return None
    mask = own[1]
    phase, wanted, amplitude, _ = phase_and_amplitude(own[0], np.where(mask, truth[0], 1), mask)
    error = np.angle(np.exp(1j * (phase - wanted)))
    return _Shown(phase, amplitude, error, mask, own[2], own[3])


def _open(path: Path) -> tuple[NDArray[np.complexfloating], NDArray[np.bool_], tuple[int, int], float | None]:
    arrays, _ = read_arrays(path)
    top, left = arrays["offset"]
    scale = float(arrays["scale"]) if "scale" in arrays else None
    return arrays["object"], arrays["mask"].astype(bool), (int(top), int(left)), scale


def _scaled(one: _Shown) -> str:
    return "" if one.scale is None else f"scale {one.scale:.2f}"


def _scales(design: StudyDesign, truth: _Shown) -> Scales:
    """The study's own objects have one fixed scale; a file's object its own range."""
    if design.base.object == "synthetic":
        return Scales((-1.0, 0.6), (0.65, 1.05))
    phase, amplitude = (np.percentile(values[truth.mask], (0.5, 99.5)) for values in (truth.phase, truth.amplitude))
    return Scales((float(phase[0]), float(phase[1])), (float(amplitude[0]), float(amplitude[1])))


def _frame(shown: list[_Shown]) -> tuple[int, int, int, int]:
    """(top, left, bottom, right) that holds every image."""
    tops, lefts = zip(*(one.corner for one in shown), strict=True)
    ends = [(one.corner[0] + one.mask.shape[0], one.corner[1] + one.mask.shape[1]) for one in shown]
    bottoms, rights = zip(*ends, strict=True)
    return min(tops), min(lefts), max(bottoms), max(rights)


def _placed(levels: NDArray[np.uint8], one: _Shown, frame: tuple[int, int, int, int], blank: int) -> NDArray[np.uint8]:
    top, left, bottom, right = frame
    canvas = np.full((bottom - top, right - left), blank, np.uint8)
    row, column = one.corner[0] - top, one.corner[1] - left
    height, width = levels.shape
    canvas[row : row + height, column : column + width] = np.where(one.mask, levels, blank)
    return canvas


def _levels(values: Real, low: float, high: float) -> NDArray[np.uint8]:
    share = np.clip((np.nan_to_num(values) - low) / (high - low), 0, 1)
    return np.rint(share * (GREYS - 1)).astype(np.uint8)


def _grey(
    title: str, said: str, values: Real, one: _Shown, frame: tuple[int, int, int, int], scale: tuple[float, float]
) -> Picture:
    ramp = [(round(255 * level / (GREYS - 1)),) * 3 for level in range(GREYS)]
    png = _png(_placed(_levels(values, *scale), one, frame, GREYS - 1), ramp)
    return Picture(title, png, f"{title}: grey scale image of the reconstruction", said)


def _error(title: str, one: _Shown, frame: tuple[int, int, int, int]) -> Picture:
    middle = (GREYS - 1) / 2
    ramp = []
    for level in range(GREYS):
        end, share = (_BLUE, 1 - level / middle) if level < middle else (_ORANGE, level / middle - 1)
        ramp.append(tuple(round(white + share * (colour - white)) for white, colour in zip(_WHITE, end, strict=True)))
    png = _png(_placed(_levels(one.error, -ERROR_RAD, ERROR_RAD), one, frame, GREYS // 2), ramp)
    mae = float(np.abs(one.error[one.mask]).mean())
    return Picture(title, png, f"{title}: map of the phase error", f"MAE {mae:.3f} rad")


def _png(levels: NDArray[np.uint8], ramp: Sequence[tuple[int, ...]]) -> bytes:
    image = Image.fromarray(levels, mode="P")
    image.putpalette([part for colour in ramp for part in colour])
    out = io.BytesIO()
    image.save(out, format="PNG", optimize=True)
    return out.getvalue()
