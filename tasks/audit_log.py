"""The audit log: hash-chained JSON lines as the truth, the seed's `TIMESTAMP | text` lines beside it.

Every record holds the SHA-256 of the one before it, so that a changed, dropped or reordered line is
found by `verify`. The file `audit.head` names the last record: without it a cut tail would not show.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from study_core.files import parse_json, peek_json, write_json
from tasks.terminal import printable

LOG, HEAD, LINES = "audit.jsonl", "audit.head", "auditing_manifest.log"
OPENED, EVIDENCE, CLOSED, CANCELLED = "opened", "evidence", "closed", "cancelled"
LIVE = ".open"  # beside a run's log: locked by the run's process for as long as it lives
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
        return self.folder / LOG

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
            write_json(self.folder / HEAD, {"seq": record["seq"], "sha256": record["sha256"]})
            with open(self.folder / LINES, "a", encoding="utf-8") as lines:
                lines.write(f"{now.strftime('%Y-%m-%dT%H:%M:%S')} | {printable(text)}\n")
        return record

    def records(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]


def readable(path: Path) -> list[dict[str, Any]]:
    """The records that can be read, in order; the chain's own check names the lines that cannot."""
    try:
        return [record for record in parsed(path.read_bytes()) if record is not None]
    except OSError:
        return []


def parsed(log: bytes) -> list[dict[str, Any] | None]:
    """A record a line, None for a line that is none."""
    return [_record(line) for line in log.splitlines()]


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = parse_json(line)
    except ValueError:
        return None
    if not isinstance(record, dict) or not isinstance(record.get("seq"), int):
        return None
    texts = all(isinstance(record.get(name), str) for name in ("kind", "sha256", "previous", "time", "text"))
    return record if texts and isinstance(record.get("data"), dict) else None


def _as_written(record: dict[str, Any]) -> bool:
    try:
        return _digest(record) == str(record["sha256"])
    except RecursionError:  # nested deeper than the writer could
        return False


def verify(path: Path) -> list[str]:
    """What is wrong with an audit log, each finding naming its line; an empty list means untouched.

    A record that was changed, dropped, inserted or moved breaks the chain at its line; a cut tail is found
    by `audit.head` beside the log (one record more than the head is allowed: a kill between the two writes).
    """
    problems: list[str] = []
    previous, expected, count = GENESIS, 0, 0
    stated_by_seq: dict[int, str] = {}
    for number, record in enumerate(parsed(path.read_bytes()), start=1):
        if record is None:
            problems.append(f"line {number}: not an audit record")
            continue
        stated, seq = record["sha256"], record["seq"]
        if not _as_written(record):
            problems.append(f"line {number}: the record was changed after it was written")
        if record["previous"] != previous:
            what = "does not follow the line before it (dropped, inserted or reordered)"
            problems.append(f"line {number}: {what}: record {expected} belongs here, record {seq} was found")
        elif seq != expected:
            problems.append(f"line {number}: carries sequence number {seq}, expected {expected}")
        previous, count, expected = stated, number, seq + 1  # one dropped line is one finding, not a hundred
        stated_by_seq[seq] = stated
    return problems + _against_head(path.with_name(HEAD), count, stated_by_seq)


def _against_head(path: Path, count: int, stated: Mapping[int, str]) -> list[str]:
    if not path.exists():
        return [f"{HEAD} is missing: a cut tail could not be noticed"]
    head = peek_json(path)
    if not isinstance(head, dict) or not isinstance(head.get("seq"), int):
        return [f"{HEAD}: not what the log's writer leaves"]
    if count < head["seq"] + 1:
        return [f"line {count + 1}: missing; the log once had {head['seq'] + 1} lines"]
    if stated.get(head["seq"]) != head.get("sha256"):
        return [f"line {head['seq'] + 1}: is not the record that {HEAD} names"]
    return []
