"""One flow run: its folder, its audit log, its logger and its name."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.exceptions import MissingContextError
from prefect.logging import get_logger, get_run_logger
from prefect.runtime import flow_run
from pydantic import BaseModel

from study_core.files import write_json
from study_core.paths import LONGEST_PART
from tasks.audit_log import AuditLog
from tasks.provenance import ROOT, provenance


def artifacts_root() -> Path:
    """Everything a run leaves lands below this folder (`GATED_ARTIFACTS`, default `artifacts/`)."""
    return Path(os.environ.get("GATED_ARTIFACTS", ROOT / "artifacts")).resolve()


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

    @property
    def registry(self) -> str:
        """The name of the registry that this run ships into."""
        return self.tenant or self.study

    @property
    def log(self) -> AuditLog:
        return AuditLog(self.folder)

    def event(self, kind: str, text: str, /, **data: Any) -> None:
        """Record one event in the audit log and in the flow run's log."""
        self.log.append(kind, text, **data)
        logger().info("%s", text)

    def key(self, what: str) -> str:
        """Artifact key: one key is one history, so study first."""
        return re.sub(r"[^a-z0-9]+", "-", f"{self.study}-{what}".lower()).strip("-")


def open_run(
    study: str, plan: BaseModel, *, tenant: str = "", label: str = "", inputs: Mapping[str, Any] | None = None
) -> Run:
    """Create the run's folder and write who, what and with which code into its log."""
    run_id = str(flow_run.id or UUID(int=0))
    name = flow_run.name or label or study
    folder = artifacts_root() / study / f"{_slug(name)}-{run_id[:8]}"
    run = Run(study=study, name=name, id=run_id, folder=folder, provenance=provenance(), tenant=tenant)
    write_json(folder / "plan.json", plan.model_dump(mode="json"))
    write_json(folder / "provenance.json", run.provenance)
    _current.set(run)
    run.event(
        "opened", f"Starting {name}", tenant=run.registry, plan=plan.model_dump(mode="json"), inputs=dict(inputs or {})
    )
    run.event("provenance", f"Code {run.provenance['code_sha256'][:12]}", **run.provenance)
    return run


def current_run() -> Run | None:
    """The run that this flow opened, None before it did."""
    return _current.get()


def dated_name(kind: str, label: str) -> str:
    """`kind-label-2026-11-21`: what a flow run is called; without a label, `kind-2026-11-21`."""
    return "-".join(part for part in (kind, label, f"{datetime.now(UTC):%Y-%m-%d}") if part)


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text)[:LONGEST_PART].strip("-.") or "run"
