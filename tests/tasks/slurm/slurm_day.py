"""One day on a real Slurm: the jobs that are submitted in its morning, and what befalls them until the evening."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from conftest import Cluster

from tasks.slurm.dispatcher import Dispatcher, Job, JobSpec, Outcome
from tasks.slurm.profiles import Profile, load_profile

STEPS = 400  # of the interrupted trainings


def _profile() -> Profile:
    """The test cluster's profile, with a stage for each kind of trouble."""
    profile = load_profile("slurm-dev")
    base = profile.section("gpu").model_copy(
        update={"memory": "256MB", "gres": None, "extra": {"nodelist": "g1"}, "array_parallel": 3}
    )
    stages = {
        "gpu": base,
        "short": base.model_copy(update={"time": "00:01:00", "signal_seconds": 50}),
        "little": base.model_copy(update={"memory": "200MB"}),
        "low": base.model_copy(update={"qos": "low", "gres": "gpu:a100:4", "extra": {"nodelist": "g2"}}),
        "high": base.model_copy(update={"qos": "high", "gres": "gpu:a100:4", "extra": {"nodelist": "g2"}}),
        "doomed": base.model_copy(update={"exclude": "g1,g2", "extra": {}}),
        "nowhere": base.model_copy(update={"partition": "no-such-partition"}),
    }
    return profile.model_copy(update={"stages": stages, "vanish_seconds": 20.0})


def _train(name: str, stage: str, pause: float, **more: Any) -> JobSpec:
    return JobSpec(name, "slurm_jobs:train", {"steps": STEPS, "pause": pause, "name": name, **more}, stage=stage)


ARRAY = [JobSpec(f"fold-{n:02d}", "slurm_jobs:echo", {"n": n}, stage="gpu") for n in range(4)]
SINGLES = [
    JobSpec("bug", "slurm_jobs:bug"),
    JobSpec("cuda", "slurm_jobs:cuda_hungry", {"fits_after": 1}),
    JobSpec("nan", "slurm_jobs:diverging"),
    JobSpec("memory", "slurm_jobs:eat_memory", {"mb": 300, "seconds": 4}, stage="little"),
    JobSpec("die", "slurm_jobs:die", {"times": 1}),
    JobSpec("refused", "slurm_jobs:echo", stage="nowhere"),
    JobSpec("talker", "slurm_jobs:echo", {"lines": 12, "pause": 0.5}),
    JobSpec("scancelled", "slurm_jobs:nap", {"seconds": 600, "by": "hand"}),
    JobSpec("cancelled", "slurm_jobs:nap", {"seconds": 600, "by": "us"}),
    JobSpec("environment", "slurm_jobs:environment"),
    _train("plain", "gpu", 0.0),
    _train("limited", "short", 0.2),
    _train("requeued", "gpu", 0.1),
    _train("preempted", "low", 0.03),
    _train("powerless", "doomed", 0.05, save_every=20),
    JobSpec("long", "slurm_jobs:nap", {"seconds": 45}),
]


