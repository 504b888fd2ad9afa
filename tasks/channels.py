"""Which line of models a run ships into, its channel: what is judged on other data never replaces one silently.

A channel is named by the plan (`production.channel`), else after the data: a demo corpus and the real one, shipped
into one registry by the same command, are two lines.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from study_core.verdict import Verdict
from tasks.blessings import DEFAULT, Blessing, channels, production
from tasks.run import Run


class PromotionRefused(RuntimeError):
    """The candidate passed its gates but may not replace what is in production. Not a bug."""


@dataclass(frozen=True)
class Line:
    """What models of one line are judged on: one corpus, one panel. An empty hash was not recorded."""

    data: str
    data_sha256: str
    panel_sha256: str

    @classmethod
    def of(cls, verdict: Verdict) -> Line:
        return cls(verdict.data, verdict.data_sha256, verdict.panel_sha256)

    def same(self, other: Line) -> bool:
        """Whether models of both are of one line; data that were not recorded are no difference."""
        unknown = not self.data_sha256 or not other.data_sha256
        return self.panel_sha256 == other.panel_sha256 and (unknown or self.data_sha256 == other.data_sha256)

    def __str__(self) -> str:
        data = " ".join(part for part in (self.data, self.data_sha256[:8]) if part) or "data not recorded"
        return f"{data}, panel {self.panel_sha256[:8]}"


def settled(run: Run, line: Line) -> Run:
    """The run with its channel: the plan's, else the data's. Called before anything is trained.

    Raises:
        PromotionRefused: the channel has a model of another line in production, and nobody named the channel.
    """
    channel = run.channel or _own(run.registry, line)
    found = replace(run, channel=channel, channel_named=bool(run.channel))
    before = check(found, line)
    goes_on = f", which goes on with other data: before, {before}" if before else ""
    found.event("channel", f"Channel {channel}: {line}{goes_on}", channel=channel, named=found.channel_named)
    return found


def check(run: Run, line: Line) -> Line | None:
    """What the run's channel was judged on so far, where that is another line and the plan names the channel.

    Raises:
        PromotionRefused: it is another line, and the plan names no channel; names both lines.
    """
    current = production(run.registry, run.channel)
    if current is None or (before := Line.of(current.verdict)).same(line):
        return None
    if run.channel_named:
        return before
    raise PromotionRefused(
        f"{current.id}, in production in channel {current.channel}, was judged on {before}; this run is on {line}: not "
        f"one line. Say by production.channel which it belongs to: another name (demo, mini, real …) begins a line of "
        f"its own, {current.channel} goes on there with other data"
    )


def in_use(tenant: str, channel: str = "", data: str = "") -> Blessing | None:
    """What is in production for whoever only uses it: of the channel named, else of the data's, else the only one.

    Raises:
        PromotionRefused: several channels have a model in production, and none of them is named.
    """
    used = channels(tenant)
    for name in (channel, "" if channel else named_after(data)):
        if name in used:
            return production(tenant, name)
    if channel or len(used) < 2:
        return production(tenant, channel or "".join(used))
    raise PromotionRefused(f"{tenant} has models in production in channels {', '.join(used)}; name one")


def named_after(data: str) -> str:
    """The channel of a corpus that nobody named one for: its folder's name, empty where that gives none."""
    return re.sub(r"[^a-z0-9]+", "-", Path(data).name.lower()).strip("-")[:40]


def _own(tenant: str, line: Line) -> str:
    """A registry from before channels had names goes on in the one that it has."""
    own = named_after(line.data) or DEFAULT
    if production(tenant, own) is None and (old := production(tenant)) and Line.of(old.verdict).same(line):
        return DEFAULT
    return own
