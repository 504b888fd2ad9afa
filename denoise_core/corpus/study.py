"""What a corpus is a study of: treatments with their doses or none, angles, panel, replicates, ROI, units, grid.

A corpus says so in `study.yaml`; one without it is of the published study (`PUBLISHED`). Nothing is borrowed: a
treatment that the file gives no dose has none.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import yaml
from numpy.typing import NDArray
from pydantic import Field, ValidationError, field_validator, model_validator

from study_core.errors import BadInput
from study_core.plan import Frozen, canonical_json

STUDY_FILE = "study.yaml"
ANGLES = ("6Oclock", "12Oclock")
CONTROL = "treatment_6"
NAME = r"\w[\w.+-]*"  # of a treatment, a sample, an angle or a file: a folder's name that leads nowhere else
Units = Literal["reflectance", "percent", "absorbance", "absorptance"]  # the last one: 1 - R
FEWEST_SAMPLES = 3  # of a treatment: one to train on, one to validate, one to test


@dataclass(frozen=True)
class Dose:
    """Exposure of one treatment: irradiances in mW/cm², durations in hours, the published column's label."""

    uva_mw_cm2: float
    uvb_mw_cm2: float
    uva_hours: float = 24.0
    uvb_hours: float = 1.065625
    column_label: str = "control"

    @property
    def uva_total(self) -> float:
        """UVA dose in mWh/cm²."""
        return self.uva_mw_cm2 * self.uva_hours

    @property
    def uvb_total(self) -> float:
        """UVB dose in mWh/cm²."""
        return self.uvb_mw_cm2 * self.uvb_hours


DOSES: dict[str, Dose] = {
    "treatment_1": Dose(3.185, 0.707, column_label="2"),
    "treatment_2": Dose(2.488, 0.768, column_label="3"),
    "treatment_3": Dose(1.692, 0.584, column_label="5"),
    "treatment_4": Dose(1.095, 0.338, column_label="7"),
    "treatment_5": Dose(0.647, 0.246, column_label="9"),
    CONTROL: Dose(0.0, 0.0, 0.0, 0.0),
}


class Treatment(Frozen):
    """One treatment of a study. A dose takes all four of its numbers; a control takes part in no fold."""

    control: bool = False
    uva_mw_cm2: float | None = Field(None, ge=0, allow_inf_nan=False)
    uvb_mw_cm2: float | None = Field(None, ge=0, allow_inf_nan=False)
    uva_hours: float | None = Field(None, ge=0, allow_inf_nan=False)
    uvb_hours: float | None = Field(None, ge=0, allow_inf_nan=False)
    column_label: str = "control"

    @model_validator(mode="after")
    def _whole_dose(self) -> Treatment:
        given = [value is not None for value in self._numbers()]
        if any(given) and not all(given):
            raise ValueError("a dose takes uva_mw_cm2, uvb_mw_cm2, uva_hours and uvb_hours; or none of them")
        return self

    def _numbers(self) -> tuple[float | None, ...]:
        return self.uva_mw_cm2, self.uvb_mw_cm2, self.uva_hours, self.uvb_hours

    @property
    def dose(self) -> Dose | None:
        """The exposure, None where the study gives none."""
        uva, uvb, uva_hours, uvb_hours = self._numbers()
        if uva is None or uvb is None or uva_hours is None or uvb_hours is None:
            return None
        return Dose(uva, uvb, uva_hours, uvb_hours, self.column_label)


class Grid(Frozen):
    """The wavelengths that a corpus of this study has, in nm."""

    first_nm: float
    last_nm: float
    points: int = Field(ge=8)


