"""A laboratory for the dispatcher: one root, one fake cluster, one clock, and a script of what happens meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fake_slurm import FakeSlurm

from tasks.slurm.dispatcher import Dispatcher, JobSpec, Outcome
from tasks.slurm.poller import Slurm
from tasks.slurm.profiles import load_profile
from tasks.slurm.snapshot import Snapshot


def site_file(folder: Path, text: str) -> Path:
    """A profile of these lines, as a person would write one."""
    path = folder / "site.yaml"
    path.write_text(text)
    return path


class Clock:
    """Seconds that pass only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


class Lab:
    """One root, one fake cluster, and a script of what happens while a dispatcher waits."""

    def __init__(self, folder: Path, code: Snapshot) -> None:
        self.folder, self.code, self.clock = folder, code, Clock()
        self.fake = FakeSlurm(folder / "slurm", clock=self.clock)
        self.fake.knob(sacct="works")
        self.events: list[dict[str, Any]] = []
        self.steps: list[tuple[Callable[[], bool], Callable[[], object]]] = []
        self.ticks = 0

    def dispatcher(self, **changes: Any) -> Dispatcher:
        profile = load_profile("slurm-dev").model_copy(update={"settle_seconds": 10.0, **changes.pop("profile", {})})
        scheduler = Slurm(self.fake, folder=self.folder / "poll", clock=self.clock, poll_seconds=profile.poll_seconds)
        settings = {"events": self.events.append, "code": self.code, "clock": self.clock, "sleep": self.sleep}
        return Dispatcher(profile, self.folder / "root", scheduler=scheduler, **{**settings, **changes})

    def sleep(self, seconds: float) -> None:
        self.ticks += 1
        assert self.ticks < 20_000, "the dispatcher waits for ever"
        self.clock.now += max(seconds, 0.5)
        if self.steps and self.steps[0][0]():
            self.steps.pop(0)[1]()

    def when(self, condition: Callable[[], bool], action: Callable[[], object]) -> None:
        """Add a step: once `condition` holds (and earlier steps are through), do `action`."""
        self.steps.append((condition, action))

    def after(self, seconds: float, action: Callable[[], object]) -> None:
        """Add a step `seconds` after the one before it."""
        started: list[float] = []

        def due() -> bool:
            started.append(self.clock.now)
            return self.clock.now - started[0] >= seconds

        self.when(due, action)

    def runs(self, job_id: str) -> Callable[[], object]:
        """The action of running a job to its end on a node."""
        return lambda: self.fake.launch(job_id, wait=True)

    def has(self, job_id: str) -> Callable[[], bool]:
        """The condition that Slurm knows a job."""
        return lambda: job_id in self.fake.jobs()

    def outcomes(self, specs: list[JobSpec], *, submit: dict[str, Any] | None = None, **wait: Any) -> list[Outcome]:
        dispatcher = self.dispatcher()
        return list(dispatcher.wait(dispatcher.submit(specs, **(submit or {})), **wait))

    def told(self, event: str) -> list[dict[str, Any]]:
        return [one for one in self.events if one["event"] == event]
