"""How a run ends: shipped, refused by a gate, or refused by promotion. A verdict is not a bug.

A refusal is a *named* failed state (`GateFailed`), which the server turns into an event that automations hear.
It is returned, not raised: the flow run's log then ends with the verdict and not with a traceback.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, ParamSpec
from uuid import UUID

from prefect import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import FailedRun, ObjectNotFound
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from study_core.files import read_json, write_json
from study_core.verdict import Verdict
from tasks import artifacts, blessings, promotion, sign_off
from tasks.dispatch import JobLost
from tasks.parameters import Approval, Production
from tasks.provenance import artifacts_root
from tasks.run import Run, current_run, dated_name, logger
from tasks.slurm.profiles import BadProfile

GATE_FAILED = "GateFailed"
NOT_SHIPPED = "PromotionRefused"
NOT_APPROVED = "NotApproved"
JOB_LOST = "JobLost"
BAD_INPUT = "BadInput"
P = ParamSpec("P")


def run_name(kind: str) -> Callable[[], str]:
    """`kind-2026-11-21`, with the plan's label when it has one."""

    def name() -> str:
        plan: Any = flow_run.parameters.get("plan")
        label = plan.get("label") if isinstance(plan, dict) else getattr(plan, "label", "")
        return dated_name(kind, str(label or ""))

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
    run = current_run()
    if run is not None:
        return failed(run, name, message, detail)
    logger().error("%s", detail or message)
    return Failed(name=name, message=message)


def refused(run: Run, verdict: Verdict) -> State[Any]:
    """The run ends Failed, naming the gates."""
    return failed(run, GATE_FAILED, verdict.sentence())


def ship(
    run: Run,
    verdict: Verdict,
    incumbent: Verdict | None,
    production: Production,
    approval: Approval,
    told: Callable[[], None] = lambda: None,
) -> State[Any]:
    """Ship a candidate whose own gates passed, after a person's sign-off where one is asked for.

    `told` is called once it is decided and on record (`shipped`, or `withheld` with the reason), so that the study's
    report can say so. Nobody is asked where production stands against it: the run ends `PromotionRefused`.
    """
    signer = approval.by.strip() or None
    if not verdict.passed:
        return _withheld(run, NOT_SHIPPED, f"{verdict.sentence()}; production stays", told)
    if approval.ask:
        decision = sign_off.ask(run, verdict, approval.timeout_hours)
        if decision is None:
            waited = (
                f"nobody signed off within {approval.timeout_hours:g} h; run the deployment again to be asked again"
            )
            return _withheld(run, NOT_APPROVED, f"Not shipped: {waited}", told)
        if not decision.ship:
            why = decision.comment.strip() or "no reason given"
            return _withheld(run, NOT_APPROVED, f"Not shipped: {decision.name} did not approve: {why}", told)
        signer = decision.name
    try:
        shipped = promotion.ship(
            run, verdict, report=run.folder / "report.html", incumbent=incumbent, margin=production.margin,
            approved_by=signer,
        )  # fmt: skip
    except promotion.PromotionRefused as refusal:
        return _withheld(run, NOT_SHIPPED, str(refusal), told, verdict.under())
    told()
    return conclude(run, f"{verdict.sentence()}; in production as {promotion.told(shipped)}")


def _withheld(run: Run, name: str, message: str, told: Callable[[], None], aside: str = "") -> State[Any]:
    run.event("withheld", message)
    told()
    return failed(run, name, f"{message}{aside}")


def claim(run: Run, source: str) -> str | None:
    """Take the one place of a fallback for `source`; None when it is this run's, else who has it.

    A holder that crashed or was cancelled before its verdict gives way: its jobs are found again by their keys.
    """
    if not source:
        return None
    path = artifacts_root() / run.study / "sources" / f"{source}.json"
    with blessings.locked(run.registry):
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
    artifacts.publish_trail(run)
    artifacts.publish_runs()
    return Completed(message=message)


def failed(run: Run, name: str, message: str, detail: str = "") -> State[Any]:
    """The run ends Failed under a name; the log shows `detail`, the state and the audit log the one-line message."""
    run.recorded("closed", message, state=name)
    logger().error("%s", detail or message)
    artifacts.publish_trail(run)
    artifacts.publish_runs()
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
