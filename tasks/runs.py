"""What lies below the artifacts: one record a run, read from its folder, and `gated runs`, which lists them.

A folder is read, never a server: a run of another house, of last year, or of a database that is gone is listed too.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from study_core.files import peek_json, read_lines
from study_core.gates import GateRecord, passed
from tasks.provenance import artifacts_root
from tasks.terminal import Json

VERDICTS = ("verdict.json", "hub/verdict.json")  # the second: a study that keeps its records in a hub
REGISTRIES = "registry"  # beside the studies: its folders have logs too, and are no runs
OPEN, COMPLETED, SHIPPED = "open", "Completed", "shipped"


@dataclass(frozen=True)
class RunFacts:
    """One run's folder; what it lacks is empty."""

    folder: Path

    @cached_property
    def events(self) -> tuple[Mapping[str, Any], ...]:
        """The audit log's records, for reading: whether the chain holds is `gated verify`'s business."""
        try:
            return tuple(one for one in read_lines(self.folder / "audit.jsonl") if isinstance(one, dict))
        except (OSError, ValueError):
            return ()

    @cached_property
    def plan(self) -> Mapping[str, Any]:
        return _mapping(peek_json(self.folder / "plan.json"))

    @cached_property
    def recipe(self) -> Mapping[str, Any]:
        """The training that it ran, as far as it ran one."""
        return _mapping(peek_json(self.folder / "training_plan.json"))

    @cached_property
    def provenance(self) -> Mapping[str, Any]:
        return _mapping(peek_json(self.folder / "provenance.json"))

    @cached_property
    def verdict(self) -> Mapping[str, Any]:
        """The verdict's JSON, empty for a run that was not judged."""
        found = (peek_json(self.folder / name) for name in VERDICTS)
        return next((one for one in found if isinstance(one, dict)), {})

    @cached_property
    def gates(self) -> tuple[GateRecord, ...]:
        try:
            return tuple(GateRecord.model_validate(one) for one in self.verdict.get("gates") or ())
        except ValidationError:
            return ()

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def study(self) -> str:
        return self.folder.parent.name

    @property
    def tenant(self) -> str:
        """Whose run it is: the study itself where its log does not say."""
        return str(_mapping(self._event("opened").get("data")).get("tenant") or self.study)

    @property
    def panel(self) -> str:
        """Hash of what it was judged on; empty for a run without a verdict."""
        return str(self.verdict.get("panel_sha256") or self.verdict.get("design_sha256") or "")

    @property
    def score(self) -> float | None:
        found = self.verdict.get("score")
        return float(found) if isinstance(found, int | float) else None

    @property
    def passed(self) -> bool:
        return passed(self.gates)

    @property
    def failed_gates(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(one.gate for one in self.gates if not one.passed))

    @property
    def began(self) -> str:
        """ISO time of its first event."""
        return str(self.events[0].get("time", "")) if self.events else ""

    @property
    def seconds(self) -> float | None:
        """From its first event to its end; None for one that has not ended."""
        end = str(self._event("closed").get("time", ""))
        try:
            return (datetime.fromisoformat(end) - datetime.fromisoformat(self.began)).total_seconds()
        except ValueError:
            return None

    @property
    def state(self) -> str:
        """How it ended: `shipped`, `Completed`, the name of a failed state, `cancelled`; `open` where it did not."""
        closed = self._event("closed")
        if not closed:
            return "cancelled" if self._event("cancelled") else OPEN
        return str(_mapping(closed.get("data")).get("state") or (SHIPPED if self._event("shipped") else COMPLETED))

    @property
    def message(self) -> str:
        """The sentence that it ended with, or the last thing that it said."""
        last = self._event("closed") or (self.events[-1] if self.events else {})
        return str(last.get("text", ""))

    def row(self) -> dict[str, Any]:
        """What the list shows; JSON-ready."""
        return {
            "run": self.name, "study": self.study, "began": self.began, "seconds": self.seconds,
            "label": str(self.plan.get("label") or ""), "corpus": str(self.plan.get("corpus") or ""),
            "profile": str(_mapping(self.plan.get("where")).get("profile") or ""), "state": self.state,
            "score": self.score, "failed_gates": list(self.failed_gates), "panel_sha256": self.panel,
            "message": self.message, "folder": str(self.folder),
        }  # fmt: skip

    def _event(self, kind: str) -> Mapping[str, Any]:
        """The last of its kind since the run, or its last retry, began."""
        begun = max((place for place, one in enumerate(self.events) if one.get("kind") == "opened"), default=0)
        return next((one for one in reversed(self.events[begun:]) if one.get("kind") == kind), {})


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def all_runs(study: str = "") -> list[RunFacts]:
    """Every run below the artifacts, or every run of a study; the newest first."""
    logs = artifacts_root().glob(f"{study or '*'}/*/audit.jsonl")
    found = (RunFacts(log.parent) for log in logs if log.parent.parent.name != REGISTRIES)
    return sorted(found, key=lambda run: run.began, reverse=True)


def named(what: str) -> RunFacts:
    """The run of a folder, a folder's name, the beginning of a flow run's id, or a label.

    Of several with that label the newest that was judged: a fallback has its source's, and may just be under way.

    Raises:
        ValueError: there is none, or an id's beginning fits several.
    """
    if (Path(what) / "audit.jsonl").exists() or any((Path(what) / name).exists() for name in VERDICTS):
        return RunFacts(Path(what).resolve())
    known = all_runs()
    if exact := [run for run in known if what in (run.name, run.plan.get("label"))]:
        return next((run for run in exact if run.gates), exact[0])
    found = [run for run in known if len(what) >= 4 and run.name.rsplit("-", 1)[-1].startswith(what[:8])]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(f"{what}: fits {', '.join(run.name for run in found)}; name one of them")
    raise ValueError(f"{what}: no run; give a folder, a run's name, id or label as gated runs lists them")


def table(runs: Sequence[RunFacts]) -> list[dict[str, str]]:
    """The list for people: one row a run, every cell a word or two."""
    return [
        {
            "began (UTC)": run.began[:16].replace("T", " "), "run": run.name, "label": str(row["label"]),
            "corpus": Path(row["corpus"]).name, "state": run.state,
            "score": "" if run.score is None else f"{run.score:.5g}",
            "failed gates": ", ".join(run.failed_gates), "took": _took(run.seconds),
        }
        for run in runs
        for row in [run.row()]
    ]  # fmt: skip


def _took(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest:02d} s"


def runs(
    study: Annotated[str, typer.Option("--study", help="Only of this study: act-of-god.")] = "",
    last: Annotated[int, typer.Option("--last", min=1, help="So many, the newest first.")] = 30,
    refused: Annotated[bool, typer.Option("--refused", help="Only those that a gate or production refused.")] = False,
    as_json: Json = False,
) -> None:
    """Every run: when, of what, and how it ended."""
    found = [run for run in all_runs(study) if not refused or run.failed_gates or run.state.endswith("Refused")][:last]
    if as_json:
        print(json.dumps([run.row() for run in found]))
    elif not found:
        print(f"no run below {artifacts_root()}")
    else:
        rows = table(found)
        shown = Table(*rows[0], box=None)
        for row in rows:
            shown.add_row(*("".join(letter for letter in cell if letter.isprintable()) for cell in row.values()))
        console = Console(width=None if sys.stdout.isatty() else 200, markup=False, highlight=False)
        console.print(shown)
