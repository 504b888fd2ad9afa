"""The journal: intent before submit, handle after. One job = one key = one folder; safe on NFS, no database.

    <root>/jobs/<k2>/<key20>/journal.json      what the job is and every attempt so far (written by dispatchers, locked)
    <root>/submissions/<token>/                one sbatch: submission.json (intent), script.sh, reply.txt, handle.json
    <root>/live/<key>                          index of jobs that have not ended
    <root>/owners/<owner>.json                 heartbeat of a dispatcher
    <root>/code/<sha256>/                      code snapshots

The token is the Slurm job's name: it says which job it is, is unique over roots and attempts, and is on disk before
sbatch starts. So after a doubtful sbatch the question "was it accepted?" has an answer: ask for that name.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.slurm import files, runner
from tasks.slurm.remedies import Adjustments
from tasks.slurm.specs import Job, JobSpec

LEASE_S = 2.0
LOCK_S = 3600.0  # longer than any sbatch: whoever holds it by then is stopped, or on a machine that is


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


class Journal:
    """All jobs under one root folder."""

    def __init__(self, root: Path, clock: Callable[[], float] = time.time) -> None:
        self.root = Path(root).absolute()
        self._clock = clock
        for name in ("jobs", "submissions", "live", "owners", "code"):
            files.make_folder(self.root / name)
        files.create_json(self.root / "root.json", {"id": secrets.token_hex(4)})
        self.root_id: str = files.peek_json(self.root / "root.json")["id"]

    @contextlib.contextmanager
    def lock(self, timeout_s: float = LOCK_S, *, who: str = "") -> Iterator[int]:
        """Held while something is submitted or decided; sbatch inherits it, so that it outlasts a dead caller.

        Raises:
            TimeoutError: somebody else kept it for so long; the message says who.
        """
        path = self.root / "submit.lock"
        with contextlib.ExitStack() as stack:
            try:
                descriptor = stack.enter_context(files.locked(path, timeout_s=timeout_s))
            except TimeoutError:
                raise TimeoutError(f"{path} is held by {_holder(path)}") from None
            signed = {"who": who, "host": socket.gethostname(), "pid": os.getpid(), "at": self._clock()}
            with contextlib.suppress(OSError):  # a courtesy to those who wait
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, files.encode(signed), 0)
            yield descriptor

    # -- jobs
    def folder(self, key: str) -> Path:
        """Folder of a job; two levels, so that a long-lived root stays fast."""
        return self.root / "jobs" / key[:2] / key[:20]

    def job(self, entry: Entry) -> Job:
        """The job of an entry."""
        return Job(JobSpec(**entry.spec), entry.key, self.folder(entry.key))

    def read(self, key: str) -> Entry | None:
        """The entry of `key`, None where there is none."""
        content = files.peek_json(self.folder(key) / "journal.json")
        return self.with_request(Entry.from_json(content)) if content else None

    def request_cancel(self, entry: Entry, request: dict[str, Any]) -> None:
        """Ask for a job's end without the lock: a file of its own, which every reader of the entry honours."""
        files.create_json(self._request(entry), request)

    def with_request(self, entry: Entry) -> Entry:
        """The entry with what was asked beside it."""
        if entry.state == "live" and entry.cancel is None:
            entry.cancel = files.peek_json(self._request(entry))
        return entry

    def _request(self, entry: Entry) -> Path:
        return self.folder(entry.key) / runner.cancel_request([one.__dict__ for one in entry.attempts])

    def write(self, entry: Entry, *, durable: bool = True) -> None:
        """Keep an entry, and the index of live jobs with it; what a power loss may undo need not be `durable`."""
        folder = files.make_folder(self.folder(entry.key))
        index = self.root / "live" / entry.key
        if entry.state == "live" and not index.exists():
            files.write_bytes(index, b"", durable=False)
        files.write_json(folder / "journal.json", entry.to_json(), durable=durable)
        if entry.state != "live":
            index.unlink(missing_ok=True)

    def all(self) -> Iterator[Entry]:
        """Every entry, in no order; a folder that was set aside is another story."""
        for path in (self.root / "jobs").glob("*/*/journal.json"):
            content = files.peek_json(path)
            if content is not None and ".old-" not in path.parent.name:
                yield Entry.from_json(content)

    def live(self) -> Iterator[Entry]:
        """Entries that have not ended, by any dispatcher."""
        for name in sorted(os.listdir(self.root / "live")):
            entry = self.read(name)
            if entry is not None and entry.state == "live":
                yield entry
            elif entry is not None or self._clock() - self._age_mark(name) > 3600:
                (self.root / "live" / name).unlink(missing_ok=True)  # left by a crash between index and entry

    def _age_mark(self, name: str) -> float:
        with contextlib.suppress(FileNotFoundError):
            return (self.root / "live" / name).stat().st_mtime
        return self._clock()

    def set_aside(self, key: str) -> None:
        """Move an ended job's folder away, so that the key starts from nothing (`fresh`); `prune` removes it."""
        folder = self.folder(key)
        folder.rename(folder.with_name(f"{folder.name}.old-{int(self._clock())}-{secrets.token_hex(2)}"))

    # -- submissions
    def token(self, name: str, digest: str, attempt: int) -> str:
        """Slurm job name: readable, the key's first twelve digits, the root, the attempt, and a nonce."""
        return f"{name}.{digest[:12]}.{self.root_id[:4]}-{attempt}-{secrets.token_hex(2)}"

    def draft(self, entries: Sequence[Entry], *, array: bool) -> Submission:
        """A name, and the folder it would have, for one sbatch of the newest attempts of `entries`."""
        first = entries[0]
        stage = first.spec["stage"]
        if array:
            digest = hashlib.sha256("".join(entry.key for entry in entries).encode()).hexdigest()
            token = self.token(f"{stage.replace('/', '-')}-array-{len(entries)}", digest, first.attempt.number)
        else:
            token = self.token(first.spec["name"], first.key, first.attempt.number)
        members = tuple(
            {"key": entry.key, "attempt": entry.attempt.number, "folder": str(self.folder(entry.key))}
            for entry in entries
        )
        return Submission(token, self.root / "submissions" / token, members, array, self._clock(), stage)

    def prepare(self, entries: Sequence[Entry], *, array: bool) -> Submission:
        """Write a submission's folder; no job refers to it yet."""
        drafted = self.draft(entries, array=array)
        content = {name: getattr(drafted, name) for name in ("token", "members", "array", "created", "stage")}
        files.make_folder(drafted.folder)
        files.write_json(drafted.folder / "submission.json", content)
        return drafted

    def intend(self, submission: Submission, entries: Sequence[Entry]) -> None:
        """Put on disk that `entries` are about to be submitted as `submission`."""
        for index, entry in enumerate(entries):
            entry.attempt.token, entry.attempt.index = submission.token, index
            self.write(entry)

    def submission(self, token: str) -> Submission:
        """The submission named `token`."""
        folder = self.root / "submissions" / token
        content = files.peek_json(folder / "submission.json")
        if content is None:
            raise FileNotFoundError(f"{folder} is missing: its job is still in the journal; do not remove it by hand")
        return Submission(
            token, folder, tuple(content["members"]), content["array"], content["created"], content["stage"]
        )

    def member(self, token: str, slurm_id: str) -> dict[str, Any] | None:
        """Key and attempt of the job that a Slurm job of this name and id runs; None for a name of nobody's here."""
        if f".{self.root_id[:4]}-" not in token or "/" in token:
            return None
        content = files.peek_json(self.root / "submissions" / token / "submission.json")
        index = int(slurm_id.partition("_")[2] or 0)
        return content["members"][index] if content and index < len(content["members"]) else None

    def handle(self, submission: Submission, slurm_id: str, how: str) -> None:
        """Record the Slurm id, and how it became known (reply, claim, queue, accounting)."""
        content = {"slurm_id": slurm_id, "how": how, "at": self._clock()}
        files.write_json(submission.folder / "handle.json", content)

    # -- owners
    def beat(self, owner: str, content: dict[str, Any]) -> None:
        """Heartbeat of a dispatcher."""
        files.make_folder(self._owner(owner).parent)
        files.write_json(self._owner(owner), {**content, "at": self._clock()}, durable=False)
        self._owner(owner).with_suffix(".unheard").unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            os.utime(self._owner(owner).with_suffix(".lock"))  # in use: not for `prune`

    def last_beat(self, owner: str) -> dict[str, Any] | None:
        """Newest heartbeat of a dispatcher."""
        content: dict[str, Any] | None = files.peek_json(self._owner(owner))
        return content

    def _owner(self, owner: str) -> Path:
        return self.root / "owners" / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', owner)}.json"

    def unheard(self, owner: str) -> float:
        """Since when it is known that an owner has no heartbeat: noted down by whoever finds that out first."""
        path = self._owner(owner).with_suffix(".unheard")
        files.create_json(path, {"at": self._clock()})
        return float((files.peek_json(path) or {"at": self._clock()})["at"])

    def lease(self, owner: str) -> AbstractContextManager[int]:
        """Held, by any number of an owner's threads, while it submits or waits: a stopped process still holds it."""
        return files.locked(self._owner(owner).with_suffix(".lock"), timeout_s=LEASE_S, shared=True)

    def leased(self, owner: str) -> bool:
        """Whether a process of `owner` lives, by the word of the disk's lock manager."""
        path = self._owner(owner).with_suffix(".lock")
        if not path.exists():
            return False
        try:
            with files.locked(path, timeout_s=0):
                return False
        except OSError:  # TimeoutError: it is held. Anything else: nobody can tell
            return True

    def silence(self, owner: str, beside: str) -> float:
        """Seconds of the disk's own clock between the last heartbeats of two owners; hosts' clocks may differ."""
        stamps = []
        for name in (beside, owner):
            try:
                stamps.append(os.stat(self._owner(name)).st_mtime)
            except OSError:
                return 0.0
        return stamps[0] - stamps[1]

    # -- markers
    def marker(self, entry: Entry) -> dict[str, Any] | None:
        """The node's marker of the newest attempt, if it is there and, for a result, certifies what is on disk."""
        folder = self.folder(entry.key)
        marker: dict[str, Any] | None = files.peek_json(folder / f"marker-{entry.attempt.number}.json")
        if marker is None or marker["state"] != "done":
            return marker
        result = runner.read_result(folder)
        return marker if result is not None and result.file_sha256 == marker["result_sha256"] else None

    def starts(self, key: str) -> list[dict[str, Any]]:
        """Start and stop records that the node left."""
        return files.read_lines(self.folder(key) / "starts.jsonl")

    # -- retention
    def prunable(self, older_than_s: float) -> list[Path]:
        """Ended jobs, their submissions and unused code older than `older_than_s`; nothing is touched."""
        limit = self._clock() - older_than_s
        found: list[Path] = []
        kept_tokens, kept_code = set(), set()
        for folder in sorted((self.root / "jobs").glob("*/*")):
            content = files.peek_json(folder / "journal.json")
            if content is None or (content["state"] != "live" and (content["ended"] or 0.0) < limit):
                if content is not None or folder.stat().st_mtime < limit:
                    found.append(folder)
                continue
            kept_tokens |= {one["token"] for one in content["attempts"]}
            kept_code.add(Path(content["code"]["folder"]).name)
        for parent, kept in (("submissions", kept_tokens), ("code", kept_code), ("owners", set())):
            for path in sorted((self.root / parent).iterdir()):
                if path.name not in kept and path.stat().st_mtime < limit:
                    found.append(path)
        return found

    def prune(self, older_than_s: float) -> list[Path]:
        """Remove what is `prunable`; returns what went."""
        with self.lock():
            removed = self.prunable(older_than_s)
            for path in removed:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        return removed


def _holder(path: Path) -> str:
    """Who signed a lock, in words."""
    found = files.peek_json(path)
    if not isinstance(found, dict):
        return "another process"
    since = time.strftime("%H:%M:%S", time.localtime(found["at"]))
    return f"{found['who'] or 'a process'}, pid {found['pid']} on {found['host']}, since {since} of its clock"
