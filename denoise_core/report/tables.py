"""The report's tables and sentences, from a run's record: gates, controls, figures of groups, provenance, jobs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
from pydantic import ValidationError

from denoise_core import recipes
from denoise_core.evaluation.controls import LEFT_OUT
from denoise_core.evaluation.thresholds import GateThresholds
from denoise_core.plans import TrainingPlan, identity
from denoise_core.report.blocks import Status, Table
from denoise_core.report.labels import (
    CANDIDATE,
    NO_VALUE,
    gate_label,
    group_label,
    margin,
    method_label,
    metric_label,
    number,
)
from denoise_core.report.record import RunRecord

_FIGURES = (
    "psnr_mean",
    "psnr_std",
    "sam_mean",
    "area_within_10_pct_ratio",
    "composite_score",
    "centroid_mae_nm_median",
    "spurious_per_capture",
)
_SHORT = ("PSNR", "± sd", "SAM", "ROI kept", "score", "centroid", "spurious")
_GROUP_FIGURES = ("psnr_mean", "sam_mean", "area_within_10_pct_ratio")


# ---- gates -----------------------------------------------------------------------------------------------


def sentence(record: RunRecord) -> str:
    """The verdict in one sentence a person can act on."""
    if not record.gates:
        return "REFUSED: no gate was evaluated, so nothing may ship."
    judged = f"{len(dict.fromkeys(gate['gate'] for gate in record.gates))} gates"
    if record.passed:
        return f"PASSED: {record.name} clears all {judged} and may ship."
    failures = [gate for gate in record.gates if gate.get("passed") is not True]
    names = " and ".join(dict.fromkeys(gate_label(str(gate["gate"])) for gate in failures))
    return f"FAILED at gate {names}. {'; '.join(_shortfall(gate) for gate in failures[:3])}{_more(failures)}"


def _more(failures: list[Mapping[str, Any]]) -> str:
    return f"; and {len(failures) - 3} more. It must not ship." if len(failures) > 3 else ". It must not ship."


def _shortfall(gate: Mapping[str, Any]) -> str:
    label = metric_label(str(gate["metric"]))
    words = {">=": "at least", ">": "more than", "<=": "at most", "<": "less than"}.get(str(gate["comparison"]), "")
    if gate.get("value") is None:
        return f"{label.text or 'A metric'}: missing"
    return f"{label.text}: {number(gate['value'], label)} (needs {words} {number(gate['threshold'], label)})"


def gates_table(record: RunRecord) -> Table:
    """Every rule: what was measured, what it needed, the room left, the verdict, the threshold's reason."""
    rows: list[tuple[str, ...]] = []
    marks: list[Status] = []
    for gate in record.gates:
        label = metric_label(str(gate["metric"]))
        room = margin(str(gate["comparison"]), gate["threshold"], gate["value"])
        passed = gate.get("passed") is True
        marks.append("pass" if passed else "fail")
        rows.append(
            (
                gate_label(str(gate["gate"])),
                label.text,
                "✓ pass" if passed else "✗ FAIL",
                number(gate["value"], label),
                f"{_sign(str(gate['comparison']))} {number(gate['threshold'], label)}".strip(),
                number(room, label, signed=True) if room is not None else NO_VALUE,
                str(gate.get("reason", "")),
            )
        )
    return Table(
        "Readiness gates",
        ("gate", "metric", "verdict", "value", "needs", "margin", "reason"),
        tuple(rows),
        tuple(marks),
        note="Margin: room between value and threshold, negative where the gate fails. "
        "A metric that is missing or not a number never passes.",
        text_columns=3,
        last_is_text=True,
    )


def _sign(comparison: str) -> str:
    return {">=": "≥", "<=": "≤"}.get(comparison, comparison)


def thresholds_table(plan: Mapping[str, Any]) -> Table:
    """The thresholds that the run was given, and the defaults where they differ."""
    given = plan.get("gates") if isinstance(plan.get("gates"), Mapping) else {}
    rows: list[tuple[str, ...]] = []
    marks: list[Status] = []
    for name, field in GateThresholds.model_fields.items():
        value = (given or {}).get(name, field.default)
        rows.append((field.title or name, f"{value:g}", f"{field.default:g}", field.description or ""))
        marks.append("fail" if value != field.default else "none")
    return Table(
        "Thresholds of this run",
        ("threshold", "value", "default", "reason"),
        tuple(rows),
        tuple(marks),
        note=f"{marks.count('fail') or 'None'} of them differ from the default.",
        last_is_text=True,
    )


