"""What may be said of a study and what may not: fixed sentences, and findings that the numbers allow.

A difference below `FINDING` is none: seeds and objects scatter by as much.
"""

from __future__ import annotations

from ptycho_core.comparison import GS1, LSQML, PINN, SUPERVISED
from ptycho_core.design import ALL, StudyDesign
from ptycho_core.evaluation.cells import Cell
from ptycho_core.report.record import StudyRecord

FINDING = 0.05
DENSE_CLAIM_BELOW = 1e4
"""From this dose on, in the densest view, nobody may write that the PINN leads: a second object reversed it."""

NOT_ALLOWED = (
    "Anything about real fly64 data: objects and photons of this study are simulated.",
    "“PINN beats LSQML” without dose and view; and in the densest view at 1e4 photons and above not at all.",
    "Any difference below .05: one training seed or one object moves a score by as much.",
    "A comparison with scores of 5 levels, without a mask, or of the upstream package, which started LSQML from the "
    "truth.",
    "That data which are explained prove the image: a wrong image can explain them (see “chance”).",
)  # fmt: skip
CAVEATS = (
    "At 1e3 photons LSQML without regularisation is a weak opponent: stopped earlier it does better on amplitude.",
    "At 1e5 photons LSQML's phase MS-SSIM is limited by convergence, a smooth residual phase, and not by noise.",
    "LSQML sees the test patterns themselves; the networks learnt on the other half of the scan and only look at them.",
    "Baseline was shown the truth of the train half. It scores high on MS-SSIM and resolves less (FRC50).",
    "A nominal overlap f sets a least distance between groups; the overlap that results is measured and printed.",
    "MS-SSIM has {levels} levels over lit pixels, with windows normalised by their lit part.",
)
READINGS = (
    "Backend PyTorch (the initiative says TensorFlow in one place, PyTorch in another).",
    "9 trainings and 9 reconstructions in total: 3 doses × (all positions, dense, sparse).",
    "Own scan, object and probe, large enough for both views; the fly64 scan as it is leaves the sparse view empty.",
    "The least distance S = (1 − f) N is kept between group centres; the literal rule on single positions is recorded.",
    "Three arms became four: PINN on groups, PINN on single patterns, a supervised Baseline, LSQML.",
    "One folder a study, named by its design, instead of a folder with a time stamp.",
)


def scope(design: StudyDesign) -> str:
    """What every statement holds for."""
    kind = "on this synthetic family of objects" if design.base.object == "synthetic" else "on the given object"
    probe = "with this probe" if not design.base.sha256 else "with the probe of the given file"
    return f"All of it holds {kind}, {probe}, known and fixed, at whole-pixel positions."


def caveats(design: StudyDesign) -> list[str]:
    """Fixed sentences that belong beside every table."""
    return [line.format(levels=design.metrics.ms_ssim_levels) for line in CAVEATS]


def findings(study: StudyRecord) -> list[str]:
    """A sentence a cell and pair of arms, of phase MS-SSIM: a difference that may be stated, or that there is none."""
    lines = []
    for cell in study.cells:
        if cell.state != "compared":
            continue
        own = GS1 if cell.view == ALL else PINN
        pairs = [(own, LSQML), (own, SUPERVISED)] + ([(PINN, GS1)] if cell.view != ALL else [])
        lines += [line for one, other in pairs if (line := _finding(study.design, cell, one, other))]
    return lines


def _finding(design: StudyDesign, cell: Cell, one: str, other: str) -> str:
    difference = cell.difference(one, other)
    if difference is None:
        return ""
    where = f"{cell.dose:g} photons, {'all positions' if cell.view == ALL else cell.view}"
    if abs(difference) < FINDING:
        return f"{where}: no finding between {one} and {other} ({difference:+.3f})."
    leader, behind = (one, other) if difference > 0 else (other, one)
    if (leader, behind) == (PINN, LSQML) and not may_lead(design, cell):
        return f"{where}: {PINN} scored {difference:+.3f} over {LSQML}; not to be claimed at this dose in this view."
    return f"{where}: {leader} is ahead of {behind} by {abs(difference):.3f}."


def may_lead(design: StudyDesign, cell: Cell) -> bool:
    """Whether a lead of the PINN over LSQML may be stated in this cell."""
    densest = max(design.views, key=lambda view: design.views[view])
    return cell.view != densest or cell.dose < DENSE_CLAIM_BELOW
