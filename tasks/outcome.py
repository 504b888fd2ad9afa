"""How a run ends: shipped, refused by a gate, or refused by promotion. A verdict is not a bug.

A refusal is a *named* failed state (`GateFailed`), which the server turns into an event that automations hear.
It is returned, not raised: the flow run's log then ends with the verdict and not with a traceback.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar
from uuid import UUID, uuid4

from prefect import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import FailedRun, ObjectNotFound
from prefect.flow_runs import apause_flow_run
from prefect.input import RunInput
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from pydantic import Field

from study_core.files import read_json, write_json
from study_core.verdict import Verdict
from tasks import audit, promotion
from tasks.audit import Run, artifacts_root
from tasks.dispatch import JobLost
from tasks.parameters import Approval
from tasks.slurm.profiles import BadProfile

GATE_FAILED = "GateFailed"
NOT_SHIPPED = "PromotionRefused"
NOT_APPROVED = "NotApproved"
JOB_LOST = "JobLost"
BAD_INPUT = "BadInput"
P = ParamSpec("P")
A = TypeVar("A", bound=RunInput)


class SignOff(RunInput):
    """A person's decision, asked for in the UI."""

    name: str = Field(title="Your name", pattern=r"\S")
    ship: bool = Field(False, title="Ship this model")
    comment: str = Field("", title="Why")


def run_name(kind: str) -> Callable[[], str]:
    """`kind-2026-11-21`, with the plan's label when it has one."""

    def name() -> str:
        plan: Any = flow_run.parameters.get("plan")
        label = plan.get("label") if isinstance(plan, dict) else getattr(plan, "label", "")
        return audit.dated_name(kind, str(label or ""))

    return name


def routed(body: Callable[P, State[Any]]) -> Callable[P, State[Any]]:
    """Below `@flow`: a lost job ends the run as `JobLost`, unusable input as `BadInput`, each with one clear line.

    So does a production model that was tampered with (`PromotionRefused`). None is a bug of ours.
    Anything else stays loud, with its traceback.
    """

    @functools.wraps(body)
    def run_body(*args: P.args, **kwargs: P.kwargs) -> State[Any]:
        _quiet_engine()
        try:
            return body(*args, **kwargs)
        except JobLost as lost:
            return _failed_now(JOB_LOST, lost.line, str(lost))
        except promotion.PromotionRefused as refusal:  # the model in production is not what was blessed
            return _failed_now(NOT_SHIPPED, str(refusal))
        except ValueError as error:
            if not _expected(error):
                raise
            return _failed_now(BAD_INPUT, str(error))

    return run_body


def _expected(error: BaseException | None) -> bool:
    """What a person can act on without reading code: a lost job, a bad profile, unusable input with its remedy."""
    return isinstance(error, JobLost | BadProfile) or (isinstance(error, ValueError) and hasattr(error, "remedy"))


def _failed_now(name: str, message: str, detail: str = "") -> State[Any]:
    run = audit.current_run()
    if run is not None:
        return failed(run, name, message, detail)
    audit.logger().error("%s", detail or message)
    return Failed(name=name, message=message)


def refused(run: Run, verdict: Verdict) -> State[Any]:
    """The run ends Failed, naming the gates."""
    return failed(run, GATE_FAILED, verdict.sentence())


def ship(run: Run, verdict: Verdict, incumbent: Verdict | None, approval: Approval) -> State[Any]:
    """Ship a candidate whose gates all passed, after a person's sign-off where one is asked for."""
    signer = None
    if approval.ask:
        decision = _sign_off(run, verdict, approval.timeout_hours)
        if decision is None:
            waited = f"nobody signed off within {approval.timeout_hours:g} h"
            return failed(run, NOT_APPROVED, f"Not shipped: {waited}; run the deployment again to be asked again")
        if not decision.ship:
            why = decision.comment.strip() or "no reason given"
            return failed(run, NOT_APPROVED, f"Not shipped: {decision.name} did not approve: {why}")
        signer = decision.name
    try:
        shipped = promotion.ship(
            run, verdict, report=run.folder / "report.html", incumbent=incumbent, approved_by=signer
        )
    except promotion.PromotionRefused as refusal:
        return failed(run, NOT_SHIPPED, str(refusal))
    return conclude(run, f"{verdict.sentence()}; in production as {shipped.id}")


