"""What the journal keeps: a job with its attempts, and one sbatch with its members. Forms on disk, no decisions."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.slurm import files
from tasks.slurm.remedies import Adjustments


@dataclass
class Attempt:
    """One try of a job. `token` is empty while it waits for a free place or a dependency."""

    number: int
    created: float
    token: str = ""
    index: int = 0
    adjustments: dict[str, Any] = field(default_factory=lambda: Adjustments().to_json())
    exclude: list[str] = field(default_factory=list)
    memory_bytes: int | None = None  # where a remedy asks for more than the profile
    remedy: str = ""
    opens_round: bool = False  # asked for by a person, not by a remedy: counts of remedies begin here
    restarts_told: int = 0  # Slurm's own requeues that were audited
    orders: int = 0  # how often sbatch was given this attempt's submission
    ordered: float = 0.0  # when last
    said: str = ""  # the site's last words about it
    refused: bool = False  # and they are a refusal: final once the job is surely not there
    holds: int = 0  # how often in a row the site put it off
    held_since: float = 0.0
    held_until: float = 0.0  # not tried again before
    releases: int = 0  # how often it was let go after a failed launch
    end: dict[str, Any] | None = None  # cause, node, slurm_id, at


@dataclass
class Entry:
    """One job of the journal."""

    key: str
    spec: dict[str, Any]
    profile: str
    executor: str
    code: dict[str, str]
    owner: str
    detach: bool
    created: float
    usage_seconds: float = 5.0
    after: list[str] = field(default_factory=list)
    inside: str = ""  # key of the job whose allocation it may share
    state: str = "live"  # live, done, failed, cancelled
    cause: str = ""
    message: str = ""
    cancel: dict[str, Any] | None = None
    attempts: list[Attempt] = field(default_factory=list)
    ended: float | None = None

    @property
    def attempt(self) -> Attempt:
        """The newest attempt."""
        return self.attempts[-1]

    def round(self) -> list[Attempt]:
        """Attempts since a person last asked for the job."""
        first = max(place for place, one in enumerate(self.attempts) if one.opens_round)
        return self.attempts[first:]

    def open_round(self, now: float) -> None:
        """A new first attempt, with fresh remedy counts."""
        number = self.attempts[-1].number + 1 if self.attempts else 1
        self.attempts.append(Attempt(number=number, created=now, opens_round=True))
        self.state, self.cause, self.message, self.cancel, self.ended = "live", "", "", None, None

    def to_json(self) -> dict[str, Any]:
        """As kept in journal.json, which the runner reads too."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Entry:
        """Inverse of `to_json`."""
        return cls(**{**content, "attempts": [Attempt(**one) for one in content["attempts"]]})


@dataclass(frozen=True)
class Submission:
    """One sbatch, before and after: its token, its folder, its members (key, attempt, job folder)."""

    token: str
    folder: Path
    members: tuple[dict[str, Any], ...]
    array: bool
    created: float
    stage: str

    @property
    def script(self) -> Path:
        """The exact text given to sbatch."""
        return self.folder / "script.sh"

    @property
    def reply(self) -> Path:
        """Standard output of sbatch: written by sbatch itself, so it survives the death of whoever called it."""
        return self.folder / "reply.txt"

    def slurm_id(self) -> str | None:
        """Base id of the Slurm job, None while unknown."""
        handle = files.peek_json(self.folder / "handle.json")
        return str(handle["slurm_id"]) if handle else None

    def member_id(self, index: int, base: str) -> str:
        """Id of one member: "7", or "4_3" in an array."""
        return f"{base}_{index}" if self.array else base

    def log(self, index: int, base: str) -> Path:
        """Standard output and error of one member, as the rendered script names it."""
        return self.folder / f"{self.member_id(index, base)}_0_log.out"
