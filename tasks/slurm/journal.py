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
import hashlib
import os
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tasks.slurm import files, results
from tasks.slurm.entries import Entry, Submission
from tasks.slurm.specs import Job, JobSpec

LOCK_S = 3600.0  # longer than any sbatch: whoever holds it by then is stopped, or on a machine that is


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
        return self.folder(entry.key) / results.cancel_request([one.__dict__ for one in entry.attempts])

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

    # -- markers
    def marker(self, entry: Entry) -> dict[str, Any] | None:
        """The node's marker of the newest attempt, if it is there and, for a result, certifies what is on disk."""
        folder = self.folder(entry.key)
        marker: dict[str, Any] | None = files.peek_json(folder / f"marker-{entry.attempt.number}.json")
        if marker is None or marker["state"] != "done":
            return marker
        result = results.read_result(folder)
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
