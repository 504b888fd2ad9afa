"""`prefect deployment run … --watch` for a person: one line for each step's end, and on a terminal how far a job is.

Prefect prints one line an event, with half a time and half an id; what a scientist reads here is when, which step,
and how it ended.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, NamedTuple

_CREATED = re.compile(r"UUID: ([0-9a-f-]{36})")
_EVENT = re.compile(r"\bprefect\.(flow-run|task-run)\.(\w+) \* (.+)$")
_ARTIFACT = re.compile(r"\bprefect\.artifact\.(?:created|updated) \* prefect\.artifact\.([0-9a-f-]{36})$")
_PASSING = ("Pending", "Submitting", "Scheduled", "heartbeat")  # on the way to a state that says something
_PLUMBING = ("state", "reason", "node", "attempt", "slurm_id", "elapsed_s")  # for the web page; here the science
_OURS = ("prefect.", "Flow run finished", "Creating flow run", "Created flow run", "└──")


class Step(NamedTuple):
    """A step's new state: of the flow run itself or of one of its tasks."""

    name: str
    state: str
    of_the_run: bool

    @property
    def worth_a_line(self) -> bool:
        """Ends, and the run's own start; a job's moves are for the status line."""
        return self.state != "Running" or self.of_the_run

    def __str__(self) -> str:
        return f"{datetime.now():%H:%M:%S}  {self.name:<28} {self.state}"


class Watched:
    """The lines of `--watch` as they come: prints what is worth it, moves `status`, remembers the run's id."""

    def __init__(
        self, say: Callable[[str], None], status: Callable[[str], None], artifact: Callable[[str], dict[str, Any]]
    ) -> None:
        self.identifier = ""
        self._say, self._status, self._artifact = say, status, artifact

    def follow(self, lines: Iterable[str]) -> None:
        """Take every line until the command ends."""
        for line in map(str.rstrip, lines):
            if found := _CREATED.search(line):
                self.identifier = found[1]
            elif found := _ARTIFACT.search(line):
                self._status(progress(self._artifact(found[1])))
            elif step := step_of(line):
                if step.worth_a_line:
                    self._say(str(step))
                    self._status("")
                else:
                    self._status(step.name)
            elif _unexpected(line):
                self._say(line.strip())


def step_of(line: str) -> Step | None:
    """The state that a line of `--watch` tells, None where it tells none that lasts."""
    found = _EVENT.search(line)
    if found is None or found[2] in _PASSING:
        return None
    return Step(found[3], found[2], found[1] == "flow-run")


def progress(artifact: dict[str, Any]) -> str:
    """`train-god-run: 40 %, epoch 4, epochs 10 …` from a progress artifact; empty for any other."""
    if artifact.get("type") != "progress":
        return ""
    job = str(artifact["key"]).partition("progress-")[2]
    parts = str(artifact["description"] or "").split(", ")
    said = [part for part in parts if " " in part and part.partition(" ")[0] not in _PLUMBING]
    return ", ".join([f"{job}: {float(artifact['data']):.0f} %", *said])


def _unexpected(line: str) -> bool:
    """An error or a warning of the command itself."""
    return bool(line.strip()) and not any(word in line for word in _OURS)
