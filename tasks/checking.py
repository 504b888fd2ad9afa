"""One log checked: its chain, and the heads of it that were told elsewhere. What a run and a registry have in common.

A finding is a line that names file or line; a note is what could not be checked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509

from tasks import anchor, audit_log, house_chain, signing, timestamp
from tasks.anchor import Anchor
from tasks.audit_log import HEAD, LOG
from tasks.signing import PublicKey

Records = Sequence[Mapping[str, Any]]


@dataclass
class Checked:
    """What was found at one place, and what could not be checked there."""

    findings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Reader:
    """Who reads: whose signatures are believed, and every head that was told elsewhere, by log."""

    believed: Sequence[PublicKey]
    heads: Mapping[str, Sequence[Anchor]]
    place: str
    problems: Sequence[str] = ()  # of the place itself
    strangers: Sequence[str] = ()  # its lines that somebody else signed
    authorities: Sequence[x509.Certificate] = ()  # of time stamps
    lines: Mapping[str, int] = field(default_factory=dict)  # how many the fullest copy has that is looked at, by log

    @classmethod
    def here(
        cls, keys: Sequence[Path] | None = None, place: str = "", authorities: Sequence[Path] | None = None
    ) -> Reader:
        """With the keys named by hand, else one's own, and the heads told at `place`, else here.

        Raises BadInput for what cannot be read.
        """
        believed = signing.believed(keys)
        told = anchor.told(believed, place)
        heads: dict[str, list[Anchor]] = {}
        for one in told.anchors:
            heads.setdefault(one.log, []).append(one)
        trusted = timestamp.roots(authorities)
        return cls(believed, heads, told.place, told.problems, told.strangers, trusted)


def log(folder: Path, records: Records, reader: Reader) -> tuple[Checked, bool]:
    """The chain, and whether the log is the one that was told of elsewhere; True for a copy of one that still lies."""
    checked = Checked([f"{LOG} {problem}" for problem in audit_log.verify(folder / LOG)])
    checked.findings += [f"{name}: is a link" for name in (LOG, HEAD) if (folder / name).is_symlink()]
    if not records:
        checked.findings.append(f"{LOG}: holds no record")
        return checked, False
    checked.findings += _ahead(records)
    heads = reader.heads.get(name(records), ())
    own = heads[-1].folder if heads else house_chain.place(records[0])[0]
    copied = _lies_aside(folder, own, records, reader) or (bool(heads) and _is_copy(folder, heads[-1]))
    hashes = {record["seq"]: record["sha256"] for record in records}
    for head in heads:
        known = hashes.get(head.seq)
        if known is None and not (copied and _may_be_old(folder, head, reader)):
            why = "this copy was made before, or cut" if copied else "the log was cut"
            told = f"line {head.seq + 1} ({head.kind}, {head.time}), which {reader.place} was told: {why}"
            checked.findings.append(f"{LOG} misses {told}")
        elif known is not None and known != head.sha256:
            told = f"is not the record that {reader.place} was told: the chain was made anew"
            checked.findings.append(f"{LOG} line {head.seq + 1}: {told}")
        checked.findings += _stamp(head, reader)
    unstamped = sum(not head.stamp for head in heads)
    if reader.authorities and unstamped:
        checked.notes.append(f"{unstamped} of {len(heads)} heads have no time stamp")
    if copied:
        checked.notes.append(f"a copy of {own}, checked as far as it goes")
    elif not heads:
        checked.notes.append(f"{reader.place} was told nothing of this log: from before heads were told, or elsewhere")
    return checked, copied


def _ahead(records: Records) -> list[str]:
    """The first record that was written later than now: its clock was wrong, or set."""
    now = datetime.now(UTC) + timestamp.CLOCKS
    for record in records:
        try:
            late = datetime.fromisoformat(record["time"]) > now
        except (ValueError, TypeError):
            return [f"{LOG} line {record['seq'] + 1}: {record['time']!r} is no time"]
        if late:
            return [f"{LOG} line {record['seq'] + 1}: its time {record['time']} lies ahead of this clock"]
    return []


def _stamp(head: Anchor, reader: Reader) -> list[str]:
    """What is wrong with a head's time stamp."""
    if not head.stamp:
        return []
    found = timestamp.check(head.token, head.sha256, reader.authorities)
    problems = (found.problem, timestamp.out_of_time(head.time, found))
    return [f"time stamp of {LOG} line {head.seq + 1}: {problem}" for problem in problems if problem]


def _may_be_old(folder: Path, head: Anchor, reader: Reader) -> bool:
    """A copy that lies aside, as a refused run's archive does, while the whole log lies in its house or is looked at.

    One that lies at its own place, in a house or in a copy of one, is the log itself.
    """
    if house_chain.root_of(folder.resolve(), head.folder) is not None:
        return False
    return folder.resolve().is_relative_to(head.house) or reader.lines.get(head.log, 0) > head.seq


def _lies_aside(folder: Path, own: str, records: Records, reader: Reader) -> bool:
    """Whether this is an older copy that lies at another place than the log's own, beside a fuller one."""
    at_home = not own or house_chain.root_of(folder.resolve(), own) is not None
    return not at_home and reader.lines.get(name(records), 0) > len(records)


def _is_copy(folder: Path, head: Anchor) -> bool:
    """Whether the log that was told of lies at another place, and still does."""
    return head.place != folder.resolve() and name(audit_log.readable(head.place / LOG)) == head.log


def name(records: Records) -> str:
    """A log's name, wherever it lies: the hash of its first record."""
    return str(records[0]["sha256"]) if records else ""
