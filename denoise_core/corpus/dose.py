"""Dose metadata: what each treatment received, the FiLM features, their statistics, the sampling bins.

Everything follows from the study, the treatment and the angle alone: a corpus's own metadata files are compared with
these values and refused where they differ. What a study does not say is NaN here, and 0, the mean, once standardised.
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

from denoise_core.corpus.study import PUBLISHED, STUDY_FILE, Dose, Study
from denoise_core.plans import FILM_FEATURES
from study_core.errors import BadInput

STATS_TOLERANCE = 2e-4  # the published statistics were summed in float32
_FEATURE_TOLERANCE = 1e-6
_MDV_UVA_MWH_CM2 = 54.4104  # mean daily value behind the published column UVA_pct_MDV
_QUINTILES = np.linspace(0.2, 0.8, 4)


def cos_theta(angle: str, study: Study = PUBLISHED) -> float:
    """cos of a clock angle, `Study.cos_theta`; BadInput for an angle that the study does not have."""
    if study.angles is not None and angle not in study.angles:
        raise BadInput(f"unknown angle {angle!r}", remedy=f"use one of {', '.join(study.angles)}")
    return study.cos_theta(angle)


def dose_of(treatment: str, study: Study = PUBLISHED) -> Dose | None:
    """A treatment's exposure, None where its study gives none; BadInput for a treatment that the study lacks."""
    if study.treatments is not None and treatment not in study.treatments:
        raise BadInput(f"unknown treatment {treatment!r}", remedy=f"use one of {', '.join(study.treatments)}")
    return study.dose(treatment)


def _largest(study: Study) -> tuple[float, float]:
    """The largest UVA and UVB total of a study's treatments; NaN where it has no doses, or only doses of 0."""
    doses = [dose for name in study.treatments or () if (dose := study.dose(name)) is not None]
    uva, uvb = (max((getattr(dose, key) for dose in doses), default=0.0) for key in ("uva_total", "uvb_total"))
    return uva or math.nan, uvb or math.nan


def _feature_row(treatment: str, angle: str, study: Study) -> list[float]:
    dose, cos = dose_of(treatment, study), cos_theta(angle, study)
    if dose is None:
        return [cos, *[math.nan] * (len(FILM_FEATURES) - 1)]
    uva_max, uvb_max = _largest(study)
    ratio = dose.uva_total / dose.uvb_total if dose.uvb_total else math.nan
    return [
        cos,
        dose.uva_total,
        dose.uvb_total,
        ratio,
        dose.uva_mw_cm2,
        dose.uvb_mw_cm2,
        dose.uva_total / uva_max,
        dose.uvb_total / uvb_max,
    ]


def film_features(treatment: Sequence[str], angle: Sequence[str], study: Study = PUBLISHED) -> NDArray[np.float32]:
    """Raw dose features, float32 (B, 8) in `plans.FILM_FEATURES` order; NaN for what is not known."""
    table = {(t, a): _feature_row(t, a, study) for t, a in set(zip(treatment, angle, strict=True))}
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


def dose_stats(features_BF: NDArray[np.float32], treatment: Sequence[str], study: Study = PUBLISHED) -> DoseStats:
    """Statistics over the dosed captures (the controls stay out, as in the published file); over all where the study
    has no doses.

    A std under 1e-6 becomes 1; a feature that no capture has, mean 0 and std 1. BadInput when every capture of a study
    with doses is a control or has none.
    """
    dosed = np.array([study.dose(name) is not None and not study.is_control(name) for name in treatment], bool)
    if not study.has_doses:
        dosed[:] = True
    if not dosed.any():
        raise BadInput("no dosed capture: dose statistics need treatments that received a dose and are no controls")
    values_BF = features_BF[dosed].astype(np.float64)
    mean_F, std_F = values_BF.mean(axis=0), values_BF.std(axis=0)
    for column in np.flatnonzero(~np.isfinite(mean_F)):
        known = values_BF[np.isfinite(values_BF[:, column]), column]
        mean_F[column], std_F[column] = (known.mean(), known.std()) if len(known) else (0.0, 1.0)
    std_F = np.where(std_F < 1e-6, 1.0, std_F)
    return DoseStats(FILM_FEATURES, mean_F.astype(np.float32), std_F.astype(np.float32))


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


def dose_features(captures: pd.DataFrame, study: Study = PUBLISHED) -> pd.DataFrame:
    """The table `dose_features.csv`, one row a capture, with the published columns in their order."""
    doses = {name: dose for name in study.treatments or () if (dose := study.dose(name)) is not None}
    dosed = [dose for name, dose in doses.items() if not study.is_control(name)]
    uva, uvb = (np.array([getattr(d, key) for d in dosed]) for key in ("uva_total", "uvb_total"))
    uva_max, uvb_max = _largest(study)
    rows = []
    for number, (name, dose) in enumerate(doses.items(), start=1):
        control = study.is_control(name)
        rows.append(
            {
                "treatment": name,
                "treatment_number": number,
                "column_label": dose.column_label,
                "UVA_hours_h": dose.uva_hours,
                "UVB_hours_h": dose.uvb_hours,
                "P_UVA_mW_cm2": dose.uva_mw_cm2,
                "P_UVB_mW_cm2": dose.uvb_mw_cm2,
                "UVA_total_mWh_cm2": dose.uva_total,
                "UVB_total_mWh_cm2": dose.uvb_total,
                "UVA_over_UVB": math.nan if control or not dose.uvb_total else dose.uva_total / dose.uvb_total,
                "UVA_norm": dose.uva_total / uva_max,
                "UVB_norm": dose.uvb_total / uvb_max,
                "UVA_total_z": (dose.uva_total - uva.mean()) / uva.std(),
                "UVB_total_z": (dose.uvb_total - uvb.mean()) / uvb.std(),
                "UVA_pct_MDV": math.nan if control else 100 * dose.uva_total / _MDV_UVA_MWH_CM2,
                "UVB_pct_MDV": math.nan if control else 100 * dose.uvb_total / uvb_max,
            }
        )
    merged = captures.merge(pd.DataFrame(rows), on="treatment", how="left", validate="many_to_one")
    order = ["relative_path", "treatment", "treatment_number", "sample", "angle", "group_id"]
    return merged[order + [name for name in rows[0] if name not in order]]


def verify_dose_features(path: Path, study: Study = PUBLISHED) -> None:
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
        if study.dose(str(name)) is None:
            raise BadInput(
                f"unknown treatment {name!r}, or one without a dose in the study {study.name}",
                file=path,
                row=row,
                remedy=f"give its dose in {STUDY_FILE}, or remove the file",
            )
    expected = dose_features(found[keys], study)
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


def sampling_weights(captures: pd.DataFrame, study: Study = PUBLISHED) -> pd.DataFrame:
    """The table `dose_sampling_weights.csv`: unit weight and quintile bins `"(uva, uvb)"` of the normalised doses.

    The edges are the 20, 40, 60 and 80 % quantiles over the captures; a value on an edge belongs to the upper bin.
    """
    frame = dose_features(captures, study)
    bins = []
    for column in ("UVA_norm", "UVB_norm"):
        values = frame[column].to_numpy(dtype=np.float64)
        bins.append(np.digitize(values, np.quantile(values, _QUINTILES)))
    pairs = [f"({uva}, {uvb})" for uva, uvb in zip(*bins, strict=True)]
    return pd.DataFrame({"relative_path": frame["relative_path"], "sampling_weight": 1.0, "bin_pair": pairs})
