"""Two or more runs side by side: verdicts, every gate, and what differs in their plans. Knows no science.

A tenant may add blocks of its own (groups, spectra); what it cannot draw it says in words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from study_core.gates import GateRecord
from study_core.plan import flat
from study_core.report.blocks import Block, Page, Section, Shade, Table, Text, glossary
from tasks import blessings
from tasks.run import Run
from tasks.runs import OPEN, RunFacts, all_runs

Blocks = Callable[[Mapping[str, Path]], Iterable[Block]]
"""A tenant's own part: names of columns and run folders in, blocks out."""

Say = Callable[[GateRecord], tuple[str, str, str, str]]
"""A tenant's words for a record: gate, measure, what it needs, value with its unit."""

NOTHING = "–"
WHERE_ONLY = ("label", "where.")  # differ between runs without telling them apart


def _plain(record: GateRecord) -> tuple[str, str, str, str]:
    where = ", ".join(record.slice.values()) + (f" over {record.against}" if record.against else "")
    value = "missing" if record.value is None else f"{record.value:.5g}"
    return record.gate, f"{record.metric} [{where.strip()}]" if where else record.metric, record.needs, value


def page(
    runs: Sequence[RunFacts], own: Blocks | None = None, say: Say | None = None, terms: Mapping[str, str] | None = None
) -> Page:
    """The comparison as a page, gates in their tenant's words (`say`), `terms` explained at its end.

    Raises:
        ValueError: fewer than two runs, one without a verdict, or runs that share no gate.
    """
    _comparable(runs)
    names = columns(runs)
    sections = [
        Section("runs", "Runs", (_runs_table(runs, names),)),
        Section("gates", "Gates", (_gates_table(runs, names, say or _plain),)),
        Section("plan", "What differs in the plan", (_differences(runs, names, "plan"),)),
        *_own(runs, names, own),
        Section("code", "What differs in the code", (_differences(runs, names, "provenance"),)),
    ]
    warning = _warning(runs)
    made = Page(
        title=f"Comparison of {len(runs)} runs",
        status="none",
        sentence=_sentence(runs, names),
        lead=(warning,) if warning else (),
        sections=tuple(sections),
        footer="Made from the folders of these runs alone.",
    )
    return glossary(made, terms or {})


def peer(run: Run) -> RunFacts | None:
    """What a run is best held against: the run whose model is in production, else the last one on its panel."""
    own = RunFacts(run.folder)
    current = blessings.production(run.registry, run.channel)
    shipped = [RunFacts(Path(current.run_folder))] if current else []
    others = (one for one in all_runs() if one.tenant == run.registry)
    found = (one for one in (*shipped, *others) if one.folder != own.folder and one.gates and one.panel == own.panel)
    return next(found, None)


