"""One run's record: its folder, its audit log, and the Prefect artifacts that show them.

The only module that writes Prefect artifacts. They are pictures, kept by the server as long as it likes;
the truth is in the run's folder. A server that cannot be reached costs a line in the log, never a run.
"""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import get_client
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.exceptions import MissingContextError
from prefect.logging import get_logger, get_run_logger
from prefect.runtime import flow_run
from prefect.utilities.urls import url_for
from pydantic import BaseModel

from study_core.files import sha256_of, write_json
from tasks.ledger import Ledger

ROOT = Path(__file__).resolve().parent.parent
_RECORDED_PACKAGES = ("prefect", "submitit", "torch", "numpy", "scipy", "pandas", "pydantic")


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
    def ledger(self) -> Ledger:
        return Ledger(self.folder)

    def event(self, kind: str, text: str, /, **data: Any) -> None:
        """Record one event in the audit log and in the flow run's log."""
        self.ledger.append(kind, text, **data)
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
    run.event("opened", f"Starting {name}", plan=plan.model_dump(mode="json"), inputs=dict(inputs or {}))
    run.event("provenance", f"Code {run.provenance['code_sha256'][:12]}", **run.provenance)
    return run


def current_run() -> Run | None:
    """The run that this flow opened, None before it did."""
    return _current.get()


def provenance() -> dict[str, Any]:
    """Code, lock file, interpreter and package versions of this process."""
    return {
        "git_hash": _git_hash(),
        "code_sha256": code_sha256(),
        "lock_sha256": sha256_of(lock) if (lock := ROOT / "requirements.lock").exists() else None,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: importlib.metadata.version(name) for name in _RECORDED_PACKAGES},
    }


def code_sha256() -> str:
    """Hash over every source file of the packages, path by path: what the code *is*, committed or not."""
    import hashlib

    digest = hashlib.sha256()
    for package in sorted(path.parent for path in ROOT.glob("*/__init__.py") if _ours(path.parent.name)):
        for path in sorted(package.rglob("*.py")):
            digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _ours(package: str) -> bool:
    """The house, and every core that there is."""
    return package in ("deployments", "flows", "tasks") or package.endswith("_core")


def _git_hash() -> str | None:
    try:
        command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def dated_name(kind: str, label: str) -> str:
    """`kind-label-2026-11-21`: what a flow run is called; without a label, `kind-2026-11-21`."""
    return "-".join(part for part in (kind, label, f"{datetime.now(UTC):%Y-%m-%d}") if part)


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-.") or "run"


# ---- artifacts -------------------------------------------------------------------------------------------


def _best_effort(write: Callable[[], Any]) -> Any:
    """An artifact is a picture: a server out of reach is logged, the run goes on."""
    try:
        return write()
    except Exception as error:
        logger().warning("artifact not written: %s", error)
        return None


def publish_markdown(run: Run, what: str, markdown: str, description: str = "") -> None:
    _best_effort(lambda: create_markdown_artifact(markdown, key=run.key(what), description=description))


def publish_table(run: Run, what: str, rows: Sequence[Mapping[str, Any]], description: str = "") -> None:
    table = [{key: _plain(value) for key, value in row.items()} for row in rows]
    _best_effort(lambda: create_table_artifact(table, key=run.key(what), description=description))


def publish_run_link(run: Run, what: str, flow_run_id: str, text: str, description: str) -> None:
    """A link to another flow run's page and to its report, as far as it has one, where this server has a UI."""
    url = url_for("flow-run", obj_id=flow_run_id)
    if url is None:
        return
    reports = _best_effort(lambda: _reports_of(flow_run_id)) or []
    pages = [f"{url.partition('/runs/')[0]}/artifacts/artifact/{report}" for report in reports]
    links = [f"[{text}]({url})", *(f"[its report]({page})" for page in pages)]
    publish_markdown(run, what, " · ".join(links), description)


def _reports_of(flow_run_id: str) -> list[str]:
    """Ids of the first part of a flow run's report."""
    wanted = {"flow_run_id": {"any_": [flow_run_id]}, "key": {"like_": "%-report"}}
    with get_client(sync_client=True) as client:  # its read_artifacts sends null for what is left out: refused
        found = client.request("POST", "/artifacts/filter", json={"artifacts": wanted, "limit": 10})
    return [str(artifact["id"]) for artifact in found.json()]


def publish_plan(run: Run, plan: Mapping[str, Any], differences: Sequence[str]) -> None:
    """The recipe that will run, and how it differs from the seed's."""
    import yaml

    write_json(run.folder / "training_plan.json", dict(plan))
    run.event("plan", f"Plan {plan.get('name', '')}", differences=list(differences))
    body = "\n".join(f"- {line}" for line in differences) or "- none"
    text = f"## Differences from the seed's recipe\n\n{body}\n\n## Plan\n\n```yaml\n{yaml.safe_dump(dict(plan))}```\n"
    publish_markdown(run, "plan", text, f"Recipe {plan.get('name', '')}")


def publish_trail(run: Run) -> None:
    """The audit log as a table artifact: the picture of `audit.jsonl`, newest state of it."""
    rows = [
        {"#": record["seq"], "time": record["time"], "event": record["text"], "sha256": record["sha256"][:12]}
        for record in run.ledger.records()
    ]
    publish_table(run, "audit-trail", rows, f"Picture of {run.ledger.path}; `make verify` checks the chain")


def _plain(value: Any) -> Any:
    """A number for people: six digits; NaN and infinities are not JSON. The files hold every digit."""
    if not isinstance(value, float):
        return value
    return float(f"{value:.6g}") if math.isfinite(value) else None


class Progress:
    """A progress artifact that moves while a job runs. `update` is cheap to call: it writes on change only."""

    def __init__(self, run: Run, what: str, description: str = "") -> None:
        self._shown = -1.0
        self._where: object = None
        self._id = _best_effort(
            lambda: create_progress_artifact(0.0, key=run.key(f"progress-{what}"), description=description)
        )

    def update(self, percent: float, description: str, where: object = None) -> None:
        """Show `percent` and `description` once half a percent is gained, or `where` (state, node …) is another."""
        if self._id is None or (abs(percent - self._shown) < 0.5 and where == self._where):
            return
        self._shown, self._where = percent, where
        identifier = self._id
        _best_effort(
            lambda: update_progress_artifact(identifier, progress=min(percent, 100.0), description=description)
        )
