"""One log checked: its chain, and the heads of it that were told elsewhere. What a run and a registry have in common.

A finding is a line that names file or line; a note is what could not be checked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks import anchor, audit_log, signing
from tasks.anchor import Anchor
from tasks.audit_log import LOG
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

    @classmethod
    def here(cls, keys: Sequence[Path] | None = None) -> Reader:
        """With the keys named by hand, else one's own; raises BadInput for one that cannot be read."""
        believed = signing.believed(keys)
        told = anchor.told(believed)
        heads: dict[str, list[Anchor]] = {}
        for one in told.anchors:
            heads.setdefault(one.log, []).append(one)
        return cls(believed, heads, told.place, told.problems, told.strangers)


def log(folder: Path, records: Records, reader: Reader) -> tuple[Checked, bool]:
    """The chain, and whether the log is the one that was told of elsewhere; True for a copy of one that still lies."""
    checked = Checked([f"{LOG} {problem}" for problem in audit_log.verify(folder / LOG)])
    if not records:
        checked.findings.append(f"{LOG}: holds no record")
        return checked, False
    heads = reader.heads.get(name(records), ())
    copied = bool(heads) and _is_copy(folder, heads[-1])
    hashes = {record["seq"]: record["sha256"] for record in records}
    for head in heads:
        known = hashes.get(head.seq)
        if known is None and not copied:
            told = f"line {head.seq + 1} ({head.kind}, {head.time}), which {reader.place} was told: the log was cut"
            checked.findings.append(f"{LOG} misses {told}")
        elif known is not None and known != head.sha256:
            told = f"is not the record that {reader.place} was told: the chain was made anew"
            checked.findings.append(f"{LOG} line {head.seq + 1}: {told}")
    if copied:
        checked.notes.append(f"a copy of {heads[-1].folder}, checked as far as it goes")
    elif not heads:
        checked.notes.append(f"{reader.place} was told nothing of this log: from before heads were told, or elsewhere")
    return checked, copied


def _is_copy(folder: Path, head: Anchor) -> bool:
    """Whether the log that was told of lies at another place, and still does."""
    own = Path(head.house) / head.folder
    return own != folder.resolve() and name(audit_log.readable(own / LOG)) == head.log


def name(records: Records) -> str:
    """A log's name, wherever it lies: the hash of its first record."""
    return str(records[0]["sha256"]) if records else ""
