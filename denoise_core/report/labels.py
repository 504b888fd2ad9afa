"""Words and number formats for what the audit measures: one place, so that every page says the same."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from denoise_core.evaluation.controls import LEFT_OUT
from denoise_core.evaluation.thresholds import GATES
from study_core.gates import GateRecord

CANDIDATE = "candidate"
PRODUCTION = "in production"
NO_VALUE = "–"
NO_BREAK = "\u00a0"


class Label(NamedTuple):
    """What a metric is called, its unit, and how many decimals are worth reading. Unit "share" shows as per cent."""

    text: str
    unit: str
    decimals: int | None = None


_METRICS = {
    "panel_hash_differs": Label("Panel differs from the expected hash", "", 0),
    "leaked_groups": Label("Panel groups found in the training manifest", "", 0),
    "leaked_captures": Label("Panel captures in training under another name", "", 0),
    "duplicated_captures": Label("Captures that stand under two names", "", 0),
    "non_finite_values": Label("Values that are not finite", "", 0),
    "reference_may_ship": Label("Reference may decide shipping", "", 0),
    "psnr_mean": Label("PSNR, mean", "dB", 2),
    "psnr_std": Label("PSNR, standard deviation", "dB", 2),
    "psnr_std_without_offset_outliers": Label("PSNR, standard deviation without offset outliers", "dB", 2),
    "sam_mean": Label("SAM, mean", "°", 3),
    "composite_score": Label("Composite score (PSNR mean − sd)", "dB", 2),
    "score": Label("Composite score", "dB", 2),
    "joint_pass_ratio": Label("Captures inside both tail limits", "share", 1),
    "psnr_pass_ratio": Label("Captures above the tail's PSNR", "share", 1),
    "sam_pass_ratio": Label("Captures below the tail's SAM", "share", 1),
    "area_within_10_pct_ratio": Label("Captures with dip areas within the limit", "share", 1),
    "spurious_free_ratio": Label("Captures within the limit of spurious dips", "share", 1),
    "spurious_peaks": Label("Spurious dips", "", 0),
    "spurious_per_capture": Label("Spurious dips a capture", "", 3),
    "centroid_mae_nm_median": Label("Centroid error, median", "nm", 3),
    "depth_mae_median": Label("Depth error, median", "", 6),
    "variance_drop_pct": Label("Fall of the within-group variance", "%", 1),
    "separability_gain": Label("Gain of treatment separability", "", None),
    "median_delta_rho": Label("Change of the dose correlation, median", "", 3),
    "improved_ratio": Label("Dose series not worse", "share", 1),
    "peak_f1_mean": Label("Peak F1 against raw (fallback)", "", 3),
    "psnr_gain_over_raw": Label("PSNR above raw", "dB", 2),
    "sam_gain_over_raw": Label("SAM below raw", "°", 3),
    "psnr_gain_over_savgol": Label("PSNR above Savitzky–Golay", "dB", 2),
    "sam_gain_over_savgol": Label("SAM below Savitzky–Golay", "°", 3),
    "fidelity_excess": Label("Departure of the group's mean beyond the filters' (standard errors)", "", 2),
    "unsupported_feature": Label("Unsupported dip or bump, over the ordinary departure", "", 2),
    "capture_departure": Label("Departure of one capture, over a filter's", "", 2),
    "deeper_dips": Label("Captures with a deepened dip, beyond a filter's", "share", 1),
    "treatment_difference": Label("Difference between treatments beyond the filters' (standard errors)", "", 2),
    "error_over_floor": Label("Error over what one capture allows", "", 2),
    "own_capture": Label("Likeness to a filter's departure", "", 2),
    "gain_over_base_low_db": Label("Gain over the model's own filter, lower end", "dB", 3),
}
_METHODS = {
    "raw": "Raw capture",
    "savgol_61_3": "Savitzky–Golay (61, 3)",
    "lmmse": "LMMSE",
    "f": "Filter F",
    "model": "Model",
    PRODUCTION: "In production",
    CANDIDATE: "Candidate",
}
_GATE_TITLES = {"roi": "ROI"}


def metric_label(metric: str) -> Label:
    """Label of a metric; an unknown one keeps its name, unrounded. `name[group]` is how runs of old said a slice."""
    name, _, group = metric.partition("[")
    label = _METRICS.get(name, Label(name, ""))
    return label._replace(text=f"{label.text}, {group_label(group.rstrip(']'))}") if group else label


def gate_metric(gate: Mapping[str, Any]) -> str:
    """What a gate's record measured, on which slice (group, treatments, feature and wavelength), over what."""
    where = [group_label(str(value)) for value in (gate.get("slice") or {}).values()]
    where += [f"over {gate['against']}"] if gate.get("against") else []
    return ", ".join([metric_label(str(gate["metric"])).text, *where])


