"""The audit log: hash-chained JSON lines as the truth, the seed's `TIMESTAMP | text` lines beside it.

Every record holds the SHA-256 of the one before it, so that a changed, dropped or reordered line is
found by `verify`. The file `audit.head` names the last record: without it a cut tail would not show.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from study_core.files import read_json, write_json
from tasks.terminal import Json, call, single

GENESIS = "0" * 64


def _digest(record: dict[str, Any]) -> str:
    body = {key: value for key, value in record.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _last_whole_line(handle: BinaryIO) -> dict[str, Any] | None:
    """The last record, found from the file's end so that an append costs the same in a long log.

    A writer killed in mid-line leaves a line without its end: it was never acknowledged, and is cut off.
    """
    size, span = handle.seek(0, os.SEEK_END), 1 << 16
    while True:
        start = max(size - span, 0)
        handle.seek(start)
        tail = handle.read(size - start)
        end = tail.rfind(b"\n")
        begin = tail.rfind(b"\n", 0, max(end, 0))
        if begin >= 0 or start == 0:
            break
        span *= 4
    handle.truncate(start + end + 1)
    return json.loads(tail[begin + 1 : end]) if end >= 0 else None


@dataclass(frozen=True)
class AuditLog:
    """One run's audit log in `folder`: `audit.jsonl`, `audit.head` and `auditing_manifest.log`."""

    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / "audit.jsonl"

    def append(self, kind: str, text: str, /, **data: Any) -> dict[str, Any]:
        """Add one event; on disk (fsync) before this returns. `data` is JSON, NaN not allowed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.path, "ab+") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            last = _last_whole_line(handle)
            now = datetime.now(UTC)
            record: dict[str, Any] = {
                "seq": last["seq"] + 1 if last else 0,
                "time": now.isoformat(timespec="milliseconds"),
                "kind": kind,
                "text": text,
                "data": json.loads(json.dumps(data, allow_nan=False, default=str)),
                "previous": last["sha256"] if last else GENESIS,
            }
            record["sha256"] = _digest(record)
            handle.write((json.dumps(record, sort_keys=True) + "\n").encode())
            handle.flush()
            os.fsync(handle.fileno())
            write_json(self.folder / "audit.head", {"seq": record["seq"], "sha256": record["sha256"]})
            with open(self.folder / "auditing_manifest.log", "a", encoding="utf-8") as lines:
                lines.write(f"{now.strftime('%Y-%m-%dT%H:%M:%S')} | {text}\n")
        return record

    def records(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]


def verify(path: Path) -> list[str]:
    """What is wrong with an audit log, each finding naming its line; an empty list means untouched.

    A record that was changed, dropped, inserted or moved breaks the chain at its line; a cut tail is found
    by `audit.head` beside the log (one record more than the head is allowed: a kill between the two writes).
    """
    problems: list[str] = []
    previous, expected, count = GENESIS, 0, 0
    stated_by_seq: dict[int, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            record = json.loads(line)
            stated, seq, link = record["sha256"], record["seq"], record["previous"]
        except (json.JSONDecodeError, KeyError, TypeError):
            problems.append(f"line {number}: not an audit record")
            continue
        if _digest(record) != stated:
            problems.append(f"line {number}: the record was changed after it was written")
        if link != previous:
            what = "does not follow the line before it (dropped, inserted or reordered)"
            problems.append(f"line {number}: {what}: record {expected} belongs here, record {seq} was found")
        elif seq != expected:
            problems.append(f"line {number}: carries sequence number {seq}, expected {expected}")
        previous, count = stated, number
        expected = seq + 1 if isinstance(seq, int) else expected + 1  # one dropped line is one finding, not a hundred
        stated_by_seq[seq] = stated
    head = path.with_name("audit.head")
    if not head.exists():
        return [*problems, f"{head.name} is missing: a cut tail could not be noticed"]
    anchor = read_json(head)
    if count < anchor["seq"] + 1:
        problems.append(f"line {count + 1}: missing; the log once had {anchor['seq'] + 1} lines")
    elif stated_by_seq.get(anchor["seq"]) != anchor["sha256"]:
        problems.append(f"line {anchor['seq'] + 1}: is not the record that {head.name} names")
    return problems


def print_findings(findings: Mapping[str, Sequence[str]]) -> None:
    """For each name `untouched`, or how many findings and each on a line of its own."""
    for name, problems in findings.items():
        print(
            f"{name}: {len(problems)} finding{'s' if len(problems) > 1 else ''}" if problems else f"{name}: untouched"
        )
        print("".join(f"  {problem}\n" for problem in problems), end="")


def verify_logs(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FOLDER|FILE...", help="Where to look for audit.jsonl; none: artifacts."),
    ] = None,
    as_json: Json = False,
) -> int:
    """Check the hash chain of every audit log below the folders: exit code 0 when all are untouched, 1 when not."""
    where = paths or [Path(os.environ.get("GATED_ARTIFACTS", "artifacts"))]
    logs = [log for path in where for log in ([path] if path.is_file() else sorted(path.rglob("audit.jsonl")))]
    if not logs:
        below = ", ".join(map(str, where))
        raise ValueError(f"no audit.jsonl below {below}; name a run's folder, or start a run: make run")
    findings = {str(log): verify(log) for log in logs}
    if as_json:
        print(json.dumps(findings))
    else:
        print_findings(findings)
    return 1 if any(findings.values()) else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m tasks.audit_log FOLDER|FILE …`: as `gated verify`."""
    return call(single(verify_logs), "python -m tasks.audit_log", arguments)


if __name__ == "__main__":
    sys.exit(main())
