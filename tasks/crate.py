"""A bundle as an RO-Crate: the run in the words of the Provenance Run Crate profile, readable without this house.

Made of the run's own files and log: the flow's source is the workflow, each job a step with its tool, its times and
what came of it. Knows files and logs, nothing of a science.
"""

from __future__ import annotations

import json
import mimetypes
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rocrate.model import ComputationalWorkflow, ContextEntity, File
from rocrate.rocrate import ROCrate

from study_core.files import peek_json
from tasks.audit_log import LOG, readable
from tasks.provenance import FLOW
from tasks.signing import PublicKey

METADATA = "ro-crate-metadata.json"
_PROFILES = {"process": "Process Run Crate", "workflow": "Workflow Run Crate", "provenance": "Provenance Run Crate"}
_VERSION = "0.5"
_TERMS = {"sha256": "https://w3id.org/ro/terms/workflow-run#sha256"}
_DONE, _FAILED = "http://schema.org/CompletedActionStatus", "http://schema.org/FailedActionStatus"
_BEGAN = ("job-submitted", "job-attached", "job-reused")
_PLAN, _VERDICT, _REPORT, _PROVENANCE = "plan.json", "verdict.json", "report.html", "provenance.json"


class _Flow(ComputationalWorkflow):  # type: ignore[misc]  # rocrate has no types
    """The flow's source, whose jobs are steps."""

    TYPES = [*ComputationalWorkflow.TYPES, "HowTo"]  # noqa: RUF012  as the class that it extends


@dataclass(frozen=True)
class Job:
    """What the log says of one job; times are ISO texts, empty where it says none."""

    id: str
    """A URI's fragment: no two jobs of a run share one, whatever they are called."""
    name: str
    function: str
    began: str
    ended: str
    done: bool
    made: tuple[tuple[str, str], ...]
    """Name and SHA-256 of each file that its receipt names."""


