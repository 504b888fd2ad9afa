"""Every threshold of the study's gates with its reason: the only file that holds one.

The numbers of `MINI` were set from measured runs of the mini study on two objects. A study of another size has no
floors until a person has looked at a run of it and set them: a rule without a threshold refuses.
"""

from __future__ import annotations

from pydantic import Field

from ptycho_core.check_loss import PATCH_FLOOR, TOLERANCE
from ptycho_core.design import StudyDesign, get_study_design
from study_core.plan import Frozen

GATES = {
    "integrity": "Every cell is there, the split shares no pixel, every image lies where it should",
    "loss": "The training explains patterns that it never saw, and copied no noise",
    "quality": "The image is like the truth",
    "chance": "It is this object, not one that looks like it",
    "against LSQML": "Not far behind the iterative reconstruction",
    "LSQML sane": "The iterative reconstruction is a fair opponent",
    "overlap matters": "Groups that overlap are worth their constraint",
    "regression": "No worse than the run that a person blessed",
}
"""Gates in order, with their titles."""


class CellFloor(Frozen):
    """What one cell must reach. None: nobody has set it, so it refuses."""

    deviance_ratio_max: float | None = Field(
        None, description="Measured plus room: 1.003, 1.111 and 1.378 dense at 1e3, 1e4 and 1e5; 1 is explained"
    )
    ph_ms_ssim_min: float | None = Field(
        None, description="Below the lower of two objects: the object it was tuned on, and one it was not"
    )


class StudyThresholds(Frozen):
    """Thresholds of every gate. Ratios of deviance, similarity in 0..1, shifts in px."""

    shift_px_max: float = Field(
        0.5, description="With a known, fixed probe nothing may move the image; half a pixel is a fault"
    )
    patch_ratio_min: float = Field(
        PATCH_FLOOR, description="A patch that explains its own noise copied it: .690 at 1e3 without thinning"
    )
    over_flat_min: float = Field(
        0.25, description="A flat object scores .015; what is not far above it has learnt nothing"
    )
    over_rolled_min: float = Field(
        0.25, description="The same image 60 px aside scores .015 to .036: right statistics in the wrong place"
    )
    over_lsqml_min: float = Field(
        -0.10, description="Seeds and objects scatter by .05; twice that behind LSQML is a regression"
    )
    lsqml_min: float = Field(0.70, description="Measured .804 and .820 dense at 1e5; below, its options are broken")
    lsqml_amplitude: tuple[float, float] = Field(
        (0.95, 1.05), description="Measured .9989 dense at 1e5: the absolute scale is kept"
    )
    lsqml_over_lower_dose_min: float = Field(0.0, description="More photons never make an iterative solver worse")
    lsqml_judged_at: float = Field(1e5, description="Dose at which photons no longer excuse LSQML")
    grouping_min: float = Field(
        0.0, description="Measured .752 over .662 at 1e4 and .817 over .627 at 1e5 for groups over single patterns"
    )
    grouping_judged_at: tuple[float, ...] = Field((1e4, 1e5), description="Doses at which the overlap must help")
    regression_max: float = Field(TOLERANCE, description="Above the golden manifest's ratio; seeds scatter by less")
    cells: dict[str, CellFloor] = Field(default_factory=dict, description="By `<dose>/<view>`, dose as whole photons")

    def floor(self, dose: float, view: str) -> CellFloor:
        """The cell's own; one without numbers where nobody set them."""
        return self.cells.get(f"{int(dose)}/{view}", CellFloor())


MINI = StudyThresholds(
    cells={
        "1000/dense": CellFloor(deviance_ratio_max=1.05, ph_ms_ssim_min=0.45),
        "1000/sparse": CellFloor(deviance_ratio_max=1.05, ph_ms_ssim_min=0.32),
        "10000/dense": CellFloor(deviance_ratio_max=1.35, ph_ms_ssim_min=0.62),
        "10000/sparse": CellFloor(deviance_ratio_max=1.35, ph_ms_ssim_min=0.55),
        "100000/dense": CellFloor(deviance_ratio_max=2.2, ph_ms_ssim_min=0.68),
        "100000/sparse": CellFloor(deviance_ratio_max=2.2, ph_ms_ssim_min=0.65),
    }
)


def thresholds_for(design: StudyDesign) -> StudyThresholds:
    """The measured floors where scan, patterns and training are the mini study's; none elsewhere."""
    mini = get_study_design("mini")
    same = (design.N, design.scan, design.iterations, design.views) == (mini.N, mini.scan, mini.iterations, mini.views)
    return MINI if same else StudyThresholds()