def columns(runs: Sequence[RunFacts]) -> list[str]:
    """A short name for each run's column: its label where labels tell them apart, else its letter."""
    labels = [str(run.plan.get("label") or "") for run in runs]
    if all(labels) and len(set(labels)) == len(labels):
        return labels
    return [chr(ord("A") + number % 26) + (str(number // 26) if number >= 26 else "") for number in range(len(runs))]


def as_json(runs: Sequence[RunFacts]) -> dict[str, Any]:
    """The same for scripts: rows of the list, every gate's value by run, and what differs in the plan."""
    _comparable(runs)
    return {
        "runs": [run.row() for run in runs],
        "comparable": not _warning(runs),
        "warning": _warning(runs),
        "gates": [
            {
                "gate": gate,
                "metric": metric,
                "slice": where,
                "records": [None if one is None else one.record() for one in found],
            }
            for (gate, metric, where), found in _gates(runs).items()
        ],
        "plan": {name: list(values) for name, values in _different(runs, "plan").items()},
    }


def _comparable(runs: Sequence[RunFacts]) -> None:
    if len(runs) < 2:
        raise ValueError("one run: nothing to compare with; name two or more (gated runs lists them)")
    if len({run.folder for run in runs}) < len(runs):
        raise ValueError("the same run twice; name different ones (gated runs lists them)")
    for run in runs:
        if not run.gates:
            raise ValueError(f"{run.folder}: no verdict ({run.state}: {run.message}); compare runs that were judged")
    first, *others = ({(one.gate, one.metric) for one in run.gates} for run in runs)
    for run, gates in zip(runs[1:], others, strict=True):
        if not first & gates:
            raise ValueError(
                f"{run.name} ({run.study}) and {runs[0].name} ({runs[0].study}) share no gate: nothing to compare"
            )


def _warning(runs: Sequence[RunFacts]) -> str:
    """Why the figures must not be held against each other; empty where they may."""
    if len({run.panel for run in runs}) == 1:
        return ""
    panels = ", ".join(f"{run.panel[:8] or 'unknown'} ({name})" for run, name in zip(runs, columns(runs), strict=True))
    return (
        f"NOT COMPARABLE: these runs were judged on different panels, {panels}. Their figures answer other questions."
    )


def _sentence(runs: Sequence[RunFacts], names: Sequence[str]) -> str:
    if _warning(runs):
        return f"{len(runs)} runs side by side, judged on different panels: no one is better."
    scored = sorted(
        ((run.score, name) for run, name in zip(runs, names, strict=True) if run.score is not None), reverse=True
    )
    if len(scored) < 2:
        return f"{len(runs)} runs side by side, on the same panel."
    (best, leader), (second, behind) = scored[:2]
    if best == second:
        return f"{leader} and {behind} score the same on this panel: {best:.5g}."
    return f"{leader} scores highest on this panel: {best:.5g}, {best - second:.3g} above {behind}."


def _runs_table(runs: Sequence[RunFacts], names: Sequence[str]) -> Table:
    rows = [
        (name, run.name, run.began[:16].replace("T", " "), str(run.plan.get("corpus") or NOTHING), _state(run),
         NOTHING if run.score is None else f"{run.score:.5g}",
         str(run.verdict.get("candidate_sha256", ""))[:8] or NOTHING, run.panel[:8] or NOTHING, run.message)
        for name, run in zip(names, runs, strict=True)
    ]  # fmt: skip
    heads = ("", "run", "began (UTC)", "corpus", "state", "score", "candidate", "panel", "ended with")
    return Table(
        "Each of them", heads, tuple(rows), tuple("pass" if run.passed else "fail" for run in runs),
        text_columns=5, last_is_text=True,
    )  # fmt: skip


def _state(run: RunFacts) -> str:
    """How it ended; of a run that makes its own comparison, how it was judged."""
    return run.state if run.state != OPEN else "passed" if run.passed else "refused"


Rule = tuple[str, str, str]  # gate, metric, and the slice in words


def _gates(runs: Sequence[RunFacts]) -> dict[Rule, list[GateRecord | None]]:
    """Every rule that any of the runs was judged by, in the order they first appear, with each run's record.

    A slice may carry what was found (at which wavelength) beside what was asked for (in which group): rules are the
    same by the keys that it takes to tell a run's own records apart, those that agree between runs first.
    """
    telling = {kind: _telling(runs, kind) for run in runs for kind in {(one.gate, one.metric) for one in run.gates}}

    def key(one: GateRecord) -> Rule:
        where = ", ".join(one.slice[name] for name in telling[one.gate, one.metric] if name in one.slice)
        return one.gate, one.metric, f"{where}{f' over {one.against}' if one.against else ''}".strip()

    by_run = [{key(one): one for one in run.gates} for run in runs]
    return {
        rule: [found.get(rule) for found in by_run] for rule in dict.fromkeys(rule for one in by_run for rule in one)
    }


def _telling(runs: Sequence[RunFacts], kind: tuple[str, str]) -> list[str]:
    """The keys of a metric's slices that are needed to tell its records apart within each run."""
    slices = [[one.slice for one in run.gates if (one.gate, one.metric) == kind] for run in runs]
    keys = sorted({name for found in slices for where in found for name in where})
    values = {name: [{where.get(name) for where in found} for found in slices if found] for name in keys}
    kept = list(keys)
    for name in sorted(keys, key=lambda name: all(one == values[name][0] for one in values[name])):
        fewer = [other for other in kept if other != name]
        if all(len({tuple(where.get(other) for other in fewer) for where in found}) == len(found) for found in slices):
            kept = fewer
    return kept


def _gates_table(runs: Sequence[RunFacts], names: Sequence[str], say: Say) -> Table:
    rows, shades = [], []
    for (gate, metric, _), found in _gates(runs).items():
        said = [None if one is None else say(one) for one in found]
        limits = list(dict.fromkeys(one[2] for one in said if one is not None))
        asked = next(one for one in found if one is not None)
        keys = _telling(runs, (gate, metric))
        first = say(asked.model_copy(update={"slice": {key: asked.slice[key] for key in keys if key in asked.slice}}))
        rows.append(
            (
                *first[:2],
                " / ".join(limits),
                *(_value(one, words, len(limits) > 1) for one, words in zip(found, said, strict=True)),
            )
        )
        shades.append(("", "", "", *(_shade(one) for one in found)))
    return Table(
        "Every rule, each run's figure",
        ("gate", "metric", "needs", *names),
        tuple(rows),
        shades=tuple(shades),
        text_columns=3,
        note="Bold: failed (✗). Where runs were held to different thresholds, each figure stands with its own.",
    )


def _value(one: GateRecord | None, said: tuple[str, str, str, str] | None, own_limit: bool) -> str:
    if one is None or said is None:
        return NOTHING
    return f"{'' if one.passed else '✗ '}{said[3]}" + (f" ({said[2]})" if own_limit else "")


def _shade(one: GateRecord | None) -> Shade:
    return "empty" if one is None or one.vacuous else "good" if one.passed else "bad"


def _different(runs: Sequence[RunFacts], what: str) -> dict[str, list[Any]]:
    """Every leaf of the runs' plans (or of their code) that is not the same in all of them, by dotted name."""
    leaves = [flat(run.provenance if what == "provenance" else {**run.plan, "recipe": run.recipe}) for run in runs]
    known = dict.fromkeys(name for one in leaves for name in one if not name.startswith(WHERE_ONLY))
    found = {name: [one.get(name) for one in leaves] for name in known}
    return {name: values for name, values in found.items() if any(value != values[0] for value in values)}


def _differences(runs: Sequence[RunFacts], names: Sequence[str], what: str) -> Block:
    found = _different(runs, what)
    if not found:
        return Text("Nothing: it is the same in all of them.")
    rows = [(name, *(NOTHING if value is None else str(value) for value in values)) for name, values in found.items()]
    return Table("Differences", ("option", *names), tuple(rows), text_columns=1 + len(names))


def _own(runs: Sequence[RunFacts], names: Sequence[str], own: Blocks | None) -> list[Section]:
    if own is None:
        return []
    blocks = tuple(own({name: run.folder for name, run in zip(names, runs, strict=True)}))
    return [Section("study", "What was measured", blocks)] if blocks else []