# ---- controls and groups ---------------------------------------------------------------------------------


def method_rows(record: RunRecord) -> dict[str, Mapping[str, Any]]:
    """Controls and candidate under one roof: panel figures and `by_group`, the candidate last."""
    candidate = {**record.metrics, "by_group": candidate_groups(record)}
    return {**record.controls, CANDIDATE: candidate}


def candidate_groups(record: RunRecord) -> dict[str, dict[str, float]]:
    """The candidate's figures by group, from the capture table; ROI by gate 3's own limit."""
    table = record.per_spectrum
    if table is None:
        return {}
    gates = record.plan.get("gates")
    limit = (gates if isinstance(gates, Mapping) else {}).get("roi_area_error_max_pct")
    limit = GateThresholds().roi_area_error_max_pct if limit is None else float(limit)
    return {
        str(group): {
            "psnr_mean": float(part["psnr_db"].mean()),
            "sam_mean": float(part["sam_deg"].mean()),
            "area_within_10_pct_ratio": float((part["roi_area_error_pct"] <= limit).mean()),
        }
        for group, part in table.groupby("group_id", sort=False)
    }


def controls_table(record: RunRecord) -> Table:
    """Methods side by side on the panel."""
    rows = method_rows(record)
    body = [
        (method_label(name), *(number(row.get(key), metric_label(key)) for key in _FIGURES))
        for name, row in rows.items()
    ]
    return Table(
        "The candidate beside the controls, whole panel",
        ("method", *_SHORT),
        tuple(body),
        tuple("pass" if name == CANDIDATE else "none" for name in rows),
        note="ROI kept: share of captures whose dip areas hold within gate 3's limit. Score: PSNR mean − sd, which "
        "ranks checkpoints. Spurious: invented dips a capture. LMMSE and F: filters fitted on the training groups.",
    )


def groups_table(record: RunRecord) -> Table:
    """Methods by group: PSNR, SAM, ROI."""
    rows = method_rows(record)
    groups = list(rows[CANDIDATE].get("by_group") or next(iter(rows.values())).get("by_group") or {})
    body = []
    for name, row in rows.items():
        of_group = row.get("by_group") or {}
        body.append(
            (
                method_label(name),
                *(
                    " / ".join(number(of_group.get(group, {}).get(key), metric_label(key)) for key in _GROUP_FIGURES)
                    for group in groups
                ),
            )
        )
    return Table(
        "The same by group: PSNR / SAM / ROI kept",
        ("method", *(group_label(group) for group in groups)),
        tuple(body),
        tuple("pass" if name == CANDIDATE else "none" for name in rows),
    )


def against_base(record: RunRecord) -> str:
    """Whether the candidate is worth more than the linear filter; empty when there is no filter to compare with."""
    base = record.controls.get("f")
    if base is None or not all(_known(row.get("psnr_mean")) for row in (base, record.metrics)):
        return ""
    gain = float(record.metrics["psnr_mean"]) - float(base["psnr_mean"])
    mine, others = candidate_groups(record), base.get("by_group") or {}
    worse = [
        group_label(group)
        for group, row in others.items()
        if group in mine and mine[group]["psnr_mean"] < float(row["psnr_mean"]) - 5e-4
    ]
    where = f"; it is worse on {', '.join(worse)}" if worse else "; it is worse on no group"
    if gain > 5e-4:
        return f"The candidate beats filter F by {gain:.3f} dB on average{where}."
    if gain > -5e-4:
        return f"The candidate does not beat filter F: the same PSNR to 0.001 dB{where}."
    return f"The candidate does not beat filter F: {-gain:.3f} dB below it on average{where}."


