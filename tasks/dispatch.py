"""Jobs as Prefect tasks: live log, progress, re-attachment, cancellation, audit events, over `tasks.slurm`.

One `Cluster` a flow run. `job` waits for one job and is shown as one task run; the flow decides whether it calls
it in place (one job) or submits several (an array already sent to Slurm as one).
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from prefect import get_client, task
from prefect.cache_policies import NO_CACHE
from prefect.context import TaskRunContext
from prefect.futures import PrefectFuture
from prefect.runtime import deployment, task_run

from study_core.job import Receipt, Request, receipt_type, received
from tasks import artifacts
from tasks.provenance import artifacts_root
from tasks.run import Run, logger
from tasks.slurm import accounting
from tasks.slurm.dispatcher import Dispatcher, Job, JobSpec, Outcome
from tasks.slurm.profiles import Profile, load_profile

__all__ = ["Ask", "Cluster", "JobLost", "JobSpec", "job", "on_cluster"]

Q = TypeVar("Q", bound=Request)
R = TypeVar("R", bound=Receipt)
Future = PrefectFuture[dict[str, Any]]

WITHDRAW_S = 15.0  # Prefect kills a cancelled run's process after 30


class JobLost(RuntimeError):
    """A job ended without its result, after every remedy its cause has. `line` names job, cause and reason."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        scheduler = "local" if outcome.slurm_ids and outcome.slurm_ids[0].startswith("L") else "Slurm"
        where = f" ({scheduler} {', '.join(outcome.slurm_ids)})" if outcome.slurm_ids else ""
        what = f"{outcome.spec.name}{where} {outcome.state}: {outcome.cause}."
        self.line = f"{what} {_gist(outcome.message)}".strip()
        super().__init__(f"{what} {outcome.message}".strip())


def _gist(message: str) -> str:
    """The line of a message that says why: a traceback's last, else the first."""
    lines = [line for line in message.splitlines() if line.strip() and not line.startswith((" ", "Traceback"))]
    if not lines:
        return ""
    return re.sub(r"^(\w+\.)+(?=\w+:)", "", lines[-1]) if message.startswith("Traceback") else lines[0]


@dataclass(frozen=True)
class Ask(Generic[R]):
    """One call of a job function: what it is asked, under which name in the queue, with which stage's resources."""

    function: Callable[[Any, Any], R]
    request: Request
    name: str
    stage: str

    @property
    def spec(self) -> JobSpec:
        """As the dispatcher takes it: identity, places and input hashes are derived from the types of the fields."""
        return JobSpec(
            name=self.name,
            function=f"{self.function.__module__}:{self.function.__qualname__}",
            stage=f"{_tenant(self.function)}/{self.stage}",
            arguments={"identity": self.request.identity()},
            places={"request": self.request.model_dump(mode="json")},
            inputs=self.request.inputs(),
        )

    def receipt(self, result: Mapping[str, Any]) -> R:
        """A job's result as the receipt that its function says it returns."""
        return received(receipt_type(self.function), result)  # type: ignore[return-value]


def _tenant(function: Callable[[Any, Any], Any]) -> str:
    """Whose stages a job function has: `denoise` for one of `denoise_core`."""
    return function.__module__.partition(".")[0].removesuffix("_core")


@dataclass
class Cluster:
    """One flow run's hold on a site's jobs, and the switch that ends every wait."""

    run: Run
    profile: Profile
    detach: bool = False
    fresh: bool = False
    stop: threading.Event = field(default_factory=threading.Event)
    sent: list[Job] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    reused: set[str] = field(default_factory=set)  # keys of sent jobs that were done before

    def dispatcher(self, *, detach: bool | None = None) -> Dispatcher:
        """A door to the scheduler; each thread opens its own, all under this run's name."""
        return Dispatcher(
            self.profile, artifacts_root() / "jobs", events=self._record, owner=self.run.id,
            detach=self.detach if detach is None else detach,
        )  # fmt: skip

    def ask(self, function: Callable[[Q, Any], R], request: Q, *, name: str, stage: str) -> R:
        """Run `function` on the cluster and wait for its receipt; equal requests share one job and one result.

        Raises:
            JobLost: it ended without a result after every remedy.
        """
        return self.run_one(Ask(function, request, name, stage))

    def run_one(self, asked: Ask[R]) -> R:
        """`ask` for what was put into words before."""
        (sent,) = self.send([asked])
        return asked.receipt(job(self, sent))

    def send(self, asks: Sequence[Ask[Any]], *, array: bool = False, inside: Job | None = None) -> list[Job]:
        """Submit, or attach to what already runs or is done under the same key; then end orphans of dead runs.

        Follow-ups of a job that is done may share its allocation, where the profile's stages say so: `inside`.
        """
        door = self.dispatcher()
        jobs = door.submit([asked.spec for asked in asks], array=array, fresh=self.fresh, inside=inside)
        first, self.sent = not self.sent, [*self.sent, *jobs]
        if first:
            for orphan in door.sweep():
                self.run.event("orphan", f"Cancelled orphan {orphan.name} of a run that died", key=orphan.key)
        return jobs

    def begin(self, sent: Job) -> Future:
        """Wait for a sent job beside others; shown as one task run."""
        return job.submit(self, sent)

    def known(self, asked: Ask[R]) -> R | None:
        """The receipt of a job that was done before, by this code on these inputs; None where there is none."""
        result = self.dispatcher().known(asked.spec)
        return None if result is None else asked.receipt(result)

    def account(self) -> None:
        """What the jobs took, one row each: `jobs.csv` in the run's folder, and its picture."""
        if self.rows:
            accounting.write_csv(self.rows, self.run.folder / "jobs.csv")
            artifacts.publish_table(self.run, "jobs", self.rows, "One row a job: wait, elapsed, memory, efficiency")

    def withdraw(self) -> None:
        """Cancel what has not ended, and stay a while so that the journal says how it ended."""
        door = self.dispatcher(detach=True)  # its wait gives up at the deadline instead of cancelling once more
        left = [job for job in self.sent if (entry := door.journal.read(job.key)) is None or entry.state == "live"]
        if not left:
            return
        door.cancel(left)
        deadline = time.monotonic() + WITHDRAW_S
        ended = {}
        for outcome in door.wait(left, stop=lambda: time.monotonic() > deadline):
            ended[outcome.key] = outcome.state
            self.rows.append(dict(outcome.accounting))
        states = {job.name: ended.get(job.key, "still ending") for job in left}
        self.run.event("cancelled", "; ".join(f"{name}: {state}" for name, state in states.items()), jobs=states)

    def _record(self, event: dict[str, Any]) -> None:
        what = event.pop("event")
        if what == "reused":
            self.reused.add(event["key"])
        why = ": ".join(str(event[name]) for name in ("cause", "action") if event.get(name))
        self.run.event(f"job-{what}", f"{event.get('job', 'job')}: {what}" + (f" ({why})" if why else ""), **event)


