"""Fidelity: does the output say what the captures say, on the mean of a group, of a treatment, and in each capture?

PSNR, SAM and the dips of gate 3 see what is lost; additions (a dip that no capture has, a treatment effect) cost them
next to nothing. Here the mean of the outputs of a group is held against the mean of its captures, whose standard
error is known, feature by feature over the whole range, and against what honest controls (fitted filters) do there.

Shapes: M captures, each once; L wavelengths. Names: D a departure from the reference (output − reference).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d
from scipy.stats import norm
from scipy.stats import t as student

from denoise_core.evaluation.dips import ROI_NM, Roi, deeper_dips
from denoise_core.evaluation.downstream import PanelLabels
from denoise_core.evaluation.features import BROAD, EVERY, NARROW, Feature
from denoise_core.evaluation.labels import each
from denoise_core.evaluation.metrics import Floats
from study_core.gates import Measure

NEIGHBOURHOOD_NM = 20.0
"""A model may err as much as a control errs within this (and two widths) of the wavelength, not only at it: honest
methods that know nothing of each other err at different dips. On the difference of two treatments, which is what a
study reads and what a control's own bias mostly leaves, it may err only where a control does."""
SPREAD_QUANTILE = 0.8
"""Where a model's departures from the controls are ordinary; an isolated dip fills less than the rest of the range."""
NOISE_SHARE = 0.2
"""Departures below a fifth of the mean's standard error are nothing that anybody could have added for a purpose."""
SUPPORT = 3.0
"""Standard errors by which a departure must bring the output closer to the reference to count as learned from data."""
CAPTURE_FEATURES = (Feature(1.0), Feature(5.0))


@dataclass(frozen=True)
class Judged:
    """What is compared: the output, the reference, raw captures and fitted controls of the same M captures."""

    output_ML: Floats
    reference_ML: Floats
    raw_ML: Floats
    controls: Mapping[str, Floats]
    labels: PanelLabels
    wavelength_nm: Floats
    roi_nm: Roi = ROI_NM

    @property
    def step_nm(self) -> float:
        return float(np.diff(self.wavelength_nm).mean())


@dataclass(frozen=True)
class _Mean:
    """One feature of the mean of some captures: departures of output and controls, and the reference's own error."""

    own_L: Floats
    control_CL: Floats
    error_L: Floats

    def minus(self, other: _Mean) -> _Mean:
        """The same of a difference between two means."""
        error_L = np.hypot(self.error_L, other.error_L)
        return _Mean(self.own_L - other.own_L, self.control_CL - other.control_CL, error_L)


@dataclass(frozen=True)
class _Worst:
    """The largest value found, and where."""

    value: float
    nm: float
    feature: Feature

    def measure(self, metric: str, **where: str) -> Measure:
        return Measure(metric, self.value, {**where, "feature": self.feature.name, "at": f"{self.nm:.1f} nm"})


def fidelity_measures(judged: Judged) -> list[Measure]:
    """Every figure of the gate `fidelity`; each names the feature and the wavelength at which it is worst.

    fidelity_excess, by group: how far the mean departs from the reference beyond what any control does within
        20 nm, in standard errors of the reference's mean. Without controls nothing is allowed for.
    unsupported_feature, by group (with controls): a dip or bump of 1–5 nm outside everything that the controls make
        of these captures, that does not bring the output closer to the reference, in multiples of how far the output
        ordinarily departs from the controls.
    capture_departure, by group: the largest departure of one capture from its group's, over the controls' largest
        (without controls: over the raw captures').
    treatment_difference, by pair of treatments: as fidelity_excess, on the difference of their groups' means, and
        beyond what any control does at the wavelength itself.
    deeper_dips, by group: the share of captures with a dip that its reference has, but 0.003 less deep, less the
        largest share of a control.
    """
    means = {
        (group, feature): _mean(judged, rows, feature)
        for group, rows in each(judged.labels.group_M)
        for feature in EVERY
    }
    groups = [group for group, _ in each(judged.labels.group_M)]
    found: list[Measure] = []
    for group in groups:
        found.append(_largest(judged, ((f, _excess(means[group, f], _reach(judged, f))) for f in EVERY)).measure(
            "fidelity_excess", group=group))  # fmt: skip
        if judged.controls:
            found.append(_largest(judged, ((f, _unsupported(means[group, f])) for f in NARROW)).measure(
                "unsupported_feature", group=group))  # fmt: skip
    for group, rows in each(judged.labels.group_M):
        departures = ((feature, _capture_departure(judged, rows, feature)) for feature in CAPTURE_FEATURES)
        found.append(_largest(judged, departures).measure("capture_departure", group=group))
        found.append(Measure("deeper_dips", _deeper(judged, rows), {"group": group}))
    return found + _treatments(judged, means)


def _treatments(judged: Judged, means: Mapping[tuple[str, Feature], _Mean]) -> list[Measure]:
    """`treatment_difference` of every pair of treatments of the panel."""
    treatment_of = dict(zip(judged.labels.group_M.tolist(), judged.labels.treatment_M.tolist(), strict=True))
    groups_of: dict[str, list[str]] = {}
    for group, treatment in treatment_of.items():
        groups_of.setdefault(treatment, []).append(group)

    def mean_of(treatment: str, feature: Feature) -> _Mean:
        return _average([means[group, feature] for group in groups_of[treatment]])

    found = []
    for one, other in combinations(sorted(groups_of), 2):
        worst = _largest(judged, ((f, _excess(mean_of(one, f).minus(mean_of(other, f)), 0)) for f in BROAD))
        found.append(worst.measure("treatment_difference", treatments=f"{one}, {other}"))
    return found


