"""What is measured of one set of predictions on a panel: the record between the node that measures and the flow that
judges. Every number of it stands whatever the thresholds are, so that another threshold judges the same record again.

A number that is none (NaN, infinity) is written as text, so that a record read back is the record written.
Shapes: M rows of the panel, in its order.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, ValidationError

from study_core.errors import BadInput
from study_core.files import write_text
from study_core.gates import Measure
from study_core.plan import Frozen

Reference = Literal["loo", "self"]
"""What a capture is held against: the mean of its group's other captures, or (published) itself."""

Column = tuple[float, ...]
MEASUREMENT = "measurement.json"


class _Record(Frozen):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class Scored(_Record):
    """One method on the captures: figures of all, by group, and a value a capture (dB, degrees, %, nm, reflectance)."""

    figures: dict[str, float]
    by_group: dict[str, dict[str, float]]
    psnr_M: Column
    sam_M: Column
    area_error_pct_M: Column
    centroid_error_nm_M: Column
    depth_error_M: Column
    spurious_M: tuple[int, ...]


class AcrossGroups(_Record):
    """Rank correlation of dose with the groups' mean ROI area; `kept` is None for fewer than three doses."""

    groups: int
    baseline_rho: float
    denoised_rho: float
    delta_rho: float
    kept: bool | None


class DoseResponse(_Record):
    """The dose test inside the treatments, peak F1 for where it is lost, and what a treatment of one dose leaves out.

    `vacuous`: no treatment has two doses, so that every correlation is 0.
    """

    dose_column_used: str | None
    median_delta_rho: float
    improved_ratio: float
    peak_f1_mean: float
    vacuous: bool
    across_groups: AcrossGroups


class Downstream(_Record):
    """Gate 4's proxy. Names as published; `reduction_pct` is a fraction."""

    replicate_consistency: dict[str, float]
    separability: dict[str, float]
    dose_monotonicity: DoseResponse


class Worth(_Record):
    """Gain in PSNR over the base, dB: mean over samples, its 95 % interval, and the gain of each group.

    `folds`: trainings whose held-out groups are pooled here.
    """

    base: str
    gain_db: float
    low_db: float
    high_db: float
    samples: int
    folds: int = 1
    groups: int
    groups_better: int
    by_group: dict[str, float]


class UnseenGroups(_Record):
    """Models on groups that neither their training nor any choice has seen; `group_M` labels `scored`'s captures."""

    groups: tuple[str, ...]
    group_M: tuple[str, ...]
    scored: Scored
    worth: Worth | None = None
    what: str = ""


class Integrity(_Record):
    """Gate 0's counts, and for what was found its own words. Without a training manifest a leak was not looked for."""

    counts: dict[str, float]
    words: dict[str, str]


class Measurement(_Record):
    """Everything that judging needs to know of one candidate.

    `metrics`: numbers of the whole panel; `slices`: those by group, by pair of treatments. `blind`: the mean of the
    training captures, given for every capture. `sisters`: training groups of a sample that the panel holds out at
    its other angle; None without a training manifest. `fold`: whose model it is, None for any other. `device`: what
    denoised.
    """

    checkpoint: str
    checkpoint_sha256: str = ""
    reference: Reference
    panel_sha256: str
    integrity: Integrity
    own: Scored
    controls: dict[str, Scored]
    blind: Scored | None
    metrics: dict[str, float]
    slices: tuple[Measure, ...]
    downstream: Downstream
    uncertainty: dict[str, float | dict[str, dict[str, float]]] | None = None
    unseen: UnseenGroups | None = None
    sisters: tuple[str, ...] | None = None
    fold: int | None = None
    device: str = "cpu"

    def write(self, path: Path) -> Path:
        """Into a file, whole or not at all."""
        return write_text(path, self.model_dump_json() + "\n")


def read_measurement(path: Path) -> Measurement:
    """What `write` wrote. BadInput for anything else."""
    try:
        return Measurement.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        remedy = "run with fresh=true to measure again"
        raise BadInput(f"no measurement of this code ({_first(error)})", file=path, remedy=remedy) from error


def _first(error: Any) -> str:
    if isinstance(error, ValidationError):
        found = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, found['loc']))}: {found['msg']}"
    return str(error.strerror or error)


def column(values: Sequence[float] | Any) -> Column:
    """A row of numbers as Python's own floats."""
    return tuple(float(value) for value in values)
