"""Jobs whose flow run is gone: ended by the runner that sees it die, or at the next start. Detached ones go on.

A flow that is cancelled withdraws its own jobs (`tasks.dispatch`). One that is killed cannot: then the process that
serves the deployments does it, as a hook of the flow. If that one died as well, `sweep` at its next start does.
What is ended here is not lost: running the deployment again goes on from the last checkpoint.
"""

from __future__ import annotations

import time
from typing import Any

from prefect import Flow
from prefect.client.schemas.objects import FlowRun, State
from prefect.logging.loggers import flow_run_logger

from tasks import anchor
from tasks.audit_log import CANCELLED, LOG, AuditLog
from tasks.provenance import artifacts_root
from tasks.run import logger
from tasks.slurm.dispatcher import Dispatcher, Job
from tasks.slurm.journal import Journal
from tasks.slurm.profiles import load_profile

WAIT_S = 25.0  # for the journal to say how they ended; they are told to end at once


def withdraw(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Hook `on_crashed` and `on_cancellation` of every flow: end the jobs that its process left behind."""
    ended = end_jobs_of(str(flow_run.id))
    if ended:
        told = _said(ended)
        flow_run_logger(flow_run, flow).warning("The flow's process is gone; its jobs were cancelled. %s", told)
    _record(str(flow_run.id), ended)


def end_jobs_of(owner: str) -> dict[str, str]:
    """Cancel the live, not detached jobs of a flow run; their names, and how each ended."""
    ended: dict[str, str] = {}
    for profile in _profiles(owner):
        door = Dispatcher(load_profile(profile), artifacts_root() / "jobs", detach=True)
        ended |= _outcomes(door, door.abandon(owner))
    return ended


def _outcomes(door: Dispatcher, jobs: list[Job]) -> dict[str, str]:
    deadline = time.monotonic() + WAIT_S
    states = {job.name: "still ending" for job in jobs}
    for outcome in door.wait(jobs, stop=lambda: time.monotonic() > deadline):
        states[outcome.spec.name] = outcome.state
    return states


def sweep() -> list[str]:
    """End the jobs of every flow run whose process died unseen; their names. Called before deployments are served."""
    names: list[str] = []
    for profile in _profiles():
        try:
            door = Dispatcher(load_profile(profile), artifacts_root() / "jobs")
            names += [job.name for job in door.sweep(grace_s=0.0)]
        except Exception as error:  # a cluster out of reach keeps no deployment from being served
            logger().warning("Orphans of profile %s not looked for: %s", profile, error)
    if names:
        logger().warning("Cancelled jobs whose flow run died: %s", ", ".join(names))
    return names


def _profiles(owner: str | None = None) -> list[str]:
    """A profile for each kind of executor with live jobs, of one owner or of all."""
    live = [entry for entry in Journal(artifacts_root() / "jobs").live() if owner in (None, entry.owner)]
    return list({entry.executor: entry.profile for entry in live}.values())


def _record(flow_run_id: str, ended: dict[str, str]) -> None:
    """One event in the audit log of the run that died: an end, if no verdict."""
    told = f"jobs cancelled: {_said(ended)}" if ended else "it had no job"
    for log in artifacts_root().glob(f"*/*-{flow_run_id[:8]}/{LOG}"):
        record = AuditLog(log.parent).append(CANCELLED, f"The flow's process is gone; {told}", jobs=ended)
        anchor.tell_head(log.parent, record)


def _said(ended: dict[str, str]) -> str:
    return "; ".join(f"{name}: {how}" for name, how in ended.items())
