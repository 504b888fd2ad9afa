"""One flow run: its folder, its audit log, its logger and its name."""

from __future__ import annotations

import fcntl
import inspect
import os
import re
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.context import FlowRunContext
from prefect.exceptions import MissingContextError
from prefect.logging import get_logger, get_run_logger
from prefect.runtime import flow_run
from pydantic import BaseModel

from study_core.files import copy, write_json
from study_core.paths import LONGEST_PART
from tasks import anchor, house_chain, signing
from tasks.audit_log import CLOSED, LIVE, OPENED, AuditLog
from tasks.provenance import FLOW, artifacts_root, provenance
from tasks.terminal import printable


def logger() -> Any:
    """The flow run's logger, or a plain one outside a run."""
    try:
        return get_run_logger()
    except MissingContextError:
        return get_logger("gated")


_current: ContextVar[Run | None] = ContextVar("run", default=None)


@dataclass(frozen=True)
class Run:
    """One flow run's folder and log. `study` and `name` appear in keys and paths; `id` is the flow run's."""

    study: str
    name: str
    id: str
    folder: Path
    provenance: Mapping[str, Any] = field(default_factory=dict)
    tenant: str = ""  # whose registry it ships into; empty: the study's own
    channel: str = ""  # which line of models there; empty: not settled (`tasks.channels`), or the default
    channel_named: bool = False  # by the plan: by a person

    @property
    def registry(self) -> str:
        """The name of the registry that this run ships into."""
        return self.tenant or self.study

    @property
    def log(self) -> AuditLog:
        return AuditLog(self.folder)

    def event(self, kind: str, text: str, /, **data: Any) -> None:
        """Record one event in the audit log and in the flow run's log."""
        self.recorded(kind, text, **data)
        logger().info("%s", text)

    def recorded(self, kind: str, text: str, /, **data: Any) -> None:
        """Record one event in the audit log alone; a run's end is told elsewhere too."""
        record = self.log.append(kind, text, **data)
        if kind == CLOSED:
            anchor.tell_head(self.folder, record)

    def key(self, what: str) -> str:
        """Artifact key: one key is one history, so study first."""
        return re.sub(r"[^a-z0-9]+", "-", f"{self.study}-{what}".lower()).strip("-")


def open_run(
    study: str, plan: BaseModel, *, tenant: str = "", label: str = "", inputs: Mapping[str, Any] | None = None
) -> Run:
    """Create the run's folder and write who, what and with which code into its log.

    Raises:
        BadInput: the signing key cannot be used, or the log's head cannot be told elsewhere (`tasks.anchor`): before
            anything is submitted, not after a day of training.
    """
    signer = signing.own_key()
    run_id = str(flow_run.id or UUID(int=0))
    name = flow_run.name or label or study
    folder = artifacts_root() / study / f"{_slug(name)}-{run_id[:8]}"
    channel = str(getattr(getattr(plan, "production", None), "channel", ""))
    run = Run(
        study=study, name=name, id=run_id, folder=folder, provenance=provenance(), tenant=tenant, channel=channel,
        channel_named=bool(channel),
    )  # fmt: skip
    write_json(folder / "plan.json", plan.model_dump(mode="json"))
    write_json(folder / "provenance.json", run.provenance)
    _keep_flow(folder)
    _current.set(run)
    _hold(folder)
    with house_chain.entering(artifacts_root(), folder) as entry:
        record = run.log.append(
            OPENED, f"Starting {name}", run=run_id, tenant=run.registry, signer=signer.id,
            plan=plan.model_dump(mode="json"), inputs=dict(inputs or {}), **{house_chain.CHAIN: entry.data},
        )  # fmt: skip
        entry.written(record)
    logger().info("%s", record["text"])
    anchor.tell(anchor.stamped(anchor.head_of(folder, record)))
    run.event("provenance", f"Code {run.provenance['code_sha256'][:12]}", **run.provenance)
    return run


def _keep_flow(folder: Path) -> None:
    """A copy of the source of the flow that opened the run: the workflow of its record."""
    context = FlowRunContext.get()
    source = inspect.getsourcefile(inspect.unwrap(context.flow.fn)) if context and context.flow else None
    if source is not None:
        copy(Path(source), folder / FLOW)


def _hold(folder: Path) -> None:
    """Hold the folder for as long as this process lives: who checks it sees that the run goes on."""
    descriptor = os.open(folder / LIVE, os.O_RDWR | os.O_CREAT, 0o644)
    fcntl.flock(descriptor, fcntl.LOCK_SH)


def current_run() -> Run | None:
    """The run that this flow opened, None before it did."""
    return _current.get()


def dated_name(kind: str, label: str) -> str:
    """`kind-label-2026-11-21`: what a flow run is called; without a label, `kind-2026-11-21`. Always one line."""
    return printable("-".join(part for part in (kind, label, f"{datetime.now(UTC):%Y-%m-%d}") if part))


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text)[:LONGEST_PART].strip("-.") or "run"