def _known(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def left_out(record: RunRecord) -> bool:
    """Whether controls refitted without the panel's samples are there."""
    return any(name.endswith(LEFT_OUT) for name in record.controls)


def unseen_table(record: RunRecord) -> Table | None:
    """Figures on groups that neither training nor a choice has seen."""
    unseen = record.facts.get("unseen")
    if not isinstance(unseen, Mapping):
        return None
    by_group = unseen.get("by_group") or {}
    body = [("all", *(number(unseen.get(key), metric_label(key)) for key in _GROUP_FIGURES))]
    body += [
        (group_label(group), *(number(row.get(key), metric_label(key)) for key in _GROUP_FIGURES))
        for group, row in by_group.items()
    ]
    return Table(
        f"Test figures on {len(by_group)} groups that no choice has seen",
        ("group", "PSNR", "SAM", "ROI kept"),
        tuple(body),
        note=f"{unseen.get('what', 'Held-out groups')}. The panel's own figures are validation figures where it chose "
        "the checkpoint.",
    )


def ranking_table(record: RunRecord) -> Table | None:
    """Every checkpoint that was judged, best first; None for one."""
    lines = record.summary.get("per_checkpoint") or []
    if len(lines) < 2:
        return None
    body: list[tuple[str, ...]] = []
    marks: list[Status] = []
    for rank, line in enumerate(lines, start=1):
        failed = [gate for gate in ("integrity", "aggregate", "tail", "roi", "downstream", "skill")
                  if line.get(f"{gate}_pass") is not True]  # fmt: skip
        marks.append("fail" if failed else "pass")
        body.append(
            (
                f"{rank}. {str(line.get('checkpoint')).rsplit('/', 1)[-1]}",
                "✗ " + ", ".join(failed) if failed else "✓ all gates",
                *(number(line.get(key), metric_label(key)) for key in (*_FIGURES[:4], "composite_score")),
            )
        )
    return Table(
        "Checkpoints judged, best first",
        ("checkpoint", "gates", *_SHORT[:4], "score"),
        tuple(body),
        tuple(marks),
        note="Ranked: those that passed first, then by PSNR mean − sd.",
        text_columns=2,
    )


def capture_table(record: RunRecord, most: int = 8) -> Table | None:
    """The captures with the lowest PSNR, each once though it may stand on two rows of the panel."""
    table = record.per_spectrum
    if table is None:
        return None
    worst = table.drop_duplicates("relative_path").nsmallest(most, "psnr_db")
    return Table(
        f"The {len(worst)} captures with the lowest PSNR",
        ("capture", "PSNR", "SAM", "area error"),
        tuple(
            (
                str(row["relative_path"]),
                number(row["psnr_db"], metric_label("psnr_mean")),
                number(row["sam_deg"], metric_label("sam_mean")),
                f"{row['roi_area_error_pct']:.1f} %" if _known(row["roi_area_error_pct"]) else NO_VALUE,
            )
            for row in worst.to_dict("records")
        ),
    )


# ---- plan and provenance ---------------------------------------------------------------------------------


def differences_table(record: RunRecord) -> Table | None:
    """How the training's plan differs from the seed's recipe of its study; None where no plan can be read."""
    plan = training_plan(record)
    if plan is None:
        return None
    seed = "track_h" if plan.name.startswith("track_h") else "act_of_god_seed"
    lines = [line.partition(": ") for line in recipes.difference(plan, recipes.named(seed))]
    return Table(
        f"Plan {plan.name}: its differences from the seed's recipe ({seed})",
        ("option", "seed", "this run"),
        tuple((option, *values.split(" → ", 1)) for option, _, values in lines),
        note="" if lines else "None: the seed's recipe to the letter.",
        text_columns=3,
    )


def training_plan(record: RunRecord) -> TrainingPlan | None:
    """The recipe that was trained, None where there is none or another version of the plan wrote it."""
    try:
        return TrainingPlan.model_validate(dict(record.training_plan)) if record.training_plan else None
    except ValidationError:
        return None


def provenance_table(record: RunRecord) -> Table:
    """Code, data, plan and seed, by hash: what it takes to make this run again."""
    plan, code, inputs = training_plan(record), record.provenance, record.inputs
    rows: list[tuple[str, str]] = [
        ("run", record.folder.name),
        ("started", record.started),
        ("checkpoint", str(record.verdict.get("candidate", ""))),
        ("checkpoint SHA-256", str(record.verdict.get("candidate_sha256", ""))),
        ("code (commit)", str(code.get("git_hash") or "")),
        ("code (SHA-256 of all sources)", str(code.get("code_sha256") or "")),
        ("lock file SHA-256", str(code.get("lock_sha256") or "")),
        ("Python, platform", " · ".join(str(code[key]) for key in ("python", "platform") if code.get(key))),
        ("packages", ", ".join(f"{name} {found}" for name, found in (code.get("versions") or {}).items())),
        *_data_rows(inputs),
        ("panel rows SHA-256", str(record.verdict.get("panel_sha256", ""))),
        ("reference", _reference(str(record.facts.get("reference", "")))),
    ]
    if plan is not None:
        rows += [
            ("training plan", f"{plan.name}, SHA-256 {identity(plan)}"),
            ("random seed of the training", str(plan.optimiser.seed)),
        ]
    return Table("Provenance", ("what", "value"), tuple(row for row in rows if row[1]), text_columns=2)


def _reference(name: str) -> str:
    known = {"loo": "mean of the group's other captures", "self": "the capture itself: never decides shipping"}
    return f"{name} ({known[name]})" if name in known else name


def _data_rows(inputs: Mapping[str, Any]) -> list[tuple[str, str]]:
    corpus, rows = inputs.get("corpus") or {}, []
    if corpus:
        made = corpus.get("generator")
        origin = f", generated: {', '.join(f'{key} {value}' for key, value in made.items())}" if made else ""
        rows.append(("corpus", f"{corpus['name']}: {corpus['captures']} captures, {corpus['groups']} groups{origin}"))
        rows.append(("corpus SHA-256", str(corpus["sha256"])))
    for name in ("panel", "training"):
        part = inputs.get(name) or {}
        if part:
            count = f"{part['rows']} rows, {part['unique']} captures, {len(part['groups'])} groups"
            rows.append((f"{name} manifest", f"{count}; rows SHA-256 {part['rows_sha256']}"))
    return rows


_JOB_COLUMNS = {
    "job": "job",
    "state": "state",
    "slurm_ids": "job id",
    "nodes": "node",
    "queue_wait_s": "wait (s)",
    "elapsed_s": "elapsed (s)",
    "cpu_efficiency": "CPU used",
    "memory_efficiency": "memory used",
    "gpu_utilisation": "GPU used",
    "attempts": "attempts",
    "remedies": "remedies",
}


def jobs_table(record: RunRecord) -> Table | None:
    """One row a cluster job with its efficiency; None without a jobs table."""
    jobs = record.jobs
    if jobs is None or jobs.empty:
        return None
    known = [column for column in _JOB_COLUMNS if column in jobs]
    body = [tuple(_job_cell(column, row[column]) for column in known) for row in jobs.to_dict("records")]
    marks: tuple[Status, ...] = ()
    if "state" in jobs:
        marks = tuple("pass" if state == "done" else "fail" for state in jobs["state"])
    return Table(
        "Jobs and their efficiency",
        tuple(_JOB_COLUMNS[column] for column in known),
        tuple(body),
        marks,
        note="Used: share of what was asked for. Empty: not measured there.",
        text_columns=sum(column in known for column in ("job", "state", "slurm_ids", "nodes")),
        last_is_text="remedies" in known,
    )


def _job_cell(column: str, value: Any) -> str:
    if value is None or (isinstance(value, float) and pd.isna(value)):
        return NO_VALUE
    if column.endswith(("efficiency", "utilisation")):
        return f"{100 * float(value):.0f} %"
    return f"{value:.1f}" if column.endswith("_s") else str(value)


def events_table(record: RunRecord) -> Table | None:
    """The audit log as a timeline; the file itself is the truth."""
    if not record.events:
        return None
    body = [
        (str(event.get("seq", "")), str(event.get("time", ""))[:19].replace("T", " "), str(event.get("text", "")),
         str(event.get("sha256", ""))[:12])
        for event in record.events
    ]  # fmt: skip
    return Table(
        "Audit log",
        ("#", "time (UTC)", "event", "SHA-256"),
        tuple(body),
        note="A picture of audit.jsonl up to the writing of this page; each line's hash covers the line before it.",
        text_columns=3,
        last_is_text=True,
    )
