"""`gated export mlflow`: runs as an MLflow store in files, for whoever looks at models there. No server is needed.

What is exported is read from the runs' folders and says where it comes from: the log's first and last record, and
whether log, files and signature were untouched then. The bundle goes along: it, not the store, is the record.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from study_core.errors import BadInput
from study_core.plan import flat
from tasks import runs, verification
from tasks.checking import Reader
from tasks.runs import COMPLETED, OPEN, SHIPPED, RunFacts
from tasks.signing import Believed
from tasks.terminal import Json, group, printable

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

TRAVELS = ("verdict.json", "verdict.dsse.json", "plan.json", "report.html", "auditors_bundle.zip")
UNTOUCHED = "untouched"
T = TypeVar("T")
LONGEST = 5000  # characters of a value that MLflow takes; the file has it whole
_BATCH = 100
_FILES = {"MLFLOW_ALLOW_FILE_STORE": "true", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
_ENDS = {OPEN: "RUNNING", "cancelled": "KILLED", SHIPPED: "FINISHED", COMPLETED: "FINISHED"}


def mlflow(
    wanted: Annotated[
        list[str] | None, typer.Argument(metavar="RUN...", help="Folder, name, id or label; none: every run.")
    ] = None,
    store: Annotated[Path, typer.Option("--store", help="Folder of the store; made where it is missing.")] = Path(
        "mlruns"
    ),
    keys: Believed = None,
    as_json: Json = False,
) -> int:
    """Write runs into an MLflow store in files: plans, gates, files, and who signed. Exported again, a run is replaced.

    Look at them with MLFLOW_ALLOW_FILE_STORE=true set, or move the store by `mlflow migrate-filestore`.
    """
    found = [runs.named(one) for one in wanted] if wanted else runs.all_runs()
    if not found:
        raise ValueError("no run to export; start one: make run")
    client, reader = _client(store), Reader.here(keys)
    done = {run.name: exported(client, run, reader) for run in found}
    if as_json:
        print(json.dumps(done))
    else:
        for name, one in done.items():
            print(printable(f"{name}: MLflow run {one['run']}, {one['checked']}"))
        print(f"MLFLOW_ALLOW_FILE_STORE=true mlflow ui --backend-store-uri {store.resolve().as_uri()}")
    return 0 if all(one["checked"] == UNTOUCHED for one in done.values()) else 1


command = group("Runs in other tools' own forms; each has --help and --json.", {"mlflow": mlflow})


def _client(store: Path) -> MlflowClient:
    os.environ.update({name: os.environ.get(name, value) for name, value in _FILES.items()})
    try:
        from mlflow.tracking import MlflowClient  # an extra, and seconds to import
    except ImportError as error:
        remedy = "pip install 'gated-training[mlflow]', or pip install mlflow-skinny"
        raise BadInput(f"MLflow is not installed ({error.name})", remedy=remedy) from None
    store.mkdir(parents=True, exist_ok=True)
    return MlflowClient(tracking_uri=store.resolve().as_uri())


def exported(client: MlflowClient, run: RunFacts, reader: Reader) -> dict[str, str]:
    """One run in the store: its id there, and what the check of its log, files and signature said."""
    from mlflow.entities import Metric, Param, RunTag

    if not run.events:
        raise BadInput("no audit log that can be read", file=run.folder, remedy="name a run's folder")
    findings = verification.one(run.folder, reader).findings
    checked = f"{len(findings)} findings, first: {findings[0]}" if findings else UNTOUCHED
    name = run.tenant
    known = client.get_experiment_by_name(name)
    experiment = known.experiment_id if known else client.create_experiment(name)
    log = str(run.events[0].get("sha256", ""))
    for old in client.search_runs([experiment], f"tags.`gated.log` = '{_plain(log)}'"):
        client.delete_run(old.info.run_id)
    began, ended = _milliseconds(run.began), _milliseconds(str(run.events[-1].get("time", "")))
    made = client.create_run(experiment, start_time=began, run_name=run.name).info.run_id
    tags = [RunTag(key, _cut(value)) for key, value in _tags(run, log, checked).items() if value]
    params = [Param(key, _cut(str(value))) for key, value in _distinct(flat(run.plan).items())]
    metrics = [Metric(key, value, ended, 0) for key, value in _distinct(_metrics(run))]
    for first in range(0, max(len(tags), len(params), len(metrics)), _BATCH):
        part = slice(first, first + _BATCH)
        client.log_batch(made, metrics=metrics[part], params=params[part], tags=tags[part])
    for file in TRAVELS:
        if (run.folder / file).is_file():
            client.log_artifact(made, str(run.folder / file))
    client.set_terminated(made, _ENDS.get(run.state, "FINISHED" if run.gates else "FAILED"), end_time=ended)
    return {"run": made, "experiment": name, "checked": checked}


def _tags(run: RunFacts, log: str, checked: str) -> Mapping[str, str]:
    verdict = run.verdict
    return {
        "gated.log": log,
        "gated.head": str(run.events[-1].get("sha256", "")),
        "gated.checked": checked,
        "gated.folder": str(run.folder),
        "gated.state": run.state,
        "gated.sentence": run.message,
        "gated.study": run.study,
        "gated.candidate": str(verdict.get("candidate_sha256") or ""),
        "gated.data": str(verdict.get("data") or ""),
        "gated.data_sha256": str(verdict.get("data_sha256") or ""),
        "gated.panel_sha256": run.panel,
        "gated.changed_thresholds": ", ".join(map(str, verdict.get("changed_thresholds") or ())),
        "gated.failed_gates": ", ".join(run.failed_gates),
        "gated.code_sha256": str(run.provenance.get("code_sha256") or ""),
        "mlflow.source.git.commit": str(run.provenance.get("git_hash") or ""),
        "mlflow.source.name": run.study,
        "mlflow.note.content": run.message,
    }


def _metrics(run: RunFacts) -> Iterator[tuple[str, float]]:
    """The score, and every figure that a gate judged; what is no number stands in verdict.json alone."""
    if run.score is not None and math.isfinite(run.score):
        yield "score", run.score
    for one in run.gates:
        if one.value is not None and math.isfinite(one.value):
            yield f"{one.gate or 'gates'}/{one.name}", one.value


def _distinct(pairs: Iterable[tuple[str, T]]) -> Iterator[tuple[str, T]]:
    """Names that MLflow takes; two that are one there are told apart by a number."""
    seen: dict[str, int] = {}
    for key, value in pairs:
        name = _name(key)
        seen[name] = seen.get(name, 0) + 1
        yield (name if seen[name] == 1 else f"{name} {seen[name]}"), value


def _name(text: str) -> str:
    """What MLflow takes as a name: letters, digits, and `_-. :/`; no path that leads elsewhere."""
    found = re.sub(r"[^\w\-. :/]+", "_", text, flags=re.ASCII).strip("_./ ")
    return re.sub(r"\.\.+|//+", "_", found)[:200] or "unnamed"


def _plain(text: str) -> str:
    return re.sub(r"[^0-9a-f]", "", text)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} … ({len(text)} characters: see plan.json)"


def _milliseconds(time: str) -> int:
    try:
        return round(datetime.fromisoformat(time).timestamp() * 1000)
    except ValueError:
        return 0
