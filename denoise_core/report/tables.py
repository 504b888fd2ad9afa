"""The report's tables and sentences of a verdict, from a run's record: gates, controls, groups, captures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from denoise_core.evaluation.controls import LEFT_OUT
from denoise_core.evaluation.thresholds import GATES, GateThresholds, field_of
from denoise_core.report.labels import (
    CANDIDATE,
    NO_VALUE,
    PRODUCTION,
    gate_label,
    gate_metric,
    group_label,
    margin,
    method_label,
    metric_label,
    number,
    sign,
)
from denoise_core.report.record import RunRecord
from study_core.report.blocks import Status, Table
from study_core.verdict import under

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
    changed = [str(one) for one in record.verdict.get("changed_thresholds") or ()]
    return f"{_sentence(record).rstrip('.')}{under(changed)}."


def _sentence(record: RunRecord) -> str:
    judged = f"{len({gate['gate'] for gate in record.gates if not gate.get('vacuous')})} gates"
    if reason := not_shipped(record):
        return f"NOT SHIPPED: {record.name} clears all {judged}, but {reason[:1].lower()}{reason[1:]}."
    if record.passed:
        empty = {gate_label(str(gate["gate"])) for gate in record.gates if gate.get("vacuous")}
        empty -= {gate_label(str(gate["gate"])) for gate in record.gates if not gate.get("vacuous")}
        aside = f" ({', '.join(sorted(empty))} cannot fail on this panel)" if empty else ""
        if shipped := record.event("shipped").get("data"):
            now = f"is in production as {shipped.get('blessing')}, replacing {shipped.get('replaces') or 'nothing'}"
            by = f", signed off by {shipped['approved_by']}" if shipped.get("approved_by") else ""
            return f"SHIPPED: {record.name} clears all {judged} and {now}{by}{aside}."
        return f"PASSED: {record.name} clears all {judged} and may ship{aside}."
    failures = [gate for gate in record.gates if gate.get("passed") is not True]
    *others, last = dict.fromkeys(gate_label(str(gate["gate"])) for gate in failures)
    names = f"gates {', '.join(others)} and {last}" if others else f"gate {last}"
    return f"FAILED at {names}. {'; '.join(_shortfall(gate) for gate in failures[:3])}{_more(failures)}"


def not_shipped(record: RunRecord) -> str:
    """Why a candidate that passed is not in production, in the words that the run ended with; empty otherwise."""
    told = str(record.event("withheld").get("text", "")).rstrip(".")
    return told.removeprefix("Not shipped: ") if record.passed else ""


def _more(failures: list[Mapping[str, Any]]) -> str:
    return f"; and {len(failures) - 3} more. It must not ship." if len(failures) > 3 else ". It must not ship."


def _shortfall(gate: Mapping[str, Any]) -> str:
    label = metric_label(str(gate["metric"]))
    words = {">=": "at least", ">": "more than", "<=": "at most", "<": "less than"}.get(str(gate["comparison"]), "")
    if gate.get("value") is None:
        return f"{gate_metric(gate) or 'A metric'}: missing"
    return f"{gate_metric(gate)}: {number(gate['value'], label)} (needs {words} {number(gate['threshold'], label)})"


def gates_table(record: RunRecord) -> Table:
    """Every rule: what was measured, what it needed, the room left, the verdict, the threshold's reason."""
    rows: list[tuple[str, ...]] = []
    marks: list[Status] = []
    last = ""
    for gate in record.gates:
        label = metric_label(str(gate["metric"]))
        room = margin(str(gate["comparison"]), gate["threshold"], gate["value"])
        passed = gate.get("passed") is True
        vacuous = str(gate.get("vacuous") or "")
        marks.append("fail" if not passed else "none" if vacuous else "pass")
        reason = vacuous or f"{in_force(gate)}{gate.get('reason', '')}"
        told = rows and rows[-1][0] == gate_label(str(gate["gate"])) and reason == last
        last = reason
        rows.append(
            (
                gate_label(str(gate["gate"])),
                gate_metric(gate),
                "✗ FAIL" if not passed else "∅ vacuous" if vacuous else "✓ pass",
                number(gate["value"], label),
                f"{sign(str(gate['comparison']))} {number(gate['threshold'], label)}".strip(),
                number(room, label, signed=True) if room is not None else NO_VALUE,
                "as above" if told else reason,
            )
        )
    return Table(
        "Readiness gates",
        ("gate", "metric", "verdict", "value", "needs", "margin", "reason"),
        tuple(rows),
        tuple(marks),
        note="Margin: room between value and threshold, negative where the gate fails. "
        "A metric that is missing or not a number never passes; a vacuous rule cannot fail on this panel and counts as "
        "neither passed nor failed.",
        text_columns=3,
        last_is_text=True,
    )