class Study(Frozen):
    """A study's own facts. `treatments` and `angles` of None: those that the captures have, without a dose."""

    name: str = Field(min_length=1)
    factors: dict[Literal["treatment", "sample", "angle"], str] = Field(default_factory=dict)
    treatments: dict[str, Treatment] | None = None
    angles: dict[str, float | None] | None = None  # degrees from 12 o'clock; None: no geometry
    panel: tuple[str, ...] = ()
    replicates: int | Literal["equal"] | None = None  # captures that every group has; None: any number
    samples: int | None = Field(None, ge=FEWEST_SAMPLES)  # that every treatment of a fold has; None: any number
    roi_nm: tuple[float, float] = (320.0, 500.0)
    units: Units = "reflectance"  # of files that are to be imported, too; a corpus itself holds reflectance
    grid: Grid | None = None
    twins: bool = False  # manifest_full repeats fold 01's validation and test samples, as the published one does

    @field_validator("treatments", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        """A list of names, or a mapping; a name without anything has no dose."""
        if isinstance(value, list):
            value = dict.fromkeys(value)
        if isinstance(value, dict) and (odd := [name for name in value if name is None or isinstance(name, bool)]):
            raise ValueError(f"YAML reads a name as {odd[0]}: put it in quotes")
        return {str(name): entry or {} for name, entry in value.items()} if isinstance(value, dict) else value

    @field_validator("angles", mode="before")
    @classmethod
    def _placed(cls, value: Any) -> Any:
        """A list of names, or name → degrees; `6Oclock` says its own."""
        return {str(name): None for name in value} if isinstance(value, list) else value

    @model_validator(mode="after")
    def _sound(self) -> Study:
        for kind, names in (("treatment", self.treatments or ()), ("angle", self.angles or ())):
            for name in names:
                if not re.fullmatch(NAME, name):
                    raise ValueError(f"{kind} {name!r}: letters, digits, _ . + - only")
        for group in self.panel:
            if not re.fullmatch(f"{NAME}/{NAME}/{NAME}", group):
                raise ValueError(f"panel group {group!r} is not TREATMENT/SAMPLE/ANGLE")
        if not self.roi_nm[0] < self.roi_nm[1]:
            raise ValueError("roi_nm must rise: [320, 500]")
        return self

    @property
    def has_doses(self) -> bool:
        """Whether any treatment has a dose."""
        return any(entry.dose is not None for entry in (self.treatments or {}).values())

    def dose(self, treatment: str) -> Dose | None:
        """A treatment's exposure; None where this study gives it none."""
        entry = (self.treatments or {}).get(treatment)
        return None if entry is None else entry.dose

    def is_control(self, treatment: str) -> bool:
        """Whether a treatment is a control: in no fold, and outside the statistics of the doses."""
        entry = (self.treatments or {}).get(treatment)
        return entry is not None and entry.control

    def cos_theta(self, angle: str) -> float:
        """cos of an angle's degrees from 12 o'clock: +1 at `12Oclock`, −1 at `6Oclock`; NaN where it has none."""
        degrees = (self.angles or {}).get(angle)
        if degrees is None:
            hour = re.fullmatch(r"(\d{1,2})Oclock", angle)
            degrees = None if hour is None else 30.0 * int(hour[1])
        return math.nan if degrees is None else round(math.cos(math.radians(degrees)), 12)

    def identity(self) -> str:
        """What of a study counts in a corpus's content hash: what a model or a figure follows from."""
        return canonical_json(self.model_dump(mode="json", include={"treatments", "angles", "roi_nm"}))

    def verify_rows(self, frame: pd.DataFrame, path: Path, first_row: int) -> None:
        """BadInput (file, row) at the first capture of a treatment or an angle that this study does not have."""
        for column, known in (("treatment", self.treatments), ("angle", self.angles)):
            if known is None:
                continue
            bad = ~frame[column].isin(list(known)).to_numpy(dtype=bool)
            if bad.any():
                row = int(bad.argmax())
                raise BadInput(
                    f"unknown {column} {frame[column].iloc[row]!r}; the study {self.name} has {', '.join(known)}",
                    file=path,
                    row=row + first_row,
                    remedy=f"correct the row, or describe your own study in {STUDY_FILE} (data/README.md)",
                )
        found = set(frame["group_id"])
        if self is not PUBLISHED and (absent := [group for group in self.panel if group not in found]):
            raise BadInput(
                f"panel group {absent[0]} has no capture", file=path, remedy=f"correct panel in {STUDY_FILE}"
            )

    def verify_grid(self, wavelength_nm: NDArray[Any], path: Path) -> None:
        """BadInput where the wavelengths are not those of the study, or none lies in its ROI."""
        first, last, points = float(wavelength_nm[0]), float(wavelength_nm[-1]), len(wavelength_nm)
        if self.grid is not None:
            want = self.grid
            if points != want.points or abs(first - want.first_nm) > 1e-3 or abs(last - want.last_nm) > 1e-3:
                raise BadInput(
                    f"{points} wavelengths from {first:g} to {last:g} nm, the study {self.name} has {want.points} from "
                    f"{want.first_nm:g} to {want.last_nm:g} nm",
                    file=path,
                    remedy=f"correct grid in {STUDY_FILE}, or import the spectra again",
                )


PUBLISHED = Study(
    name="published",
    treatments={
        name: Treatment(
            control=name == CONTROL,
            uva_mw_cm2=dose.uva_mw_cm2,
            uvb_mw_cm2=dose.uvb_mw_cm2,
            uva_hours=dose.uva_hours,
            uvb_hours=dose.uvb_hours,
            column_label=dose.column_label,
        )
        for name, dose in DOSES.items()
    },
    angles={"6Oclock": 180.0, "12Oclock": 0.0},
    panel=("treatment_3/sample_J/12Oclock", "treatment_5/sample_H/6Oclock", "treatment_6/sample_I/6Oclock"),
    replicates="equal",
    samples=5,
    twins=True,
)


def read_study(path: Path | None, of: Literal["corpus", "files"] = "corpus") -> Study:
    """The study in a `study.yaml`, of a corpus or of files to import; the published one for None.

    BadInput names file, key and remedy.
    """
    if path is None:
        return PUBLISHED
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        told = " ".join(str(error).split())
        raise BadInput(f"not a study ({told})", file=path, remedy="YAML as in data/README.md") from error
    try:
        study = Study.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        what = f"{place}: {first['msg'].removeprefix('Value error, ')}"
        raise BadInput(what, file=path, remedy="keys: data/README.md, Your own data") from error
    if of == "corpus" and study.units != "reflectance":
        raise BadInput(
            f"units {study.units}: a corpus holds reflectance as a fraction", file=path, remedy="gated import converts"
        )
    return study


def write_study(study: Study) -> str:
    """A study as the text of its `study.yaml`: its units, and what differs from the defaults."""
    content = {**study.model_dump(mode="json", exclude_defaults=True), "units": study.units}
    if study.treatments is not None:
        content["treatments"] = {
            name: entry.model_dump(mode="json", exclude_defaults=True) for name, entry in study.treatments.items()
        }
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