@contextmanager
def on_cluster(run: Run, profile: str, *, detach: bool = False, fresh: bool = False) -> Iterator[Cluster]:
    """Open a site; leave no job behind when the flow ends early, unless `detach`."""
    names_only = deployment.id is not None  # it came from a form, or over the network
    cluster = Cluster(run, load_profile(profile, paths=not names_only), detach=detach, fresh=fresh)
    try:
        yield cluster
    except BaseException:
        cluster.stop.set()
        if not detach:
            cluster.withdraw()
        raise
    finally:
        cluster.account()


def _task_name() -> str:
    sent: Job = task_run.parameters["sent"]
    return sent.name


class _Name:
    """The task run's name: the job's, and the number that `squeue` and `sacct` know it by once it has one."""

    def __init__(self, job_name: str) -> None:
        self._job_name, self._number = job_name, ""

    def tell(self, number: str) -> None:
        """Rename on a new number; the jobs of this machine alone have none that anyone could look up."""
        context = TaskRunContext.get()
        if context is None or number in ("", self._number) or number.startswith("L"):
            return
        self._number = number
        name = f"{self._job_name} · slurm {number}"
        context.task_run.name = name  # the next state would bring the old one back
        with suppress(Exception), get_client(sync_client=True) as client:  # a label in the UI, nothing more
            client.set_task_run_name(context.task_run.id, name)


@task(task_run_name=_task_name, persist_result=False, cache_policy=NO_CACHE)
def job(cluster: Cluster, sent: Job) -> dict[str, Any]:
    """Wait for one job; its output appears in this run's log as it is written.

    Returns the job's receipt. Raises `JobLost` with the cause after every remedy failed.
    """
    progress = artifacts.Progress(cluster.run, sent.name, sent.name)
    name, log = _Name(sent.name), logger()

    def show(_: Job, fields: dict[str, Any]) -> None:
        where = (fields.get("state"), fields.get("node"), fields.get("attempt"))
        name.tell(str(fields.get("slurm_id") or ""))
        progress.update(_percent(fields), _said(fields), where)

    outcomes = cluster.dispatcher().wait(
        [sent],
        on_progress=show,
        on_log=lambda _, text: log.info("%s", text),
        stop=cluster.stop.is_set,
    )
    for outcome in outcomes:
        return _conclude(cluster, outcome)
    raise InterruptedError(f"stopped waiting for {sent.name}; the job goes on")


def _conclude(cluster: Cluster, outcome: Outcome) -> dict[str, Any]:
    cluster.rows.append(dict(outcome.accounting))
    if outcome.state != "done" or outcome.result is None:
        cluster.run.event(
            "lost", f"{outcome.spec.name} {outcome.state}: {outcome.cause}", job=outcome.spec.name, key=outcome.key,
            function=outcome.spec.function, message=outcome.message,
            attempts=outcome.attempts, remedies=list(outcome.remedies), slurm_ids=list(outcome.slurm_ids),
        )  # fmt: skip
        raise JobLost(outcome)
    how = "reused" if outcome.reused else "received"
    cluster.run.log.append(
        "receipt", f"{outcome.spec.name}: result {how}", job=outcome.spec.name, function=outcome.spec.function,
        result=outcome.result,
        key=outcome.key, attempts=outcome.attempts, slurm_ids=list(outcome.slurm_ids),
    )  # fmt: skip
    return outcome.result


def _percent(fields: dict[str, Any]) -> float:
    """How far a job is: epoch of epochs, or done of total."""
    if fields.get("state") == "done":
        return 100.0
    for part, whole in (("epoch", "epochs"), ("done", "total")):
        if fields.get(whole):
            return 100.0 * float(fields.get(part, 0)) / float(fields[whole])
    return 0.0


def _said(fields: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in fields.items() if value not in (None, ""))
