"""Named thresholds of one CAV, and what they were set on. A score is a hit when it is at least the threshold.

`f1_max`, `precision_at_recall_90` and `fpr_0.05` are set on out-of-fold window scores; `protein_fpr_0.05` on the
maximum over each out-of-fold negative protein: a protein has hundreds of windows, and one of them is always high.
The registry names the CAV, layer, window and context that it belongs to, and serves no other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from concept_core.cav.rows import Floats
from study_core.errors import BadInput
from study_core.files import read_json, write_json
from study_core.plan import Frozen


def f1_max(positives: Floats, negatives: Floats) -> float:
    """The observed score with the largest F1; of equal ones the highest."""
    candidates = np.unique(np.r_[positives, negatives])[::-1]
    up, down = np.sort(positives), np.sort(negatives)
    hits = len(up) - np.searchsorted(up, candidates, side="left")
    false = len(down) - np.searchsorted(down, candidates, side="left")
    f1 = 2 * hits / (hits + false + len(up))
    return float(candidates[int(np.argmax(f1))])


def precision_at_recall(positives: Floats, recall: float) -> float:
    """The largest threshold at which recall is at least `recall`."""
    needed = max(1, math.ceil(recall * len(positives) - 1e-9))
    return float(np.sort(positives)[::-1][needed - 1])


def false_positive_rate(negatives: Floats, rate: float) -> float:
    """The smallest threshold at which at most `rate` of the negatives are hits: just above the first too many."""
    allowed = math.floor(rate * len(negatives) + 1e-9)
    descending = np.sort(negatives)[::-1]
    return float(np.nextafter(descending[allowed], np.inf)) if allowed < len(negatives) else float(descending[-1])


WINDOW_METHODS: dict[str, Callable[[Floats, Floats], float]] = {
    "f1_max": f1_max,
    "precision_at_recall_90": lambda positives, negatives: precision_at_recall(positives, 0.90),
    "fpr_0.05": lambda positives, negatives: false_positive_rate(negatives, 0.05),
}
PROTEIN_METHOD = "protein_fpr_0.05"


class Threshold(Frozen):
    """One threshold, with its rates on what it was set on."""

    threshold: float
    tpr: float
    fpr: float
    precision: float | None
    positives: int
    negatives: int
    set_on: str


class ThresholdRegistry(Frozen):
    """All thresholds of one CAV; the negatives' scores from which z and confidence are derived."""

    cav_sha256: str
    model: str
    layer: int
    window: int
    context: int | None
    thresholds: dict[str, Threshold]
    negative_mean: float
    negative_sd: float
    protein_null: tuple[float, ...]

    def checked(
        self, *, cav_sha256: str, layer: int, window: int, context: int | None, file: Path
    ) -> ThresholdRegistry:
        """Itself. Raises BadInput where it was set for another CAV, layer, window or context."""
        if self.cav_sha256 != cav_sha256:
            what = f"thresholds of CAV {self.cav_sha256[:12]}, the CAV here is {cav_sha256[:12]}"
            raise BadInput(what, file=file, remedy="run evaluate for this CAV")
        for name, mine, theirs in (
            ("layer", self.layer, layer),
            ("window", self.window, window),
            ("context", self.context, context),
        ):
            if mine != theirs:
                raise BadInput(
                    f"thresholds were set for {name} {mine}, asked is {theirs}", file=file, remedy="run evaluate"
                )
        return self

    def value(self, method: str) -> float:
        """The threshold of a method. Raises BadInput naming those there are."""
        if method not in self.thresholds:
            raise BadInput(f"no threshold {method}", remedy=f"one of {', '.join(self.thresholds)}")
        return self.thresholds[method].threshold


def rates(threshold: float, positives: Floats, negatives: Floats, set_on: str) -> Threshold:
    """A threshold with its rates."""
    hits, false = int((positives >= threshold).sum()), int((negatives >= threshold).sum())
    return Threshold(
        threshold=threshold,
        tpr=hits / max(1, len(positives)),
        fpr=false / max(1, len(negatives)),
        precision=hits / (hits + false) if hits + false else None,
        positives=len(positives),
        negatives=len(negatives),
        set_on=set_on,
    )


def set_thresholds(windows: tuple[Floats, Floats], proteins: tuple[Floats, Floats] | None) -> dict[str, Threshold]:
    """Every method that can be set on (positive, negative) out-of-fold window scores and protein maxima."""
    made = {name: rates(method(*windows), *windows, "windows") for name, method in WINDOW_METHODS.items()}
    if proteins is not None and len(proteins[1]):
        made[PROTEIN_METHOD] = rates(false_positive_rate(proteins[1], 0.05), *proteins, "proteins")
    return made


def write_registry(file: Path, registry: ThresholdRegistry) -> Path:
    """Replace `file`."""
    return write_json(file, registry.model_dump(mode="json"))


def read_registry(file: Path) -> ThresholdRegistry:
    """The registry of a file. Raises BadInput where there is none or it is something else."""
    try:
        return ThresholdRegistry.model_validate(read_json(file))
    except FileNotFoundError:
        raise BadInput("no such file", file=file, remedy="run evaluate first") from None
    except (ValidationError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise BadInput(f"no threshold registry ({first})", file=file, remedy="run evaluate again") from None