def in_force(gate: Mapping[str, Any]) -> str:
    """Where this run's plan set a gate's threshold otherwise than the default that its reason stands for: both."""
    field = GateThresholds.model_fields.get(field_of(str(gate.get("reason", ""))))
    threshold = gate.get("threshold")
    if field is None or threshold is None or abs(float(threshold)) == abs(float(field.default)):
        return ""
    label, default = metric_label(str(gate["metric"])), float(field.default)
    shown = f"{sign(str(gate['comparison']))} {number(-default if threshold < 0 < default else default, label)}"
    return f"Set by this run's plan; the default is {shown}: "


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
    shipped = {PRODUCTION: incumbent_row(record)} if record.incumbent else {}
    return {**record.controls, **shipped, CANDIDATE: candidate}


def incumbent_row(record: RunRecord) -> Mapping[str, Any]:
    """Figures of the model in production on this panel, by group too where its audit gave them."""
    facts = record.incumbent.get("facts") or {}
    return {**(facts.get("metrics") or {}), "by_group": facts.get("by_group") or {}}


def against_production(record: RunRecord) -> str:
    """The candidate beside the model in production, in a sentence; empty where none was judged."""
    if not record.incumbent:
        return ""
    file, sha256 = (str(record.incumbent.get(key, "")) for key in ("candidate", "candidate_sha256"))
    name = f"{file.rsplit('/', 1)[-1]} ({sha256[:8]})"
    if sha256 == record.verdict.get("candidate_sha256"):
        return f"This is the model that was in production when it was judged: {name}."
    mine, theirs = record.verdict.get("score"), record.incumbent.get("score")
    if mine is None or theirs is None:
        return f"In production when it was judged: {name}; without a score on both sides nothing can be compared."
    label = metric_label("composite_score")
    return (
        f"In production when it was judged: {name}, score {number(theirs, label)} on the same panel; "
        f"the candidate's is {number(mine, label)} ({number(mine - theirs, label, signed=True)})."
    )


def candidate_groups(record: RunRecord) -> dict[str, dict[str, float]]:
    """The candidate's figures by group, from the capture table; ROI by gate 3's own limit."""
    table = record.per_spectrum
    if table is None:
        return {}
    limit = roi_limit_pct(record)
    return {
        str(group): {
            "psnr_mean": float(part["psnr_db"].mean()),
            "sam_mean": float(part["sam_deg"].mean()),
            "area_within_10_pct_ratio": float((part["roi_area_error_pct"] <= limit).mean()),
        }
        for group, part in table.groupby("group_id", sort=False)
    }


def roi_limit_pct(record: RunRecord) -> float:
    """Gate 3's limit of a capture's dip area error, as the run's plan sets it."""
    gates = record.plan.get("gates")
    limit = (gates if isinstance(gates, Mapping) else {}).get("roi_area_error_max_pct")
    return GateThresholds().roi_area_error_max_pct if limit is None else float(limit)


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
        "ranks checkpoints. Spurious: invented dips a capture. LMMSE and F: filters fitted on the training groups. In "
        "production: the model that the candidate would replace, judged on this panel.",
    )


def groups_table(record: RunRecord) -> Table:
    """Methods by group: PSNR, SAM, ROI."""
    rows = method_rows(record)
    groups = list(rows[CANDIDATE].get("by_group") or next(iter(rows.values())).get("by_group") or {})
    body = []
    known = {name: row["by_group"] for name, row in rows.items() if row.get("by_group")}
    for name, of_group in known.items():
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
        tuple("pass" if name == CANDIDATE else "none" for name in known),
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
        note=f"{unseen.get('what', 'Held-out groups')}. {(unseen.get('worth') or {}).get('recommendation', '')} "
        "The panel's own figures are validation figures where it chose the checkpoint.",
    )


def ranking_table(record: RunRecord) -> Table | None:
    """Every checkpoint that was judged, best first; None for one."""
    lines = record.summary.get("per_checkpoint") or []
    if len(lines) < 2:
        return None
    body: list[tuple[str, ...]] = []
    marks: list[Status] = []
    for rank, line in enumerate(lines, start=1):
        failed = [gate for gate in GATES if line.get(f"{gate}_pass", False) is False]
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
