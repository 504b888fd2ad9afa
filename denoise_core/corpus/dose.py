"""Dose metadata: what each treatment received, the FiLM features, their statistics, the sampling bins.

Everything follows from the treatment and the angle alone, so nothing here is read from a file: a corpus's
own metadata files are compared with these values and refused where they differ.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from denoise_core.plans import FILM_FEATURES
from study_core.errors import BadInput

ANGLES = ("6Oclock", "12Oclock")
CONTROL = "treatment_6"
STATS_TOLERANCE = 2e-4  # the published statistics were summed in float32
_FEATURE_TOLERANCE = 1e-6
_MDV_UVA_MWH_CM2 = 54.4104  # mean daily value behind the published column UVA_pct_MDV
_QUINTILES = np.linspace(0.2, 0.8, 4)


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
_UVA_MAX = max(dose.uva_total for dose in DOSES.values())
_UVB_MAX = max(dose.uvb_total for dose in DOSES.values())


def cos_theta(angle: str) -> float:
    """cos(2π·hour/12) of a clock angle: +1 at `12Oclock`, −1 at `6Oclock`."""
    if angle not in ANGLES:
        raise BadInput(f"unknown angle {angle!r}", remedy=f"use one of {', '.join(ANGLES)}")
    return round(math.cos(2 * math.pi * int(angle.removesuffix("Oclock")) / 12), 12)


def dose_of(treatment: str) -> Dose:
    """The exposure of `treatment_1` … `treatment_6`; BadInput for any other name."""
    if treatment not in DOSES:
        raise BadInput(f"unknown treatment {treatment!r}", remedy=f"use one of {', '.join(DOSES)}")
    return DOSES[treatment]


def _feature_row(treatment: str, angle: str) -> list[float]:
    dose = dose_of(treatment)
    ratio = dose.uva_total / dose.uvb_total if dose.uvb_total else math.nan
    return [
        cos_theta(angle),
        dose.uva_total,
        dose.uvb_total,
        ratio,
        dose.uva_mw_cm2,
        dose.uvb_mw_cm2,
        dose.uva_total / _UVA_MAX,
        dose.uvb_total / _UVB_MAX,
    ]


def film_features(treatment: Sequence[str], angle: Sequence[str]) -> NDArray[np.float32]:
    """Raw dose features, float32 (B, 8) in `plans.FILM_FEATURES` order; the controls' ratio is NaN."""
    table = {(t, a): _feature_row(t, a) for t, a in set(zip(treatment, angle, strict=True))}
    rows = [table[key] for key in zip(treatment, angle, strict=True)]
    return np.asarray(rows, dtype=np.float32).reshape(-1, len(FILM_FEATURES))