def gate_row(record: GateRecord) -> tuple[str, str, str, str]:
    """A gate's record as a terminal shows it, as the report has it: gate, measure, what it needs, value with unit."""
    label = metric_label(record.metric)
    needs = NO_VALUE if record.threshold is None else f"{sign(record.comparison)} {number(record.threshold, label)}"
    shown = gate_label(record.gate), gate_metric(record.model_dump()), needs, number(record.value, label)
    gate, metric, needs, value = (text.replace(NO_BREAK, " ") for text in shown)
    return gate, metric, needs, value


def sign(comparison: str) -> str:
    """A comparison as people write it."""
    return {">=": "≥", "<=": "≤"}.get(comparison, comparison)


def number(value: Any, label: Label, *, signed: bool = False) -> str:
    """A value in its label's unit; missing or not finite says so."""
    if value is None or not isinstance(value, int | float) or not math.isfinite(value):
        return "missing" if value is None else str(value)
    value, unit = (100.0 * value, "%") if label.unit == "share" else (float(value), label.unit)
    sign = "+" if signed else ""
    small = label.decimals is None or (value != 0 and abs(value) < 10.0**-label.decimals)
    text = f"{value:{sign}.3g}" if small else f"{value:{sign}.{label.decimals}f}"
    space = "" if unit in ("", "°") else NO_BREAK
    return (text + space + unit).replace("-", "−")


def margin(comparison: str, threshold: float | None, value: float | None) -> float | None:
    """Room between value and threshold, positive on the passing side; None where either is missing."""
    if threshold is None or value is None or comparison not in (">=", ">", "<=", "<"):
        return None
    return value - threshold if comparison.startswith(">") else threshold - value


def gate_label(gate: str) -> str:
    """`roi` → `3 ROI`: the number the reports print and the gate's name."""
    title = _GATE_TITLES.get(gate, gate.capitalize()) or "(no gate)"
    return f"{GATES.index(gate)} {title}" if gate in GATES else title


def method_label(name: str) -> str:
    """Readable name of a control or the candidate."""
    base = name.removesuffix(LEFT_OUT)
    label = _METHODS.get(base, base)
    return label if base == name else f"{label}, fitted without the panel's samples"


def group_label(group_id: str) -> str:
    """`treatment_5/sample_H/6Oclock` → `T5 H 6h`; anything else as it is."""
    found = re.fullmatch(r"treatment_(\w+)/sample_(\w+)/(\d+)Oclock", group_id)
    return NO_BREAK.join((f"T{found[1]}", found[2], f"{found[3]}h")) if found else group_id


def capture_label(relative_path: str) -> str:
    """`treatment_5/sample_H/6Oclock/rep_017.npy` → `T5 H 6h, rep 017`."""
    group, _, name = relative_path.rpartition("/")
    return f"{group_label(group)}, {name.removesuffix('.npy').replace('_', ' ')}"


def group_key(groups: Sequence[str]) -> str:
    """One line that explains the short names."""
    return "; ".join(f"{group_label(group)} = {group}" for group in groups if group_label(group) != group)
