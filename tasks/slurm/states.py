"""What Slurm says, as tables: state -> verdict and cause; and the parsers of squeue's and sacct's lines.

Source of the state names: the "JOB STATE CODES" of squeue(1) and sacct(1), Slurm 22.05 to 24.11.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum


class Verdict(Enum):
    """What a state says about an attempt. UNKNOWN means wait: it is never read as an end."""

    WAITING = "waiting"
    RUNNING = "running"
    SETTLING = "settling"  # over for now, though Slurm may put the job back into the queue by itself
    ENDED = "ended"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Meaning:
    """Verdict of a state, and for an end its cause: a key of the remedy table."""

    verdict: Verdict
    cause: str = ""


_W, _R, _S, _E = Verdict.WAITING, Verdict.RUNNING, Verdict.SETTLING, Verdict.ENDED

STATES: dict[str, Meaning] = {
    "PENDING": Meaning(_W),
    "CONFIGURING": Meaning(_W),
    "POWER_UP_NODE": Meaning(_W),
    "REQUEUED": Meaning(_W),
    "REQUEUE_FED": Meaning(_W),
    "REQUEUE_HOLD": Meaning(_W),
    "RESV_DEL_HOLD": Meaning(_W),
    "SPECIAL_EXIT": Meaning(_W),
    "RUNNING": Meaning(_R),
    "COMPLETING": Meaning(_R),
    "EXPEDITING": Meaning(_R),
    "RESIZING": Meaning(_R),
    "SIGNALING": Meaning(_R),
    "STAGE_OUT": Meaning(_R),
    "STOPPED": Meaning(_R),
    "SUSPENDED": Meaning(_R),
    "UPDATE_DB": Meaning(_R),
    "REVOKED": Meaning(_R),  # of a federation: another cluster has started it
    "NODE_FAIL": Meaning(_S, "node_fail"),
    "PREEMPTED": Meaning(_S, "preempted"),
    "BOOT_FAIL": Meaning(_S, "node_fail"),
    "RECONFIG_FAIL": Meaning(_S, "node_fail"),
    "LAUNCH_FAILED": Meaning(_S, "launch_failed"),
    "COMPLETED": Meaning(_E, "lost_result"),  # ended well, but the node left no marker
    "FAILED": Meaning(_E, "killed"),  # refined by what the job left: start record, standard error
    "TIMEOUT": Meaning(_E, "overran"),
    "OUT_OF_MEMORY": Meaning(_E, "oom"),
    "CANCELLED": Meaning(_E, "cancelled"),
    "DEADLINE": Meaning(_E, "deadline"),
}
UNKNOWN = Meaning(Verdict.UNKNOWN)


def state_name(text: str) -> str:
    """The bare state: "CANCELLED by 1000" -> "CANCELLED", sacct's cut "OUT_OF_ME+" -> "OUT_OF_MEMORY", else as is."""
    words = text.split()
    bare = words[0].upper() if words else ""
    if bare.endswith("+"):
        whole = [name for name in STATES if name.startswith(bare[:-1])]
        return whole[0] if len(whole) == 1 else bare
    return bare


def meaning(text: str) -> Meaning:
    """The table's row of a state as Slurm prints it; UNKNOWN (wait) for anything that is not in the table."""
    return STATES.get(state_name(text), UNKNOWN)


_RANGE = re.compile(r"^(?P<base>\d+)_\[(?P<parts>[0-9,:\-]+)(?:%\d+)?\]$")
_SINGLE = re.compile(r"^\d+(?:_\d+)?$")


def expand_ids(text: str) -> list[str]:
    """Job ids in one squeue or sacct id: "7" -> ["7"], "4_[3-5,9%2]" -> ["4_3", "4_4", "4_5", "4_9"].

    Raises:
        ValueError: not an id; squeue cuts long lists with "...", which cannot be expanded.
    """
    if _SINGLE.match(text):
        return [text]
    match = _RANGE.match(text)
    if match is None:
        raise ValueError(f"not a Slurm job id: {text!r}")
    return [f"{match['base']}_{index}" for part in match["parts"].split(",") for index in _indices(part)]


def _indices(part: str) -> Iterator[int]:
    span, _, step = part.partition(":")
    low, _, high = span.partition("-")
    return iter(range(int(low), int(high or low) + 1, int(step or 1)))


@dataclass(frozen=True)
class Row:
    """One job, or one array task, as the queue or the accounting shows it. Times are Unix seconds, None if not yet."""

    id: str
    name: str
    state: str
    node: str = ""
    reason: str = ""
    comment: str = ""
    submitted: float | None = None
    started: float | None = None
    ended: float | None = None
    exit_code: str = ""
    max_rss_bytes: int | None = None
    cpu_seconds: float | None = None


@dataclass(frozen=True)
class Listing:
    """Rows by id. `whole` is False when one that may be ours could not be read: then absence proves nothing."""

    rows: dict[str, Row] = field(default_factory=dict)
    whole: bool = True


QUEUE_FORMAT = "%i|%T|%N|%V|%S|%r|%k|%j"  # comment and name last: they may hold the separator, and line breaks
QUEUE_FIELDS = 8
_RECORD = re.compile(r"\d[^|\s]*\|[A-Z_]+\|")  # how the row of a job begins

