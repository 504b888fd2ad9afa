"""`gated verify`: the house checked. Every log, every file on record, every run that should be there, the registry.

Four things are held against each other: the folder's files, the log that recorded their hashes, the signature over
both, and the heads told elsewhere (`tasks.anchor`). Knows files and logs, nothing of a science.
"""

from __future__ import annotations

import fcntl
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from study_core.files import peek_json, sha256_of
from tasks import anchor, attestation, audit_log, bundle, checking, missing
from tasks.audit_log import CANCELLED, CLOSED, EVIDENCE, LIVE, LOG, OPENED
from tasks.blessings import REGISTRY
from tasks.checking import Checked, Reader, Records
from tasks.provenance import artifacts_root
from tasks.registry_check import registry
from tasks.signing import Believed, PublicKey
from tasks.terminal import Json, call, existing, print_findings, single
from tasks.timestamp import Authorities

FILES = {"report": "report.html", "bundle": "auditors_bundle.zip"}  # by the kind of the record that holds its hash


def verify(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FOLDER|ZIP...", help="The house, a run's folder, a bundle; none: artifacts."),
    ] = None,
    keys: Believed = None,
    place: Annotated[
        str, typer.Option("--anchor", metavar="PLACE", help="Where heads of logs were told; none: GATED_ANCHOR.")
    ] = "",
    authorities: Authorities = None,
    removed: Annotated[
        str, typer.Option("--removed", metavar="REASON", help="What is gone was removed on purpose: say so for good.")
    ] = "",
    as_json: Json = False,
) -> int:
    """Check the house: exit code 0 when nothing was found, 1 when something was.

    Every audit log below the folders, every file that it recorded, the signed verdicts, the heads told elsewhere, runs
    that should be there and are not, runs without an end, the registry; bundles, zipped or unpacked.
    """
    where = [
        existing(path, f"name a folder with an {LOG}, or start a run: make run") for path in paths or [artifacts_root()]
    ]
    if removed and place:
        raise ValueError("--removed tells the place of GATED_ANCHOR: name it there, not by --anchor")
    reader = Reader.here(keys, place, authorities)
    checked = house(where, reader)
    if not checked:
        raise ValueError(f"no {LOG} below {', '.join(map(str, where))}; name a run's folder, or start a run: make run")
    if removed:
        _let_go(checked, where, reader, removed)
    findings = {name: one.findings for name, one in checked.items()}
    if as_json:
        print(json.dumps(findings))
    else:
        print_findings(findings, {name: one.notes for name, one in checked.items()})
    return 1 if any(findings.values()) else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m tasks.verification FOLDER|ZIP …`: as `gated verify`."""
    return call(single(verify), "python -m tasks.verification", arguments)


def house(paths: Sequence[Path], reader: Reader) -> dict[str, Checked]:
    """By place: every log below the paths, and every log that was told of, lay below one of them and is gone."""
    zips = [path for path in paths if path.is_file() and path.name != LOG]
    checked = {str(path): Checked(_bundle(path, reader)) for path in zips}
    below = [path.parent if path.name == LOG else path for path in paths if path not in zips]
    logs = {folder: audit_log.readable(folder / LOG) for folder in _folders(below)}
    lines: dict[str, int] = {}
    for records in logs.values():
        lines[checking.name(records)] = max(len(records), lines.get(checking.name(records), 0))
    reader = replace(reader, lines=lines)
    for folder, records in logs.items():
        checked[str(folder)] = _place(folder, records, reader)
    for where, (told, _) in missing.of([path.resolve() for path in below], logs, reader).items():
        checked.setdefault(str(where), Checked()).findings[:0] = [told]
    for found in (folder.parent for path in below for folder in sorted(path.rglob("blessings"))):
        old = Checked(notes=["a registry from before registries had a log: not checked"])
        checked.setdefault(str(found.resolve()), old)
    if checked and (reader.problems or reader.strangers):
        checked[reader.place] = Checked(list(reader.problems), list(reader.strangers))
    return checked


def one(path: Path, reader: Reader) -> Checked:
    """A bundle, zipped or unpacked, or a run's folder."""
    if path.is_file():
        return Checked(_bundle(path, reader))
    if not (path / LOG).exists():
        return Checked([f"{LOG} is missing: nothing vouches for the files"])
    return _place(path, audit_log.readable(path / LOG), reader)


def _place(folder: Path, records: Records, reader: Reader) -> Checked:
    if (folder / bundle.SUMS).exists():
        return Checked(_bundle(folder, reader))
    if records and records[0]["kind"] == REGISTRY:
        return registry(folder, records, reader)
    return run(folder, records, reader)


def run(folder: Path, records: Records, reader: Reader) -> Checked:
    """A run's folder: its log, the files on record, the signed verdict, its heads told elsewhere, its end."""
    checked, copied = checking.log(folder, records, reader)
    if not records:
        return checked
    checked.findings += _files(folder, records)
    _signature(folder, records, reader.believed, checked)
    if not copied:
        _end(folder, records, checked)
    return checked


def _let_go(checked: dict[str, Checked], where: Sequence[Path], reader: Reader, reason: str) -> None:
    """Tell the anchor of every missing log that it was removed on purpose; nothing else is let go."""
    below = [path.resolve() for path in where if path.is_dir()]
    logs = {folder: audit_log.readable(folder / LOG) for folder in _folders(below)}
    for place, (_, head) in missing.of(below, logs, reader).items():
        if not (place / LOG).exists():
            anchor.tell(
                replace(head, kind=anchor.REMOVED, time=datetime.now(UTC).isoformat(timespec="seconds"), stamp="")
            )
            checked[str(place)] = Checked(notes=[f"removed on purpose: {reason}"])


def _folders(below: Sequence[Path]) -> list[Path]:
    """Every folder with a log, by its own path."""
    return list(dict.fromkeys(found.parent.resolve() for path in below for found in sorted(path.rglob(LOG))))


def _bundle(path: Path, reader: Reader) -> list[str]:
    return bundle.verify(path, reader.believed, reader.authorities)


def _files(folder: Path, records: Records) -> list[str]:
    """Every file on record, by its last record."""
    recorded: dict[str, tuple[str, int]] = {}
    for record in records:
        data, line = record["data"], record["seq"] + 1
        if record["kind"] == EVIDENCE and isinstance(data.get("files"), dict):
            aside = data.get("documents", ())  # they lie in the bundle alone
            recorded |= {str(name): (str(sha), line) for name, sha in data["files"].items() if name not in aside}
        elif record["kind"] in FILES and isinstance(data.get("sha256"), str):
            recorded[FILES[record["kind"]]] = (data["sha256"], line)
    problems = []
    for name, (digest, line) in recorded.items():
        if (folder / name).is_symlink():
            problems.append(f"{name}: is a link; the file that {LOG} line {line} recorded lay here itself")
            continue
        try:
            now = sha256_of(folder / name) if (folder / name).is_file() else ""
        except OSError:
            now = ""
        if not now:
            problems.append(f"{name}: missing or unreadable, though {LOG} line {line} recorded it")
        elif now != digest:
            problems.append(f"{name}: is not the file that {LOG} line {line} recorded (SHA-256 {now[:12]}…)")
    return problems


def _signature(folder: Path, records: Records, believed: Sequence[PublicKey], checked: Checked) -> None:
    evidence = [record for record in records if record["kind"] == EVIDENCE]
    path = folder / attestation.STATEMENT
    if not path.exists() and not evidence:
        return  # no verdict yet, or ended without one
    if not path.exists() and "signer" not in evidence[-1]["data"]:
        checked.notes.append("nobody signed this verdict: from before verdicts were signed")
        return
    envelope = path.read_bytes() if path.exists() else None
    log = {str(record["seq"]): record["sha256"] for record in records}
    verdict = peek_json(folder / attestation.VERDICT)
    checked.findings += attestation.check(envelope, {}, verdict, log, believed)


def _end(folder: Path, records: Records, checked: Checked) -> None:
    opened = [number for number, record in enumerate(records) if record["kind"] == OPENED]
    if not opened or any(record["kind"] in (CLOSED, CANCELLED) for record in records[opened[-1] :]):
        return
    if alive(folder):
        checked.notes.append("still running")
    else:
        told = f"{LOG} line {len(records)} is the last and no end (killed, or cut)"
        checked.findings.append(f"incomplete: {told}; run it again, or say that it was removed")


def alive(folder: Path) -> bool:
    """Whether the process that opened the run still holds its folder (on this machine, or where locks travel)."""
    try:
        with open(folder / LIVE, "rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


if __name__ == "__main__":
    sys.exit(main())