def metadata(folder: Path, sums: Mapping[str, str], signer: PublicKey, sentence: str) -> str:
    """The text of `ro-crate-metadata.json` for a run's folder; `sums`: name → SHA-256 of the files that travel.

    A run without its flow's source (one that no flow opened) says what a Process Run Crate can say.
    """
    records = readable(folder / LOG)
    verdict, provenance = _mapping(folder / _VERDICT), _mapping(folder / _PROVENANCE)
    crate = ROCrate(version="1.1")  # what the profiles are defined on
    crate.metadata.extra_terms.update(_TERMS)
    owner = _add(crate, "#signer", "Person", name=f"holder of the key {signer.line}", identifier=signer.id)
    files = {name: _file(crate, name, digest) for name, digest in sorted(sums.items())}
    begun, now = (str(records[0]["time"]), str(records[-1]["time"])) if records else ("", "")
    root: Any = crate.root_dataset
    title = str(records[0]["text"]).removeprefix("Starting ") if records else "a run"
    root["name"] = f"Auditor's bundle of {title}"
    root["description"] = sentence
    root["datePublished"] = now
    root["author"] = owner
    root["license"] = _add(
        crate, "#licence", "CreativeWork", name="no licence is granted with this bundle",
        description="Ask its signer what may be done with it.",
    )  # fmt: skip
    whole = {"agent": owner, "startTime": begun, "endTime": now, "actionStatus": _DONE, "description": sentence}
    run = _add(crate, "#run", "CreateAction", name=title, **whole)
    run["object"] = [*_present(files, _PLAN), *_data(crate, verdict)]
    run["result"] = [*_present(files, _VERDICT, _REPORT), *_candidate(crate, verdict)]
    jobs = list(_jobs(records))
    actions = [_action(crate, job, owner, _code(provenance)) for job in jobs]
    if FLOW in files:
        kinds = [*_PROFILES][: 3 if jobs else 2]  # provenance: of the tools that were orchestrated
        run["instrument"] = _workflow(crate, files, jobs, actions, _code(provenance))
        _orchestrated(crate, run, jobs, actions, provenance)
    else:
        kinds = ["process"]
        run["instrument"] = _add(
            crate, "#gated", "SoftwareApplication", name="gated", softwareVersion=_code(provenance)
        )
    if "README.md" in files:
        files["README.md"]["about"] = root
    root["mentions"] = [run, *actions]
    root["conformsTo"] = [_profile(crate, kind) for kind in kinds]
    return json.dumps(crate.metadata.generate(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _add(crate: ROCrate, place: str, kind: str, /, **properties: Any) -> Any:
    kept = {name: value for name, value in properties.items() if value not in ("", None)}
    return crate.add(ContextEntity(crate, place, properties={"@type": kind, **kept}))


def _file(crate: ROCrate, name: str, digest: str) -> Any:
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    properties = {"name": Path(name).name, "sha256": digest, "encodingFormat": kind}
    made = _Flow if name == FLOW else File
    return crate.add(made(crate, None, dest_path=name, properties=properties))


def _present(files: Mapping[str, Any], *names: str) -> list[Any]:
    return [files[name] for name in names if name in files]


def _data(crate: ROCrate, verdict: Mapping[str, Any]) -> Iterator[Any]:
    """What the run was judged on, named by its hash: it does not travel."""
    panel = verdict.get("panel_sha256") or verdict.get("design_sha256")
    for identifier, name, digest in (
        ("#data", str(verdict.get("data") or "data"), verdict.get("data_sha256")),
        ("#panel", "panel", panel),
    ):
        if digest:
            yield _add(crate, identifier, "CreativeWork", name=Path(name).name, sha256=str(digest))


def _candidate(crate: ROCrate, verdict: Mapping[str, Any]) -> Iterator[Any]:
    """The model that was judged, by name and hash: its weights may travel, too, as a file like any other."""
    if digest := verdict.get("candidate_sha256"):
        name = Path(str(verdict.get("candidate") or "candidate")).name
        yield _add(crate, "#candidate", "CreativeWork", name=name, sha256=str(digest))


def _jobs(records: Sequence[Mapping[str, Any]]) -> Iterator[Job]:
    """A job a key, in the order of their ends: those that gave a result, and those that were lost."""
    began: dict[str, str] = {}
    ended = set()
    for record in records:
        data = record["data"]
        key = str(data.get("key") or data.get("job") or "")
        if record["kind"] in _BEGAN:
            began.setdefault(key, str(record["time"]))
        elif record["kind"] in ("receipt", "lost") and key not in ended:
            ended.add(key)
            done = record["kind"] == "receipt"
            name = str(data.get("job") or record["text"].partition(":")[0])
            made = tuple(_contents(data.get("result"), ())) if done else ()
            fragment = quote(f"{name}-{key[:8]}", safe="")
            yield Job(
                fragment, name, str(data.get("function") or ""), began.get(key, ""), str(record["time"]), done, made
            )


def _contents(value: object, at: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Every file that a receipt names, wherever it stands in it."""
    if isinstance(value, Mapping):
        if isinstance(value.get("path"), str) and isinstance(value.get("sha256"), str):
            yield ".".join([*at, Path(value["path"]).name]), value["sha256"]
        for name, inner in value.items():
            yield from _contents(inner, (*at, str(name)))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _contents(inner, (*at, str(number)))


def _action(crate: ROCrate, job: Job, owner: Any, code: str) -> Any:
    tool = f"#tool-{quote(job.function or job.name, safe='')}"
    instrument = crate.get(tool) or _add(
        crate, tool, "SoftwareApplication", name=job.function or job.name, softwareVersion=code
    )
    action = _add(
        crate, f"#job-{job.id}", "CreateAction", name=job.name, agent=owner, startTime=job.began, endTime=job.ended,
        actionStatus=_DONE if job.done else _FAILED, instrument=instrument,
        description=f"job {job.name}: {'gave its result' if job.done else 'was lost'}",
    )  # fmt: skip
    action["result"] = [
        _add(crate, f"#job-{job.id}-{quote(name)}", "CreativeWork", name=name, sha256=digest)
        for name, digest in job.made
    ]
    return action


def _workflow(crate: ROCrate, files: Mapping[str, Any], jobs: Sequence[Job], actions: Sequence[Any], code: str) -> Any:
    """The flow's source as the crate's main entity, its jobs as steps."""
    workflow = files[FLOW]
    crate.mainEntity = workflow
    workflow["programmingLanguage"] = _add(
        crate, "#python", "ComputerLanguage", name="Python", url={"@id": "https://www.python.org/"}
    )
    workflow["version"] = code
    workflow["hasPart"] = list({action["instrument"].id: action["instrument"] for action in actions}.values())
    workflow["step"] = [
        _add(crate, f"#step-{job.id}", "HowToStep", name=job.name, position=str(number),
             workExample=action["instrument"])
        for number, (job, action) in enumerate(zip(jobs, actions, strict=True), start=1)
    ]  # fmt: skip
    workflow["input"] = [_parameter(crate, "plan", one) for one in _present(files, _PLAN)]
    workflow["output"] = [_parameter(crate, "verdict", one) for one in _present(files, _VERDICT)]
    return workflow


def _parameter(crate: ROCrate, name: str, example: Any) -> Any:
    parameter = _add(
        crate, f"#parameter-{name}", "FormalParameter", name=name, additionalType="File", workExample=example
    )
    example["exampleOfWork"] = parameter
    return parameter


def _orchestrated(
    crate: ROCrate, run: Any, jobs: Sequence[Job], actions: Sequence[Any], provenance: Mapping[str, Any]
) -> None:
    version = _mapping_of(provenance.get("versions")).get("prefect")
    engine = _add(crate, "#prefect", "SoftwareApplication", name="Prefect", softwareVersion=version,
                  url={"@id": "https://www.prefect.io/"})  # fmt: skip
    controls = [
        _add(crate, f"#control-{job.id}", "ControlAction", name=f"orchestrate {job.name}",
             instrument=crate.get(f"#step-{job.id}"), object=action)
        for job, action in zip(jobs, actions, strict=True)
    ]  # fmt: skip
    times = {name: run[name] for name in ("agent", "startTime", "endTime")}
    _add(crate, "#orchestration", "OrganizeAction", name="orchestrate the run", **times, instrument=engine,
         object=controls, result=run)  # fmt: skip


def _profile(crate: ROCrate, kind: str) -> Any:
    url = f"https://w3id.org/ro/wfrun/{kind}/{_VERSION}"
    return _add(crate, url, "CreativeWork", name=_PROFILES[kind], version=_VERSION)


def _code(provenance: Mapping[str, Any]) -> str:
    return str(provenance.get("git_hash") or provenance.get("code_sha256") or "")


def _mapping(path: Path) -> Mapping[str, Any]:
    return _mapping_of(peek_json(path))


def _mapping_of(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