# how the journal names its Slurm jobs: readable name, twelve digits of the key, root, attempt, nonce
OWN_NAME = re.compile(r"\.[0-9a-f]{12}\.[0-9a-f]{4}-\d+-[0-9a-f]{4}\s*$")


def read_queue(text: str) -> Listing:
    """Parse `squeue -h -o QUEUE_FORMAT`.

    A user's other jobs stand there too: heterogeneous ones ("123+0"), names with line breaks. A line that cannot be
    read voids the listing only where it was cut, or bears a name of ours.
    """
    rows: dict[str, Row] = {}
    lines, whole = _lines(text)
    for line in _joined(lines):
        parts = line.split("|", QUEUE_FIELDS - 1)
        try:
            if len(parts) == QUEUE_FIELDS and OWN_NAME.search(line):  # what separators there are more are the comment's
                parts[6:] = "|".join(parts[6:]).rsplit("|", 1)
            if len(parts) != QUEUE_FIELDS or not parts[1]:
                raise ValueError(line)
            ids = expand_ids(parts[0])
        except ValueError:
            whole = whole and not OWN_NAME.search(line)
            continue
        for job_id in ids:
            rows[job_id] = Row(
                id=job_id,
                name=parts[7],
                state=state_name(parts[1]),
                node="" if parts[2] == "(null)" else parts[2],
                reason=parts[5],
                comment="" if parts[6] == "(null)" else parts[6],
                submitted=parse_time(parts[3]),
                started=parse_time(parts[4]),
            )
    return Listing(rows, whole)


def _joined(lines: list[str]) -> list[str]:
    """A row whose comment holds line breaks, which anybody may write there at any time, is one row."""
    found: list[str] = []
    for line in lines:
        if found and found[-1].count("|") < QUEUE_FIELDS - 1 and not _RECORD.match(line):
            found[-1] += f"\n{line}"
        else:
            found.append(line)
    return found


HISTORY_FIELDS = ("JobID", "State", "NodeList", "Submit", "Start", "End", "ExitCode", "MaxRSS", "TotalCPU", "JobName")


_STEP = re.compile(r"([^.\[]*(?:\[[^\]]*\]?)?[^.]*)(?:\.(.*))?", re.DOTALL)  # "7.batch", "4_[0-99,...]"


def read_history(text: str) -> Listing:
    """Parse `sacct -n -P -o HISTORY_FIELDS`, with the rows of steps (only they carry MaxRSS); strangers as above."""
    rows: dict[str, Row] = {}
    peaks: dict[str, int] = {}
    lines, whole = _lines(text)
    for line in lines:
        parts = line.split("|", len(HISTORY_FIELDS) - 1)
        job_id, step = _STEP.fullmatch(parts[0]).groups("")  # type: ignore[union-attr]
        if len(parts) != len(HISTORY_FIELDS) or not parts[1]:
            whole = whole and not OWN_NAME.search(line)
            continue
        if step:
            peaks[job_id] = max(peaks.get(job_id, 0), parse_size(parts[7]) or 0)
            continue
        try:
            ids = expand_ids(job_id)
        except ValueError:
            whole = whole and not OWN_NAME.search(line)
            continue
        for single in ids:
            rows[single] = Row(
                id=single,
                name=parts[9],
                state=state_name(parts[1]),
                node="" if parts[2].startswith("None") else parts[2],
                submitted=parse_time(parts[3]),
                started=parse_time(parts[4]),
                ended=parse_time(parts[5]),
                exit_code=parts[6],
                cpu_seconds=parse_duration(parts[8]),
            )
    return Listing({key: _with_peak(row, peaks.get(key)) for key, row in rows.items()}, whole)


def _with_peak(row: Row, peak: int | None) -> Row:
    return Row(**{**row.__dict__, "max_rss_bytes": peak}) if peak else row


def _lines(text: str) -> tuple[list[str], bool]:
    """Whole lines, and whether that is all: output that stops within a line was cut."""
    *lines, rest = text.split("\n")
    return [line.strip() for line in lines if line.strip()], not rest.strip()


def parse_time(text: str) -> float | None:
    """Unix seconds, or Slurm's local time "2025-10-09T12:00:00", as Unix seconds; None for "N/A", "Unknown", ""."""
    try:
        return float(text) if text.isdigit() else dt.datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def parse_duration(text: str) -> float | None:
    """Slurm's "[days-][hours:]minutes:seconds[.fraction]" in seconds; None when it is none."""
    days, dash, rest = text.rpartition("-")
    try:
        parts = [float(part) for part in rest.split(":")]
        seconds = sum(part * 60.0**place for place, part in enumerate(reversed(parts)))
        return float(seconds + 86400 * (int(days) if dash else 0))
    except ValueError:
        return None


_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse_size(text: str) -> int | None:
    """Slurm's "126532K" or "1.5G" in bytes; None when it is none."""
    match = re.fullmatch(r"(\d+\.?\d*)([KMGT]?)[Bnc]?", text)
    return int(float(match[1]) * _UNITS[match[2]]) if match else None
