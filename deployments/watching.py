"""Following a flow run by Prefect's client: one line a step, and how far a job is while it moves.

What a person reads is when, which step, and how it ended; what was reused, shipped, replaced or waits for them, as the
run's own audit log says it; and while a training runs, its epoch, its figures and the time left.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterParentFlowRunId,
)
from prefect.client.schemas.objects import FlowRun, State, TaskRun
from prefect.client.schemas.sorting import FlowRunSort, TaskRunSort

from deployments.progress import Pace, said

PAUSE_S = 1.5  # between two looks: each is three questions to a server that has other work
PAGE = 200  # the most that the server gives at once
ASIDE_S = 30.0  # a pipe gets a line of progress this often
# What a person wants to know of a run's audit log while it runs: by the kinds of its records.
TOLD = ("job-reused", "job-attached", "job-remedy", "job-held", "start", "shipped", "paused", "signed", "archived")


@dataclass(frozen=True)
class Ended:
    """How a followed run ended."""

    id: str
    name: str
    state: str
    kind: str  # Prefect's own type of the state: COMPLETED, FAILED, CRASHED, CANCELLED
    message: str


@dataclass
class Watcher:
    """Follows one run after the other; what it saw is there to be told when it is stopped."""

    client: SyncPrefectClient
    say: Callable[[str], None]
    status: Callable[[str], None]  # the line that moves; its text may be empty
    folder_of: Callable[[str], Path | None]  # a run's folder, once it has one
    words: Mapping[str, str] = field(default_factory=dict)  # how a tenant says a figure of its progress: "{} dB"
    between: Callable[[], object] = lambda: None  # called at every look
    aside: bool = False  # nothing moves here: progress is said as lines
    pause: float = PAUSE_S
    done: list[str] = field(default_factory=list)  # steps that ended well, of all runs
    moving: str = ""  # the last progress of the step that is under way

    def follow(self, run_id: str) -> Ended:
        """Watch a run until its end. A server that is away is asked again: the run does not need it.

        Raises:
            PrefectHTTPStatusError: the server answers, and refuses: no such run, another key.
        """
        look, away = _Look(self, run_id), False
        while True:
            try:
                ended = look.again()
                away = False
            except (httpx.HTTPError, OSError) as error:
                if isinstance(error, httpx.HTTPStatusError) and error.response.status_code < 500:
                    raise
                if not away:
                    self.say(_line("the server", f"does not answer ({type(error).__name__}); the run goes on"))
                ended, away = None, True
            if ended is not None:
                self.status("")
                return ended
            self.between()
            time.sleep(self.pause)

    def follow_up(self, run_id: str) -> FlowRun | None:
        """The run that another one started before its end, if there is one."""
        parents = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[UUID(run_id)]))
        # limit and sort are named: the client sends null for what is left out, which the server refuses
        runs = self.client.read_flow_runs(flow_run_filter=parents, limit=PAGE, sort=FlowRunSort.START_TIME_DESC)
        found = [run for run in runs if run.deployment_id]
        return max(found, key=lambda run: run.created or datetime.min.replace(tzinfo=UTC), default=None)


class _Look:
    """One run as it was seen last."""

    def __init__(self, watcher: Watcher, run_id: str) -> None:
        self.to, self.run_id = watcher, run_id
        self._said: set[str] = set()
        self._paces: dict[str, Pace] = {}
        self._log_read = 0
        self._last_aside = time.monotonic()

    def again(self) -> Ended | None:
        """Say what is new; how the run ended, once it has."""
        run = self.to.client.read_flow_run(UUID(self.run_id))
        state = run.state
        if state is None:
            return None
        steps = self._steps()
        if state.is_running() and self._once("running"):
            self._tell(run.name, "Running", state)
        self._tell_steps(steps)
        self._tell_log()
        if state.is_paused() and self._once(f"paused {state.id}"):
            self._tell(run.name, f"waits for a person: /runs/flow-run/{run.id} in the web page", state)
        if state.name in ("AwaitingConcurrencySlot", "Late") and self._once("queued"):
            self._tell(run.name, "waits for its turn: other runs of this deployment are under way", state)
        if state.is_final():
            self._tell(run.name, str(state.name), state)
            return Ended(str(run.id), run.name, str(state.name), state.type.value, str(state.message or ""))
        self._move([step for step in steps if step.state is not None and step.state.is_running()])
        return None

    def _steps(self) -> list[TaskRun]:
        """The run's task runs; a campaign has more than one page of them."""
        mine, found = FlowRunFilter(id=FlowRunFilterId(any_=[UUID(self.run_id)])), list[TaskRun]()
        while True:
            page = self.to.client.read_task_runs(
                flow_run_filter=mine, limit=PAGE, offset=len(found), sort=TaskRunSort.ID_DESC
            )
            found += page
            if len(page) < PAGE:
                return found

    def _once(self, what: str) -> bool:
        known = what in self._said
        self._said.add(what)
        return not known

    def _tell(self, name: str, what: str, state: State[Any]) -> None:
        self.to.say(_line(name, what, state.timestamp))

    def _tell_steps(self, steps: list[TaskRun]) -> None:
        ended = [step for step in steps if step.state is not None and step.state.is_final()]
        for step in sorted(ended, key=lambda step: step.end_time or datetime.now(UTC)):
            if step.state is None or not self._once(f"step {step.id}"):
                continue
            seconds = step.total_run_time.total_seconds()
            took = f"   {seconds:.0f} s" if seconds >= 1 else ""
            self._tell(step.name, f"{step.state.name}{took}", step.state)
            self.to.moving = ""
            if step.state.is_completed():
                self.to.done.append(step.name)

    def _tell_log(self) -> None:
        for record in self._new_records():
            if record.get("kind") in TOLD:
                replaced = record["data"].get("replaces") if record["kind"] == "shipped" else None
                aside = f", in place of {replaced}" if replaced else ""
                self.to.say(f"{_clock(datetime.fromisoformat(record['time']))}  {record['text']}{aside}")

    def _new_records(self) -> Iterator[dict[str, Any]]:
        """Whole new lines of the run's audit log."""
        folder = self.to.folder_of(self.run_id)
        if folder is None or not (folder / "audit.jsonl").exists():
            return
        with open(folder / "audit.jsonl", "rb") as log:
            log.seek(self._log_read)
            for line in log:
                if not line.endswith(b"\n"):
                    return
                self._log_read += len(line)
                yield json.loads(line)

    def _move(self, running: list[TaskRun]) -> None:
        """The status line: every step under way, with its progress where it has one."""
        if not running:
            self.to.status("")
            return
        shown = {str(row["task_run_id"]): row for row in self._progress()}
        texts = []
        for step in running:
            row = shown.get(str(step.id))
            pace = self._paces.setdefault(str(step.id), Pace())
            texts.append(said(step.name, row, pace, self.to.words))
        text = " · ".join(texts)
        self.to.status(text)
        self.to.moving = text
        if self.to.aside and time.monotonic() - self._last_aside >= ASIDE_S:
            self._last_aside = time.monotonic()
            self.to.say(f"{_clock(datetime.now(UTC))}  {text}")

    def _progress(self) -> list[dict[str, Any]]:
        """The progress artifacts of the run, newest state of each."""
        wanted = {"flow_run_id": {"any_": [self.run_id]}, "type": {"any_": ["progress"]}}
        # the client's own read_artifacts sends null for what is left out: refused
        found = self.to.client.request("POST", "/artifacts/filter", json={"artifacts": wanted, "limit": PAGE})
        rows: list[dict[str, Any]] = found.json()
        return rows


def _clock(moment: datetime) -> str:
    return f"{moment.astimezone():%H:%M:%S}"


def _line(name: str, what: str, moment: datetime | None = None) -> str:
    return f"{_clock(moment or datetime.now(UTC))}  {name:<28} {what}"