def _sign_off(run: Run, verdict: Verdict, hours: float) -> SignOff | None:
    """Pause until a person answers in the UI; None when nobody did in time."""
    run.event("paused", f"Waiting up to {hours:g} h for a person's sign-off", hours=hours)
    audit.publish_trail(run)
    current = promotion.production(run.registry)
    question = (
        f"**{run.name}**: {verdict.sentence()}.\n\n"
        f"Report: among the artifacts, `{run.key('report')}`; as a file, `{run.folder / 'report.html'}`\n\n"
        f"In production now: {f'{current.id}, which it would replace' if current else 'nothing'}."
    )
    asked = SignOff.with_initial_data(description=question)
    # A pause of one key fires once in the life of a run, and a retry by hand has to ask again.
    decision = asyncio.run(answer(asked, hours * 3600, key=f"sign-off-{uuid4().hex[:8]}"))
    if decision is None:
        return None
    said = "ship" if decision.ship else "do not ship"
    run.event("signed", f"{decision.name}: {said}", name=decision.name, ship=decision.ship, comment=decision.comment)
    return decision


async def answer(asked: type[A], seconds: float, key: str) -> A | None:
    """What a person answers in the UI, None when nobody did in time.

    It stops waiting before the server does, which ends an expired pause as a plain `Failed`, whatever the run says.
    """
    asking = apause_flow_run(wait_for_input=asked, timeout=int(seconds) + 600, poll_interval=3, key=key)
    try:
        return await asyncio.wait_for(asking, seconds)
    except TimeoutError:
        return None


def claim(run: Run, source: str) -> str | None:
    """Take the one place of a fallback for `source`; None when it is this run's, else who has it.

    A holder that crashed or was cancelled before its verdict gives way: its jobs are found again by their keys.
    """
    if not source:
        return None
    path = artifacts_root() / run.study / "sources" / f"{source}.json"
    with promotion.locked(run.registry):
        holder = read_json(path)["run"] if path.exists() else run.id
        if holder == run.id or _gone(holder):
            write_json(path, {"run": run.id})
            return None
    return f"flow run {holder}"


def _gone(flow_run_id: str) -> bool:
    """Whether a flow run ended without a verdict of its own."""
    with get_client(sync_client=True) as client:
        try:
            state = client.read_flow_run(UUID(flow_run_id)).state
        except ObjectNotFound:
            return True
    return state is not None and (state.is_crashed() or state.is_cancelled())


def duplicate(run: Run, message: str) -> State[Any]:
    """The run ends Failed as `Duplicate`: another run already does this."""
    return failed(run, "Duplicate", message)


def conclude(run: Run, message: str) -> State[Any]:
    """The run ends Completed with a sentence a person can read."""
    run.event("closed", message)
    audit.publish_trail(run)
    return Completed(message=message)


def failed(run: Run, name: str, message: str, detail: str = "") -> State[Any]:
    """The run ends Failed under a name; the log shows `detail`, the state and the audit log the one-line message."""
    run.ledger.append("closed", message, state=name)
    audit.logger().error("%s", detail or message)
    audit.publish_trail(run)
    return Failed(name=name, message=message)


class _NoSurprises(logging.Filter):
    """A returned refusal is no "unexpected exception"; an expected error keeps its line and loses its traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if _expected(error):
            record.exc_info = None
        return not isinstance(error, FailedRun)


_NO_SURPRISES = _NoSurprises()


def _quiet_engine() -> None:
    """Keep the engine's tracebacks of our own refusals out of the run's log; any other error stays loud."""
    for name in ("prefect.engine", "prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).addFilter(_NO_SURPRISES)
