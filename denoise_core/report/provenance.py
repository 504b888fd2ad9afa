"""The report's tables of how a run came about: plan, code, data, jobs, log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from denoise_core import recipes
from denoise_core.plans import TrainingPlan
from denoise_core.report.record import RunRecord
from study_core.plan import identity
from study_core.report import jobs
from study_core.report.blocks import Table


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


def jobs_table(record: RunRecord) -> Table | None:
    """One row a cluster job; None without a jobs table."""
    rows = [] if record.jobs is None else record.jobs.to_dict("records")
    return jobs.jobs_table([{str(name): value for name, value in row.items()} for row in rows])


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