def _mean(judged: Judged, rows: NDArray[np.int64], feature: Feature) -> _Mean:
    """The feature on the means of a group's captures. The reference's error is that of its mean over the captures."""
    reference_L = judged.reference_ML[rows].mean(axis=0)
    departures = [judged.output_ML[rows].mean(axis=0) - reference_L]
    departures += [values_ML[rows].mean(axis=0) - reference_L for values_ML in judged.controls.values()]
    own_L, *control = feature.of(np.stack(departures), judged.step_nm)
    noise_ML = feature.of(judged.raw_ML[rows] - reference_L, judged.step_nm)
    error_L = noise_ML.std(axis=0, ddof=1) / np.sqrt(len(rows)) * _few(len(rows))
    return _Mean(own_L, np.array(control).reshape(len(control), len(own_L)), error_L)


def _few(captures: int) -> float:
    """By how much a standard error that few captures gave must be widened, so that 5 of it mean what 5 σ mean."""
    return float(student.isf(norm.sf(5.0), captures - 1)) / 5.0 if captures > 1 else float("nan")


def _average(means: list[_Mean]) -> _Mean:
    """Mean of several groups' means."""
    error_L = np.sqrt(np.mean([mean.error_L**2 for mean in means], axis=0) / len(means))
    own_L, control_CL = (np.mean([getattr(mean, name) for mean in means], axis=0) for name in ("own_L", "control_CL"))
    return _Mean(own_L, control_CL, error_L)


def _excess(mean: _Mean, reach: int) -> Floats:
    """(|D| − what a control does within `reach` samples) / standard error, at each wavelength."""
    allowed_L = np.zeros_like(mean.own_L)
    if len(mean.control_CL):
        allowed_L = maximum_filter1d(np.abs(mean.control_CL).max(axis=0), 2 * reach + 1, mode="nearest")
    return _divided(np.abs(mean.own_L) - allowed_L, mean.error_L)


def _reach(judged: Judged, feature: Feature) -> int:
    """Samples within which a control's errors excuse those of the output."""
    return round((NEIGHBOURHOOD_NM + 2.0 * feature.width_nm) / judged.step_nm)


def _unsupported(mean: _Mean) -> Floats:
    """Distance outside the controls' range, over its ordinary size; 0 where the reference supports the departure."""
    low_L, high_L = mean.control_CL.min(axis=0), mean.control_CL.max(axis=0)
    outside_L = np.maximum(np.maximum(mean.own_L - high_L, low_L - mean.own_L), 0.0)
    ordinary = float(np.quantile(outside_L, SPREAD_QUANTILE)) / float(norm.ppf((1 + SPREAD_QUANTILE) / 2))
    gained_L = np.abs(mean.control_CL).min(axis=0) - np.abs(mean.own_L)
    unsupported_L = np.where(gained_L < SUPPORT * mean.error_L, outside_L, 0.0)
    return _divided(unsupported_L, np.hypot(ordinary, NOISE_SHARE * mean.error_L))


def _capture_departure(judged: Judged, rows: NDArray[np.int64], feature: Feature) -> Floats:
    """Largest departure of a capture from its group's median, over the largest of a control, at each wavelength."""

    def largest_L(values_ML: Floats) -> Floats:
        departure_ML = feature.of(values_ML[rows] - judged.reference_ML[rows], judged.step_nm)
        return np.asarray(np.abs(departure_ML - np.median(departure_ML, axis=0)).max(axis=0))

    allowed = [largest_L(values_ML) for values_ML in judged.controls.values()] or [largest_L(judged.raw_ML)]
    reach = 2 * _reach(judged, feature) + 1
    allowed_L = maximum_filter1d(np.max(allowed, axis=0), reach, mode="nearest")
    return _divided(largest_L(judged.output_ML), allowed_L)


def _deeper(judged: Judged, rows: NDArray[np.int64]) -> float:
    """Share of the group's captures with a dip deeper than the reference's, beyond the controls' share."""

    def share(values_ML: Floats) -> float:
        return float(
            (deeper_dips(values_ML[rows], judged.reference_ML[rows], judged.wavelength_nm, judged.roi_nm) > 0).mean()
        )

    return share(judged.output_ML) - max((share(values_ML) for values_ML in judged.controls.values()), default=0.0)


def _largest(judged: Judged, values: Iterable[tuple[Feature, Floats]]) -> _Worst:
    """The largest of several features over all wavelengths; NaN (which no rule passes) wins over every number."""
    worst = _Worst(-np.inf, float("nan"), EVERY[0])
    for feature, value_L in values:
        at = int(np.argmax(value_L))  # argmax stops at the first NaN
        if np.isnan(value_L[at]) or value_L[at] > worst.value:
            worst = _Worst(float(value_L[at]), float(judged.wavelength_nm[at]), feature)
        if np.isnan(worst.value):
            break
    return worst


def _divided(value_L: Floats, by_L: Floats) -> Floats:
    """Quotient; 0/0 is 0 (nothing departs from where nothing varies), anything else over 0 is infinite: refused."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where((value_L <= 0) & (by_L == 0), 0.0, value_L / by_L))