class Day:
    """What happened."""

    def __init__(self, cluster: Cluster, root: Path) -> None:
        self.cluster, self.root = cluster, root
        self.outcomes: dict[str, Outcome] = {}
        self.ended_at: dict[str, float] = {}
        self.events: list[dict[str, Any]] = []
        self.progress: dict[str, dict[str, Any]] = {}
        self.log: dict[str, list[tuple[float, str]]] = {}
        self.errors: list[BaseException] = []
        self.hands = threading.Lock()  # one at a time at the cluster's daemons
        self.door = self.dispatcher()
        self.jobs: dict[str, Job] = {}

    def dispatcher(self) -> Dispatcher:
        return Dispatcher(_profile(), self.root, events=self.events.append)

    def wait(self, jobs: list[Job]) -> threading.Thread:
        def work() -> None:
            for outcome in self.dispatcher().wait(jobs, on_progress=self._on_progress, on_log=self._on_log):
                self.outcomes[outcome.spec.name] = outcome
                self.ended_at[outcome.spec.name] = time.time()

        self.jobs.update({job.name: job for job in jobs})
        return self.meanwhile(work)

    def meanwhile(self, work: Callable[[], None]) -> threading.Thread:
        def kept() -> None:
            try:
                work()
            except BaseException as error:
                self.errors.append(error)

        thread = threading.Thread(target=kept, daemon=True)
        thread.start()
        return thread

    def repair(self) -> None:
        """Bring back every daemon that is not there."""
        with self.hands:
            self.cluster.lab("slurm-up.sh")

    def _on_progress(self, job: Job, seen: dict[str, Any]) -> None:
        self.progress[job.name] = seen

    def _on_log(self, job: Job, text: str) -> None:
        self.log.setdefault(job.name, []).append((time.time(), text))

    def until(self, condition: Callable[[], object], what: str, seconds: float = 60.0) -> None:
        deadline = time.time() + seconds
        while not condition():
            assert not self.errors, self.errors
            assert time.time() < deadline, f"{what}; {self.progress}; {self.cluster.run('squeue')}"
            time.sleep(0.1)

    def step(self, name: str) -> int:
        content = json.loads(self._read(name, "progress.json") or "{}")
        return int(content.get("fields", {}).get("step", 0))

    def starts(self, name: str) -> list[dict[str, Any]]:
        lines = self._read(name, "starts.jsonl").splitlines()
        return [line for line in map(json.loads, lines) if line["event"] == "start"]

    def _read(self, name: str, file: str) -> str:
        path = self.jobs[name].folder / file
        return path.read_text() if path.exists() else ""

    def slurm_id(self, name: str) -> str:
        return str(self.starts(name)[-1]["slurm_id"])

    def told(self, name: str, event: str) -> list[dict[str, Any]]:
        return [one for one in self.events if one["event"] == event and one["job"] == name]


def what_happens(day: Day) -> list[threading.Thread]:
    cluster = day.cluster
    # a node loses power in the middle of a training
    day.until(lambda: day.step("powerless") > 25, "powerless runs")
    cluster.lab("slurm-nodekill.sh", "g3")
    # somebody with a higher QoS wants the four GPUs of g2
    day.until(lambda: day.step("preempted") > 5, "preempted runs")
    waiting = [day.wait(day.door.submit([JobSpec("urgent", "slurm_jobs:nap", {"seconds": 2}, stage="high")]))]
    # one job is cancelled by hand, one by us
    day.until(lambda: day.starts("scancelled") and day.starts("cancelled"), "both naps run")
    cluster.run("scancel", day.slurm_id("scancelled"))
    day.cancelled_at = time.time()  # type: ignore[attr-defined]
    day.door.cancel([day.jobs["cancelled"]])
    # five requeues by the operator; the accounting goes down for the length of a job, the controller restarts
    for number in range(5):
        day.until(lambda number=number: len(day.starts("requeued")) > number and day.step("requeued"), "requeued")
        seen = day.step("requeued")
        day.until(lambda seen=seen: day.step("requeued") > seen + 3, "requeued makes progress")
        if number == 3:
            with day.hands:
                cluster.kill("slurmctld")
                time.sleep(8)  # longer than the poll interval
                cluster.run("slurmctld")
                day.until(lambda: "UP" in cluster.run("scontrol", "ping"), "the controller is back")
        cluster.run("scontrol", "requeue", day.slurm_id("requeued"))
        if number == 0:
            waiting.append(day.meanwhile(lambda: _lose_the_node_again(day)))
        if number == 1:
            cluster.kill("slurmdbd")
            waiting.append(day.wait(day.door.submit([JobSpec("unaccounted", "slurm_jobs:nap", {"seconds": 3})])))
        if number == 2:
            day.until(lambda: "unaccounted" in day.outcomes, "a job without accounting ends")
            day.repair()  # slurmdbd again
    return waiting


def _lose_the_node_again(day: Day) -> None:
    """It comes back, takes the same job, and fails it a second time; then there is a spare one."""
    day.repair()
    day.until(lambda: len(day.starts("powerless")) == 2 and day.step("powerless") > 25, "powerless runs again", 120)
    day.cluster.lab("slurm-nodekill.sh", "g3")
    day.until(lambda: day.told("powerless", "excluded"), "g3 is left out")
    day.until(lambda: "unaccounted" in day.outcomes, "a job without accounting ends")
    day.repair()
    day.cluster.run("scontrol", "update", "NodeName=g4", "State=resume")
