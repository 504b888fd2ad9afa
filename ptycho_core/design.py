"""The study as data: doses, overlap, scan, seeds, metrics. Frozen, validated when made, named by its hash.

Lengths are object pixels. `get_study_design("full")` holds the constants of the initiative (N = 128); the smaller
sizes keep doses, overlap, grouping and seeds and shrink the scan, so that one CPU answers in minutes.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field, model_validator

from study_core.errors import BadInput
from study_core.plan import Frozen, identity

Size = Literal["full", "cluster64", "mini", "smoke"]
SIZES: tuple[Size, ...] = ("full", "cluster64", "mini", "smoke")
Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")
ALL = "baseline"
"""The view that is no selection: every position of a split, trained with gridsize 1."""
SSIM_WINDOW_PX = 11


class ScanDesign(Frozen):
    """A jittered square grid; two halves of `half_rows` x `cols` pixels with the guard band between them."""

    half_rows: float = Field(gt=0, description="Height of a half's field of patch centres, px")
    cols: float = Field(gt=0, description="Width of the field of patch centres, px")
    step_px: float = Field(gt=0, description="Grid step, px")
    jitter: float = Field(0.35, ge=0, description="Uniform shift of each position, up to this fraction of a step")


class LensProbe(Frozen):
    """A curved wave behind a round pupil, with astigmatism, coma and a phase dimple; stated at N = 64.

    The curvature makes the far field a shadow image about 1:1 with the object pixel, so that reconstruction is a local
    task; the dimple makes a bright core, a reference wave. Phases in rad, lengths of the pupil in units of its radius.
    """

    radius: float = Field(0.8, description="Pupil radius over N/2")
    edge_px: float = Field(1.2, description="Softness of the pupil's edge, frequency bins")
    offset_vu: tuple[float, float] = Field((0.6, -0.4), description="Centre of the pupil, bins at N = 64")
    defocus: float = Field(-28.0, description="Phase at the pupil's edge at N = 64")
    astigmatism: tuple[float, float] = (-0.1, 1.2)
    coma: tuple[float, float] = (0.5, -0.3)
    dimple: float = -3.0
    dimple_vu: tuple[float, float] = (0.0, -0.3)
    dimple_sigma: float = 0.13


class BaseDesign(Frozen):
    """Where object and probe come from: the formulas of the study, or a base .npz (named by its hash)."""

    sha256: str = Field("", description="Of the base .npz; empty: own object and probe")
    object: Literal["synthetic", "file"] = Field("synthetic", description="The study's object, or the file's")
    scan: Literal["design", "file"] = Field("design", description="The study's scan, or the file's positions")
    tile: bool = Field(False, description="Repeat an object that is smaller than the scan")


class Seeds(Frozen):
    """Every random stream of the study."""

    object: int = 7
    simulation: int = Field(42, description="Jitter of the scan and photon noise")
    grouping: int = 123
    subsampling: int = 456
    training: tuple[int, ...] = (0, 1, 2)
    reconstruction: int = 0


class MetricsDesign(Frozen):
    """How an image is compared with the truth."""

    ms_ssim_sigma: float = Field(1.0, ge=0, description="Blur before MS-SSIM, px")
    ms_ssim_levels: int = Field(3, ge=1, le=5)
    emphasize_phase: bool = True
    report_amplitude: bool = True
    frc_threshold: float = Field(0.5, gt=0, lt=1)
    frc_block: int = Field(32, ge=8, description="Side of a Fourier ring correlation block, px")


class StudyDesign(Frozen):
    """Everything that decides what is computed; nothing that says where."""

    doses: tuple[float, ...] = Field((1e3, 1e4, 1e5), description="Mean photons of a pattern")
    gridsizes: tuple[int, ...] = Field((1, 2), description="gs: a group holds C = gs² patterns")
    neighbors: int = Field(7, description="K: the group is drawn from so many nearest positions")
    N: int = Field(128, description="Side of a pattern and of its patch, px")
    views: dict[str, float] = Field(
        default_factory=lambda: {"dense": 0.7, "sparse": 0.2}, description="Nominal overlap f of a view's groups"
    )
    split_axis: Literal["y"] = "y"
    guard_px: int = Field(128, description="Width of the band between the halves; at least N: no pixel is in both")
    scan: ScanDesign = ScanDesign(half_rows=640, cols=1280, step_px=16)
    probe: LensProbe = LensProbe()
    base: BaseDesign = BaseDesign()
    seeds: Seeds = Seeds()
    metrics: MetricsDesign = MetricsDesign()
    lit_energy: float = Field(0.9, gt=0, lt=1, description="Share of the probe inside the disc that counts as lit")
    min_groups: int = Field(12, ge=1, description="A view with fewer groups is skipped")
    n_groups: int = Field(0, ge=0, description="Groups per split before filtering; 0: one per position")
    iterations: int = Field(1500, ge=1, description="Of a training; the supervised arm takes half of them")
    epochs: int = Field(100, ge=1, description="Of an LSQML reconstruction")
    n_images: int = Field(0, ge=0, description="Positions kept per split, drawn with the subsampling seed; 0: all")

    @model_validator(mode="after")
    def _consistent(self) -> StudyDesign:
        for field, got, expected, holds in self._rules():
            if not holds:
                raise BadInput(f"{field}: got {got}, expected {expected}", remedy="change the study design")
        return self

    def _rules(self) -> list[tuple[str, object, str, bool]]:
        """(field, got, expected, whether it holds), in the order in which they are reported."""
        doses = [dose for dose in self.doses if math.isfinite(dose) and dose > 0]
        names = {int(dose) for dose in doses}
        levels, window = self.metrics.ms_ssim_levels, SSIM_WINDOW_PX
        return [
            ("doses", list(self.doses), "at least one", bool(self.doses)),
            ("doses", list(self.doses), "finite and above 0", len(doses) == len(self.doses)),
            ("doses", list(self.doses), "unique as whole photons", len(names) == len(doses) and 0 not in names),
            ("gridsizes", list(self.gridsizes), "unique, at least one, each >= 1",
             bool(self.gridsizes) and min(self.gridsizes) >= 1 and len({*self.gridsizes}) == len(self.gridsizes)),
            ("neighbors", self.neighbors, f">= C = {self.channels}", self.neighbors >= self.channels),
            ("N", self.N, "even and >= 32", self.N >= 32 and self.N % 2 == 0),
            ("guard_px", self.guard_px, f">= N = {self.N}", self.guard_px >= self.N),
            ("views", list(self.views), "at least one, names of the letters a-z, not 'baseline'",
             bool(self.views) and all(_is_name(name) for name in self.views)),
            ("views", dict(self.views), "0 <= f < 1", all(0 <= f < 1 for f in self.views.values())),
            ("metrics.ms_ssim_levels", levels, f"{window} * 2^(levels-1) <= N = {self.N}",
             window * 2 ** (levels - 1) <= self.N),
            ("metrics.frc_block", self.metrics.frc_block, f"<= N = {self.N}", self.metrics.frc_block <= self.N),
            ("base", self.base.model_dump(), "a file's object or scan needs a base file, tiling a file's object",
             (bool(self.base.sha256) or (self.base.object, self.base.scan) == ("synthetic", "design"))
             and (not self.base.tile or self.base.object == "file")),
            ("seeds.training", list(self.seeds.training), "at least one, unique",
             bool(self.seeds.training) and len({*self.seeds.training}) == len(self.seeds.training)),
        ]  # fmt: skip

    @property
    def channels(self) -> int:
        """C of the largest grid."""
        return int(max(self.gridsizes, default=1) ** 2)

    def spacing(self, view: str) -> float:
        """S = (1 - f) N: the least distance between the centres of a view's groups, px."""
        if view not in self.views:
            raise BadInput(f"no view {view!r}", remedy=f"one of {', '.join(self.views)}")
        return (1 - self.views[view]) * self.N

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; `StudyDesign.model_validate` takes it back."""
        return self.model_dump(mode="json")

    def for_data(self, dose: float) -> StudyDesign:
        """The part that decides the data of one dose, everything else at a fixed value: two studies that differ only
        in metrics, other doses or training seeds share their data and its hashes."""
        seeds = self.seeds.model_copy(update={"training": (0,), "reconstruction": 0})
        metrics = MetricsDesign(ms_ssim_levels=1, frc_block=8)
        return self.model_copy(update={
            "doses": (dose,), "seeds": seeds, "metrics": metrics, "iterations": 1, "epochs": 1,
        })  # fmt: skip

    def sha256(self) -> str:
        """The name of the study: equal designs have equal hashes on every machine."""
        return identity(self)


def dose_name(dose: float) -> str:
    """The folder of a dose: `dose_1000`."""
    return f"dose_{int(dose)}"


def get_study_design(size: Size = "full") -> StudyDesign:
    """The study at one of four sizes. `full` is the initiative's; `mini` is for one CPU, `smoke` for tests.

    Raises:
        BadInput: no such size.
    """
    small = {"N": 64, "guard_px": 64, "seeds": Seeds(training=(0,)), "iterations": 300}
    if size == "full":
        return StudyDesign()
    if size == "cluster64":
        return StudyDesign(N=64, guard_px=64, scan=ScanDesign(half_rows=320, cols=640, step_px=8))
    if size == "mini":
        return StudyDesign.model_validate({**small, "scan": ScanDesign(half_rows=192, cols=384, step_px=8)})
    if size == "smoke":
        return StudyDesign.model_validate({**small, "scan": ScanDesign(half_rows=128, cols=256, step_px=8)})
    raise BadInput(f"no size {size!r}", remedy=f"one of {', '.join(SIZES)}")


def _is_name(name: str) -> bool:
    return name.isascii() and name.isalpha() and name.islower() and name != ALL
