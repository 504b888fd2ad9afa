"""The study's tables, for the page and for summary.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ptycho_core.comparison import ARMS, FLAT, LSQML
from ptycho_core.evaluation.cells import Cell
from ptycho_core.evaluation.gates import StudyVerdict
from ptycho_core.evaluation.thresholds import GATES
from ptycho_core.report.record import StudyRecord, view_label
from ptycho_core.report.statements import FINDING
from study_core.gates import GateRecord
from study_core.report.blocks import Shade, Table

SHORT = {"PtychoPINN": "PINN groups", "PtychoPINN-gs1": "PINN single", "Baseline": "Baseline", "PtyChi": "LSQML",
         "flat": "flat object"}  # fmt: skip
"""Arms for people."""
NONE = "–"
_FIGURES = {
    "ph_ms_ssim": "phase MS-SSIM", "am_ms_ssim": "amplitude MS-SSIM", "ph_mae": "phase MAE, rad", "ph_psnr":
    "phase PSNR, dB", "am_mae": "amplitude MAE", "ph_frc50": "phase FRC50", "am_frc50": "amplitude FRC50",
    "nrmse": "NRMSE", "deviance_ratio": "deviance ratio", "deviance_ratio_patch": "patch ratio",
    "amplitude_ratio": "amplitude / truth", "scale": "fitted scale", "shift": "shift, px",
}  # fmt: skip


def three(value: float | None, sign: bool = False) -> str:
    """Three decimals, a dash for nothing."""
    return NONE if value is None else f"{value:+.3f}" if sign else f"{value:.3f}"


def matrix(study: StudyRecord) -> Table:
    """Dose × view: phase MS-SSIM of every arm, coloured by its difference to LSQML."""
    rows, shades = [], list[tuple[Shade, ...]]()
    for cell in study.cells:
        record = cell.record
        overlap = study.overlap(cell.view)
        facts = [
            str(record.get("n_images", NONE)),
            NONE if overlap is None else f"{study.design.views[cell.view]:.1f} / {overlap:.2f}",
            f"{record['lit_fraction']:.0%}" if record else NONE,
        ]  # fmt: skip
        scores, left_out = [NONE] * len(ARMS), f"{cell.state}: {cell.reason}"
        colours: list[Shade] = ["empty"] * len(ARMS)
        if cell.state == "compared":
            scores, left_out = [_score(cell, arm) for arm in ARMS], _empty_arms(cell)
            colours = [_shade(cell, arm) for arm in ARMS]
        rows.append((f"{cell.dose:g}", view_label(cell.view), *scores, *facts, left_out))
        shades.append(("", "", *colours, "", "", "", ""))
    return Table(
        "Phase MS-SSIM by dose and view",
        ("photons", "view", *(SHORT[arm] for arm in ARMS), "images", "overlap f / measured", "lit", "left out"),
        tuple(rows), shades=tuple(shades), text_columns=2, last_is_text=True,
        note=f"In brackets the difference to LSQML. Blue: ahead of it by {FINDING} or more; orange: behind it by "
        f"{FINDING} or more; grey: no finding. Overlap: nominal f, and what neighbouring groups of the test half "
        "share of the probe's disc. Lit: share of the field's lit pixels that the view saw. ± is the standard "
        "deviation over training seeds.",
    )  # fmt: skip


def _score(cell: Cell, arm: str) -> str:
    value, spread = cell.mean(arm, "ph_ms_ssim"), cell.spread(arm, "ph_ms_ssim")
    if value is None:
        return NONE
    difference = cell.difference(arm, LSQML) if arm not in (LSQML, FLAT) else None
    text = three(value) + (f" ± {spread:.3f}" if spread is not None else "")
    return text if difference is None else f"{text} ({difference:+.2f})"


def _shade(cell: Cell, arm: str) -> Shade:
    difference = cell.difference(arm, LSQML)
    if cell.mean(arm, "ph_ms_ssim") is None:
        return "empty"
    if difference is None or arm in (LSQML, FLAT):
        return ""
    return "even" if abs(difference) < FINDING else "ahead" if difference > 0 else "behind"


def _empty_arms(cell: Cell) -> str:
    rows = [row for row in cell.record["arms"] if row["status"] != "success"]
    return "; ".join(f"{row['name']}: {row['reason']}" for row in rows)


def numbers(study: StudyRecord) -> Table:
    """Every number of every arm and cell; means over training seeds."""
    rows = []
    for cell in study.cells:
        for arm in ARMS:
            if cell.rows(arm):
                values = [three(cell.mean(arm, name)) for name in _FIGURES]
                rows.append((f"{cell.dose:g}", view_label(cell.view), SHORT[arm], *values))
    return Table(
        "Every number", ("photons", "view", "arm", *_FIGURES.values()), tuple(rows), text_columns=3,
        note="One complex scale is fitted to each image; its size is printed. A shift is measured and never applied. "
        "Deviance ratio: 1 explains the photons, below 1 fits their noise, above 1 leaves something unexplained.",
    )  # fmt: skip


def gates(verdict: StudyVerdict, *, failed_only: bool = False) -> Table:
    """Rules of the gates: what was measured, what it needed, and why."""
    order = list(GATES)
    chosen = sorted(
        (one for one in verdict.gates if not (failed_only and one.passed)),
        key=lambda one: order.index(one.gate) if one.gate in order else len(order),
    )  # fmt: skip
    rows = tuple(
        (one.gate, _place(one), _what(one), one.state, three(one.value, bool(one.against)), one.needs, one.reason)
        for one in chosen
    )
    shades: list[tuple[Shade, ...]] = [("", "", "", "good" if one.passed else "bad", "", "", "") for one in chosen]
    title = "Rules that were refused" if failed_only else "Every rule"
    return Table(title, ("gate", "cell", "number", "verdict", "value", "needs", "because"), rows,
                 shades=tuple(shades), text_columns=4, last_is_text=True)  # fmt: skip


def _place(record: GateRecord) -> str:
    where = record.slice
    return f"{float(where['dose']):g} {view_label(where['view'])}" if {"dose", "view"} <= where.keys() else NONE


def _what(record: GateRecord) -> str:
    arm, _, metric = record.metric.rpartition(" ")
    words = " ".join(
        part for part in (SHORT.get(arm, arm), _FIGURES.get(metric, _GATE_WORDS.get(metric, metric))) if part
    )
    return f"{words} − {SHORT.get(record.against, record.against)}" if record.against else words


_GATE_WORDS = {
    "compared": "compared", "shared_pixels": "pixels in both halves", "deviance_ratio_test": "deviance ratio",
    "deviance_ratio_patch": "patch ratio", "PtychoPINN_over_rolled": "PINN groups − the same 60 px aside",
    "lsqml_gain_over_lower_dose": "LSQML phase MS-SSIM − at the next lower dose",
}  # fmt: skip


def gate_titles(verdict: StudyVerdict) -> Table:
    """One line a gate: how many of its rules passed."""
    rows, shades = [], list[tuple[Shade, ...]]()
    for gate, title in GATES.items():
        mine = [one for one in verdict.gates if one.gate == gate]
        good = sum(one.passed for one in mine)
        state = "not asked" if not mine else "pass" if good == len(mine) else "FAIL"
        rows.append((gate, title, state, f"{good} of {len(mine)}" if mine else NONE))
        shade: Shade = "good" if state == "pass" else "bad" if state == "FAIL" else "empty"
        shades.append(("", "", shade, ""))
    columns = ("gate", "it asks whether", "verdict", "rules passed")
    return Table("Gate by gate", columns, tuple(rows), shades=tuple(shades), text_columns=3)


def skips(records: Iterable[Mapping[str, Any]]) -> Table:
    """Views that were skipped; a result of the study."""
    rows = tuple(
        (f"{one['dose']:g}", str(one["view"]), str(one["split"]), str(one["n_accepted"]), str(one["min_groups"]),
         f"{one['packing_estimate']:.1f}", str(one["reason"]))
        for one in records
    )  # fmt: skip
    columns = ("photons", "view", "half", "groups", "needed", "packing estimate", "reason")
    return Table("Skipped views", columns, rows, text_columns=3, last_is_text=True)


def views(study: StudyRecord) -> Table:
    """What the selection of each view kept, and the overlap that it has."""
    rows = []
    for (view, split), one in study.spacing.items():
        overlap = one["overlap"]
        rows.append((
            view, split, f"{one['threshold']:.1f}", f"{one['n_accepted']} of {one['n_groups_candidate']}",
            str(one["n_images"]), *(three(one[f"{name}_spacing"]) for name in ("min", "median", "max")),
            f"{overlap['nominal_f']:.1f}", *(three(overlap[name]) for name in (
                "within_group", "image_knn6", "group_centre_nn")), str(one["point_mask_accepted"]), one["branch"],
        ))  # fmt: skip
    columns = ("view", "half", "S, px", "groups kept", "images", "spacing min", "median", "max", "nominal f",
               "overlap in a group", "of images", "of groups", "point mask keeps", "branch")  # fmt: skip
    return Table("Views of the scan", columns, tuple(rows), text_columns=2, last_is_text=True)


def trainings(study: StudyRecord) -> Table:
    """The training manifest."""
    rows = []
    for job in study.training:
        result = job["result"]
        sha = (result["bundle_sha256"] or NONE)[:12]
        seconds = NONE if result["seconds"] is None else f"{result['seconds']:.0f}"
        rows.append((
            f"{job['dose']:g}", view_label(job["view"]), str(job["arm"]), str(job["gridsize"]), str(job["seed"]),
            result["status"], *(three(result[name]) for name in (
                "deviance_ratio_test", "deviance_ratio_patch", "deviance_ratio_flat")),
            str(result["iterations_completed"] or NONE), seconds, result["error"] or sha,
        ))  # fmt: skip
    columns = ("photons", "view", "arm", "gs", "seed", "status", "deviance ratio", "patch", "flat", "iterations", "s",
               "bundle sha256, or error")  # fmt: skip
    return Table("Trainings", columns, tuple(rows), text_columns=3, last_is_text=True)


def reconstructions(study: StudyRecord) -> Table:
    """The reconstruction manifest."""
    rows = []
    for job in study.reconstruction:
        seconds = job.get("seconds")
        rows.append((
            f"{job['dose']:g}", view_label(job["view"]), str(job["split"]), str(job["status"]),
            str(job.get("num_epochs") or NONE), three(job.get("deviance_ratio")),
            NONE if seconds is None else f"{seconds:.0f}",
            str(job.get("error") or (job.get("output_sha256") or NONE)[:12]),
        ))  # fmt: skip
    columns = ("photons", "view", "half", "status", "epochs", "deviance ratio", "s", "sha256, or error")
    return Table("LSQML reconstructions", columns, tuple(rows), text_columns=3, last_is_text=True)
