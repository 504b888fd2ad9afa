"""Which logs should lie in a house, or in a copy of one, and do not.

Two things name them: heads that were told elsewhere, by the house that they belong to, and the log that was opened
next. A house is known by its name, not by its path: of two that lay at one place one after the other each has its own
logs, and a moved or copied one is asked for all of its own.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tasks import anchor, checking, house_chain
from tasks.anchor import Anchor
from tasks.audit_log import LOG
from tasks.checking import Reader, Records

Missing = dict[Path, tuple[str, Anchor]]


def of(below: Sequence[Path], logs: Mapping[Path, Records], reader: Reader) -> Missing:
    """By the place where each log should lie below the paths: a line that says who names it, and its last head."""
    names = {checking.name(records) for records in logs.values()}
    removed = {log for log, heads in reader.heads.items() if heads[-1].kind == anchor.REMOVED}
    found = {
        **dict(_named_next(below, logs, names | removed | _pruned(logs))),
        **dict(_told(below, logs, names | removed, reader)),
    }
    return dict(sorted(found.items()))


def _pruned(logs: Mapping[Path, Records]) -> set[str]:
    """Logs that a house put on record as pruned. Where heads of them are given, those decide."""
    every = (record for records in logs.values() for record in records if record["kind"] == house_chain.PRUNED)
    return {str(record["data"].get("log")) for record in every}


def _told(
    below: Sequence[Path], logs: Mapping[Path, Records], there: set[str], reader: Reader
) -> Iterator[tuple[Path, tuple[str, Anchor]]]:
    roots = _roots(logs, reader)
    for log, heads in reader.heads.items():
        last = heads[-1]
        if log in there:
            continue
        places = [last.place] if _ours(last) else []
        places += [root / last.folder for root in roots.get(last.key, ())]
        told = f"{reader.place} was told of {last.seq + 1} lines, the last ({last.kind}) at {last.time}"
        for place in dict.fromkeys(places):
            if any(place.is_relative_to(one) for one in below):
                yield place, (f"{LOG} is gone, {_state(place, last)}; {told}", last)


def _roots(logs: Mapping[Path, Records], reader: Reader) -> dict[str, list[Path]]:
    """Where each house lies that one of these logs belongs to: at their own places below one root."""
    found: dict[str, list[Path]] = {}
    for folder, records in logs.items():
        for head in list(reader.heads.get(checking.name(records), ()))[-1:]:
            root = house_chain.root_of(folder, head.folder)
            if root is not None and root not in found.setdefault(head.key, []):
                found[head.key].append(root)
    return found


def _ours(head: Anchor) -> bool:
    """Whether a head speaks of this machine's place: another machine may have another house at the same path."""
    now = house_chain.known(Path(head.house))
    return head.host in ("", socket.gethostname()) or now in ("", head.id)


def _state(place: Path, head: Anchor) -> str:
    if (place / LOG).exists():
        return "another log lies there: the chain was made anew"
    if place == head.place:
        other = house_chain.known(Path(head.house)) not in ("", head.key)
        return "another house lies there now" if other else "it was removed"
    return f"it was left out of this copy or removed from it (it lay in {head.place})"


def _named_next(
    below: Sequence[Path], logs: Mapping[Path, Records], there: set[str]
) -> Iterator[tuple[Path, tuple[str, Anchor]]]:
    """Logs that the run opened after them names."""
    for folder, records in logs.items():
        own, follows = house_chain.place(records[0]) if records else ("", None)
        root = house_chain.root_of(folder, own)
        if root is None or follows is None or follows["log"] in there:
            continue
        place = root / str(follows["folder"])
        if any(place.is_relative_to(one) for one in below):
            head = Anchor(
                str(root), str(follows["folder"]), str(follows["log"]), 0, "", "", "", house_chain.known(root)
            )
            yield place, (f"{LOG} is gone: {own}, which was opened next, names it", head)