@dataclass(frozen=True, eq=False)
class DoseStats:
    """Mean and population standard deviation (F,) of the FiLM features, in the order of `features`."""

    features: tuple[str, ...]
    mean_F: NDArray[np.float32]
    std_F: NDArray[np.float32]

    def standardise(self, features_BF: NDArray[np.float32]) -> NDArray[np.float32]:
        """(x − mean) / std, float32 (B, F); NaN (the controls' ratio) becomes 0, the mean."""
        standard: NDArray[np.float32] = np.nan_to_num((features_BF - self.mean_F) / self.std_F, nan=0.0)
        return standard.astype(np.float32, copy=False)

    def as_dict(self) -> dict[str, Any]:
        """The published file's form: `features`, `mean`, `std` as JSON lists."""
        return {"features": list(self.features), "mean": self.mean_F.tolist(), "std": self.std_F.tolist()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> DoseStats:
        """Inverse of `as_dict`; BadInput when a key is missing, a length differs or a value is not finite."""
        try:
            features = tuple(str(name) for name in data["features"])
            mean_F, std_F = (np.asarray(data[key], dtype=np.float32) for key in ("mean", "std"))
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(f"not dose statistics ({error!r})", remedy="give features, mean and std") from error
        if mean_F.shape != (len(features),) or std_F.shape != mean_F.shape:
            raise BadInput(f"{len(features)} features, but mean {mean_F.shape} and std {std_F.shape}")
        if not (np.isfinite(mean_F).all() and np.isfinite(std_F).all() and (std_F > 0).all()):
            raise BadInput("dose statistics hold a value that is not finite, or a std that is not positive")
        return cls(features, mean_F, std_F)


def dose_stats(features_BF: NDArray[np.float32], treatment: Sequence[str]) -> DoseStats:
    """Statistics over the dosed captures (the controls stay out, as in the published file).

    A std under 1e-6 becomes 1. BadInput when every capture is a control.
    """
    dosed = np.asarray(treatment) != CONTROL
    if not dosed.any():
        raise BadInput("no dosed capture: dose statistics need treatments 1 to 5")
    values_BF = features_BF[dosed].astype(np.float64)
    std_F = values_BF.std(axis=0)
    std_F = np.where(std_F < 1e-6, 1.0, std_F)
    return DoseStats(FILM_FEATURES, values_BF.mean(axis=0).astype(np.float32), std_F.astype(np.float32))


def read_dose_stats(path: Path) -> DoseStats:
    """Read `dose_stats.json`; BadInput (naming the file) when it is missing or malformed."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(
            f"cannot read dose statistics ({error})", file=path, remedy="generate the corpus again"
        ) from error
    try:
        return DoseStats.from_dict(data)
    except BadInput as error:
        raise BadInput(error.what, file=path, remedy=error.remedy or "generate the corpus again") from error


def verify_dose_stats(stats: DoseStats, path: Path) -> None:
    """BadInput when the file's statistics differ from the computed ones by more than 2e-4 (relative to 1 or more)."""
    found = read_dose_stats(path)
    if found.features != stats.features:
        raise BadInput(f"features {list(found.features)}, expected {list(stats.features)}", file=path)
    for name, got_F, want_F in (("mean", found.mean_F, stats.mean_F), ("std", found.std_F, stats.std_F)):
        error_F = np.abs(got_F - want_F) / np.maximum(np.abs(want_F), 1.0)
        worst = int(error_F.argmax())
        if error_F[worst] > STATS_TOLERANCE:
            raise BadInput(
                f"{name} of {stats.features[worst]} is {got_F[worst]:.6g}, the treatments give {want_F[worst]:.6g}",
                file=path,
                remedy="the file belongs to another corpus: restore it, or remove it and let it be computed",
            )


def dose_features(captures: pd.DataFrame) -> pd.DataFrame:
    """The table `dose_features.csv`, one row a capture, with the published columns in their order."""
    dosed = [dose for name, dose in DOSES.items() if name != CONTROL]
    uva, uvb = (np.array([getattr(d, key) for d in dosed]) for key in ("uva_total", "uvb_total"))
    rows = []
    for name, dose in DOSES.items():
        control = name == CONTROL
        rows.append(
            {
                "treatment": name,
                "treatment_number": int(name.removeprefix("treatment_")),
                "column_label": dose.column_label,
                "UVA_hours_h": dose.uva_hours,
                "UVB_hours_h": dose.uvb_hours,
                "P_UVA_mW_cm2": dose.uva_mw_cm2,
                "P_UVB_mW_cm2": dose.uvb_mw_cm2,
                "UVA_total_mWh_cm2": dose.uva_total,
                "UVB_total_mWh_cm2": dose.uvb_total,
                "UVA_over_UVB": math.nan if control else dose.uva_total / dose.uvb_total,
                "UVA_norm": dose.uva_total / _UVA_MAX,
                "UVB_norm": dose.uvb_total / _UVB_MAX,
                "UVA_total_z": (dose.uva_total - uva.mean()) / uva.std(),
                "UVB_total_z": (dose.uvb_total - uvb.mean()) / uvb.std(),
                "UVA_pct_MDV": math.nan if control else 100 * dose.uva_total / _MDV_UVA_MWH_CM2,
                "UVB_pct_MDV": math.nan if control else 100 * dose.uvb_total / _UVB_MAX,
            }
        )
    merged = captures.merge(pd.DataFrame(rows), on="treatment", how="left", validate="many_to_one")
    order = ["relative_path", "treatment", "treatment_number", "sample", "angle", "group_id"]
    return merged[order + [name for name in rows[0] if name not in order]]


def verify_dose_features(path: Path) -> None:
    """BadInput (file, row) at the first row of `dose_features.csv` whose dose is not its treatment's."""
    try:
        found = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise BadInput(f"cannot read dose features ({error})", file=path, remedy="generate the corpus again") from error
    keys = ["relative_path", "treatment", "sample", "angle", "group_id"]
    names = {"UVA_total": "UVA_total_mWh_cm2", "UVB_total": "UVB_total_mWh_cm2"}
    columns = [names.get(name, name) for name in FILM_FEATURES[1:]]
    if missing := [name for name in keys + columns if name not in found]:
        raise BadInput(f"no column {', '.join(missing)}", file=path, remedy="restore the published columns")
    for row, name in enumerate(found["treatment"], start=2):
        if name not in DOSES:
            raise BadInput(f"unknown treatment {name!r}", file=path, row=row, remedy=f"use one of {', '.join(DOSES)}")
    expected = dose_features(found[keys])
    for column in columns:
        got, want = (frame[column].to_numpy(dtype=np.float64) for frame in (found, expected))
        bad = ~np.isclose(got, want, rtol=_FEATURE_TOLERANCE, atol=_FEATURE_TOLERANCE, equal_nan=True)
        if bad.any():
            row = int(bad.argmax())
            raise BadInput(
                f"{column} is {got[row]:.6g}, {found['treatment'].iloc[row]} received {want[row]:.6g}",
                file=path,
                row=row + 2,
                remedy="correct the row, or remove the file and let it be computed",
            )


def sampling_weights(captures: pd.DataFrame) -> pd.DataFrame:
    """The table `dose_sampling_weights.csv`: unit weight and quintile bins `"(uva, uvb)"` of the normalised doses.

    The edges are the 20, 40, 60 and 80 % quantiles over the captures; a value on an edge belongs to the upper bin.
    """
    frame = dose_features(captures)
    bins = []
    for column in ("UVA_norm", "UVB_norm"):
        values = frame[column].to_numpy(dtype=np.float64)
        bins.append(np.digitize(values, np.quantile(values, _QUINTILES)))
    pairs = [f"({uva}, {uvb})" for uva, uvb in zip(*bins, strict=True)]
    return pd.DataFrame({"relative_path": frame["relative_path"], "sampling_weight": 1.0, "bin_pair": pairs})
