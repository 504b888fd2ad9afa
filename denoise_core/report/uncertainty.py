"""Is the uncertainty honest? The answer in words, from the coverage of the bands, and the figure beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scipy.stats import norm

from denoise_core.evaluation.uncertainty import LEVELS
from denoise_core.report import figures
from denoise_core.report.labels import group_label
from study_core.report.blocks import Block, Items, Section, Text

HONEST_WITHIN = 1.1
"""A stated error that is off by less than a tenth moves no conclusion that is drawn from a band."""

TITLE = "Is the uncertainty honest?"


def uncertainty_section(known: Mapping[str, Any]) -> Section:
    """The section of one verdict; `known` is empty for a model without a standard error."""
    if not known:
        text = Text("This model gives no finite standard error, so there is nothing to calibrate.")
        return Section("uncertainty", "Uncertainty", (text,))
    blocks: tuple[Block, ...] = (Text(answer(known)), Items(tuple(_details(known))), figures.calibration(known))
    return Section("uncertainty", TITLE, blocks)


def answer(known: Mapping[str, Any]) -> str:
    """Yes or no, in a sentence with the figures that say so."""
    found = {level: _covered(known, level) for level in LEVELS}
    factors = [factor for level, share in found.items() if (factor := spread(share, level)) is not None]
    if not factors:
        return "Nobody can say: the coverage of its bands was not measured."
    bands = " and ".join(
        f"its {100 * level:.0f} % band covers {_share(share)} of the samples" for level, share in found.items()
    )
    if max(factors) <= HONEST_WITHIN and min(factors) >= 1 / HONEST_WITHIN:
        return f"Yes: {bands}."
    if max(factors) > HONEST_WITHIN and min(factors) >= 1 / HONEST_WITHIN:
        return f"No, it is over-confident: {bands}. Read every stated ± as about {max(factors):.1f} times as large."
    if max(factors) <= HONEST_WITHIN:
        return f"It is too cautious: {bands}. The errors are about {min(factors):.1f} times what is stated."
    return f"Only in part: {bands}. The errors have another shape than a Gaussian's."


def spread(covered: float | None, level: float) -> float | None:
    """How many times its stated standard error a Gaussian error would be, whose band of `level` covers `covered`."""
    if covered is None or not 0.0 < covered < 1.0:
        return None
    return float(norm.ppf(0.5 + level / 2) / norm.ppf(0.5 + covered / 2))


def _details(known: Mapping[str, Any]) -> list[str]:
    error = known.get("mean_standard_error")
    stated = "unknown" if error is None else f"{error:.5f}"
    lines = [
        f"The model states a standard error for each wavelength, {stated} in reflectance on average, for "
        f"{_share(known.get('known'))} of the samples."
    ]
    level = LEVELS[0]
    groups = {
        name: share
        for name, row in (known.get("by_group") or {}).items()
        if (share := _covered(row, level)) is not None
    }
    if len(groups) > 1:
        (least, low), (most, high) = (pick(groups.items(), key=lambda one: one[1]) for pick in (min, max))
        lines.append(
            f"By group the {100 * level:.0f} % band covers from {_share(low)} ({group_label(least)}) to {_share(high)} "
            f"({group_label(most)})."
        )
    lines.append(
        "Held against the leave-one-out means, whose own noise costs a little coverage where the error is tiny."
    )
    return lines


def _covered(row: Mapping[str, Any], level: float) -> float | None:
    value = row.get(f"coverage_{round(100 * level)}")
    return None if value is None else float(value)


def _share(value: float | None) -> str:
    return "an unknown share" if value is None else f"{100 * value:.1f} %"
