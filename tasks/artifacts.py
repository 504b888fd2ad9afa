"""Prefect artifacts: pictures of a run on the web page. The only module that writes them.

The server keeps them as long as it likes; the truth is in the run's folder. A server that cannot be reached
costs a line in the log, never a run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any
from uuid import UUID

import yaml
from prefect import get_client
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.utilities.urls import url_for

from study_core.files import write_json
from study_core.markdown import markdown_table
from study_core.report.blocks import Page, pieces
from tasks.run import Run, logger
from tasks.runs import all_runs, table

PAGE_CHARACTERS = 1_500_000  # an artifact may have two megabytes
RUNS_SHOWN = 50


def _best_effort(write: Callable[[], Any]) -> Any:
    """An artifact is a picture: a server out of reach is logged, the run goes on."""
    try:
        return write()
    except Exception as error:
        logger().warning("artifact not written: %s", error)
        return None


def publish_markdown(run: Run, what: str, markdown: str, description: str = "") -> UUID | None:
    """Its id, None where the server did not take it."""
    made = _best_effort(lambda: create_markdown_artifact(markdown, key=run.key(what), description=description))
    return made if isinstance(made, UUID) else None


def publish_page(
    run: Run, what: str, page: Page, description: str, earlier: Sequence[UUID | None] = ()
) -> list[UUID | None]:
    """A composed page in reading order as one artifact, or as few as its size allows; their ids.

    The web page shows a run's artifacts in no order: a piece each would be a shuffled report. `earlier`: the ids of
    the same page as it was before, which are replaced instead of standing twice.
    """
    parts = _parts(page)
    if earlier and len(earlier) == len(parts):
        for identifier, text in zip(earlier, parts, strict=True):
            if identifier is not None:
                _best_effort(partial(_replace, identifier, text))
        return list(earlier)
    found = []
    for number, text in enumerate(parts, start=1):
        told = description if len(parts) == 1 else f"{description}, part {number} of {len(parts)}"
        found.append(publish_markdown(run, what if number == 1 else f"{what}-{number}", text, told))
    return found


def _parts(page: Page) -> list[str]:
    parts = [""]
    for piece in pieces(page):
        rows = piece.content
        text = rows if isinstance(rows, str) else f"### {piece.title}\n\n{_rows(rows)}\n"
        if parts[-1] and len(parts[-1]) + len(text) > PAGE_CHARACTERS:
            parts.append("")
        parts[-1] += f"{text}\n"
    return parts


def _rows(rows: Sequence[Mapping[str, str]]) -> str:
    columns = list(rows[0]) if rows else []
    return markdown_table(columns, [[row[name] for name in columns] for row in rows])


def _replace(identifier: UUID, markdown: str) -> None:
    with get_client(sync_client=True) as client:
        client.update_artifact(identifier, ArtifactUpdate(data=markdown))


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
    write_json(run.folder / "training_plan.json", dict(plan))
    run.event("plan", f"Plan {plan.get('name', '')}", differences=list(differences))
    body = "\n".join(f"- {line}" for line in differences) or "- none"
    text = f"## Differences from the seed's recipe\n\n{body}\n\n## Plan\n\n```yaml\n{yaml.safe_dump(dict(plan))}```\n"
    publish_markdown(run, "plan", text, f"Recipe {plan.get('name', '')}")


def publish_runs() -> None:
    """The newest runs of every study as one table: the house's list, under a key of its own."""
    rows = table(all_runs()[:RUNS_SHOWN])
    told = "Every run, the newest first; gated runs lists them all, gated compare puts them side by side"
    _best_effort(lambda: create_table_artifact(rows, key="runs", description=told))


def publish_trail(run: Run) -> None:
    """The audit log as a table artifact: the picture of `audit.jsonl`, newest state of it."""
    rows = [
        {"#": record["seq"], "time": record["time"], "event": record["text"], "sha256": record["sha256"][:12]}
        for record in run.log.records()
    ]
    publish_table(run, "audit-trail", rows, f"Picture of {run.log.path}; `make verify` checks the chain")


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
