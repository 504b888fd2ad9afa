"""Where the heads of the logs are told outside of the folder that holds them, so that a cut or a new chain shows.

`GATED_ANCHOR` names the place: a file (lines are only ever added; default: in the user's state folder, which no run
writes), or `git:REPO`, whose branch `gated-anchors` gets a commit each, ready to be pushed elsewhere. Every line is
signed with the key of whoever wrote it, and names the line before it. Where a site has a time stamp authority
(`GATED_TSA`), its token for the head stands in the line.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
import socket
import subprocess
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from study_core.errors import BadInput
from study_core.files import PRIVATE_FILE, encode, make_folder, parse_json
from tasks import house_chain, signing, timestamp
from tasks.audit_log import LOG, parsed
from tasks.provenance import artifacts_root
from tasks.signing import PublicKey

BRANCH = "refs/heads/gated-anchors"
PREDICATE = "gated/audit-log-head/v1"
REMOVED = "removed"  # kind of a head that says: this log was removed on purpose
GIT = "git"  # instead of a hash: the commit itself names the one before it
_EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
_LATER = ("id", "host", "stamp")  # lines of old have none
_TRIES = 20  # of writers at the same branch
_AUTHOR = {f"GIT_{role}_{what}": text for role in ("AUTHOR", "COMMITTER")
           for what, text in (("NAME", "gated"), ("EMAIL", "gated@localhost"))}  # fmt: skip


@dataclass(frozen=True)
class Anchor:
    """One head of one log, as it was told."""

    house: str  # the artifacts folder that the log belongs to
    folder: str  # the log's own, below it
    log: str  # SHA-256 of the log's first record: the log's name, wherever it is moved
    seq: int
    sha256: str
    kind: str  # of the record: opened, evidence, closed …
    time: str
    id: str = ""  # the house's name, wherever it is moved; empty: from before houses had one
    host: str = ""
    stamp: str = ""  # a time stamp authority's token for `sha256`, base64

    @property
    def key(self) -> str:
        """Which house: two at one place are two, one that was moved is one."""
        return self.id or self.house

    @property
    def place(self) -> Path:
        """Where the log lay when this was told."""
        return Path(self.house) / self.folder

    @property
    def token(self) -> bytes:
        """The time stamp as bytes; empty where there is none that can be read."""
        try:
            return base64.b64decode(self.stamp, validate=True)
        except ValueError:
            return b"no base64"


@dataclass(frozen=True)
class Told:
    """Every anchor of a place that somebody believed signed; what is wrong with others, and who else tells there."""

    anchors: tuple[Anchor, ...]
    problems: tuple[str, ...]
    place: str
    strangers: tuple[str, ...] = ()


def place(named: str = "") -> str:
    """Where heads are told: a file's path, or `git:REPO`."""
    named = named or os.environ.get("GATED_ANCHOR", "")
    if named:
        return named if named.startswith("git:") else str(Path(named).expanduser())
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return str(Path(state).expanduser() / "gated" / "anchors.jsonl")


def tell(anchor: Anchor) -> None:
    """Add one head. Raises BadInput where the place cannot be written."""
    where = place()
    try:
        if where.startswith("git:"):
            _commit(Path(where.removeprefix("git:")).expanduser(), _line(anchor, GIT))
        else:
            _append(Path(where), lambda before: _line(anchor, before))
    except (OSError, subprocess.SubprocessError) as error:
        remedy = "name a file elsewhere, or git:REPOSITORY, by GATED_ANCHOR"
        raise BadInput(f"heads of logs cannot be told there ({_said(error)})", file=where, remedy=remedy) from None


def tell_head(folder: Path, record: Mapping[str, Any]) -> bytes:
    """Tell the last record of the log in `folder`; its time stamp where a site has one, else nothing.

    A place or an authority that fails now costs a warning: the work is done.
    """
    head = stamped(head_of(folder, record))
    try:
        tell(head)
    except BadInput as error:
        warnings.warn(f"{folder / LOG}: line {record['seq'] + 1} was told nowhere else: {error}", stacklevel=2)
    return head.token


def stamped(anchor: Anchor) -> Anchor:
    """The head with a time stamp authority's token, where a site has one; without it and a warning where that fails."""
    if not timestamp.asked():
        return anchor
    try:
        return replace(anchor, stamp=base64.b64encode(timestamp.ask(anchor.sha256)).decode())
    except (OSError, ValueError) as error:
        warnings.warn(f"{anchor.folder}: {anchor.kind} has no time stamp ({_said(error)})", stacklevel=2)
        return anchor


def head_of(folder: Path, record: Mapping[str, Any]) -> Anchor:
    """A record of the log in `folder` as a head to be told."""
    folder = folder.resolve()
    root = artifacts_root()
    house = root if folder.is_relative_to(root) else folder.parent
    with open(folder / LOG, "rb") as log:
        (first,) = parsed(log.readline())
    if first is None:
        raise BadInput("line 1 is no record", file=folder / LOG, remedy="see what happened to it: gated verify")
    name = house_chain.named(house) if house == root else house_chain.known(house)
    return Anchor(
        house=str(house), folder=folder.relative_to(house).as_posix(), log=first["sha256"], seq=record["seq"],
        sha256=record["sha256"], kind=record["kind"], time=record["time"], id=name, host=socket.gethostname(),
    )  # fmt: skip


def told(believed: Sequence[PublicKey], named: str = "") -> Told:
    """Every head that was told, here or at the place that is named. Raises BadInput where it cannot be read."""
    where = place(named)
    if named and not where.startswith("git:") and not Path(where).exists():
        raise BadInput("no heads of logs were told there", file=where, remedy="name the file that GATED_ANCHOR named")
    try:
        lines = _commits(Path(where.removeprefix("git:")).expanduser()) if where.startswith("git:") else _lines(where)
    except (OSError, subprocess.SubprocessError) as error:
        raise BadInput(
            f"heads of logs cannot be read there ({_said(error)})", file=where, remedy="mend it, or name another place"
        ) from None
    anchors, problems, strangers, before = [], [], [], ""
    for number, line in enumerate(lines, start=1):
        try:
            signed = signing.opened(parse_json(line), believed)
            anchor, named = _read(signed)
            if signed.stranger:
                strangers.append(f"line {number}: {signed.problem}")
            elif signed.problem:
                raise ValueError(signed.problem)
            else:
                anchors.append(anchor)
            if named not in (GIT, _sha256(before)):
                problems.append(f"line {number}: does not follow the line before it (dropped, inserted or reordered)")
        except ValueError as error:
            problems.append(f"line {number}: {error}")
        before = line
    return Told(tuple(anchors), tuple(problems), where, tuple(strangers))


def _line(anchor: Anchor, before: str) -> str:
    """The signed line; `before` is the hash of the line that it follows."""
    subject = {"name": f"{anchor.folder}#{anchor.seq}", "digest": {"sha256": anchor.sha256}}
    body = {"_type": "https://in-toto.io/Statement/v1", "predicateType": PREDICATE, "subject": [subject],
            "predicate": {**asdict(anchor), "before": before}}  # fmt: skip
    return encode(signing.sign(body)).decode()


def _read(signed: signing.Signed) -> tuple[Anchor, str]:
    """What a line says, and the line that it names as the one before it."""
    try:
        given: Mapping[str, Any] = signed.statement["predicate"]
        texts = {field.name: str(given.get(field.name, "") if field.name in _LATER else given[field.name])
                 for field in fields(Anchor)}  # fmt: skip
        return Anchor(**{**texts, "seq": int(given["seq"])}), str(given["before"])  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError):
        raise ValueError(signed.problem or "not the head of a log") from None


def _sha256(line: str) -> str:
    return hashlib.sha256(line.encode()).hexdigest() if line else ""


def _append(path: Path, made: Callable[[str], str]) -> None:
    make_folder(path.parent)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, PRIVATE_FILE)
    with os.fdopen(descriptor, "ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        lines = _lines(str(path))
        torn = lines and not path.read_bytes().endswith(b"\n")  # its writer was killed
        line = made(_sha256(lines[-1] if lines else ""))
        stream.write((b"\n" if torn else b"") + line.encode() + b"\n")
        stream.flush()
        os.fsync(stream.fileno())


def _lines(where: str) -> list[str]:
    path = Path(where)
    return [line for line in path.read_text("utf-8", "replace").split("\n") if line] if path.exists() else []


def _commit(repository: Path, line: str) -> None:
    """A commit on the branch, whose message is the line; nothing of the working tree is touched."""
    _git(repository, "hash-object", "-t", "tree", "-w", "/dev/null")
    for _ in range(_TRIES):
        parent = _tip(repository)
        made = _git(repository, "commit-tree", _EMPTY_TREE, *(["-p", parent] if parent else []), given=line).strip()
        try:
            _git(repository, "update-ref", BRANCH, made, parent or "0" * len(made))
            return
        except subprocess.CalledProcessError:
            if _tip(repository) == parent:
                raise  # nobody else was faster: the branch cannot be written
    raise OSError(f"{repository}: {BRANCH} moved {_TRIES} times")


def _tip(repository: Path) -> str:
    try:
        return _git(repository, "rev-parse", "--verify", "--quiet", BRANCH).strip()
    except subprocess.CalledProcessError as error:
        if error.returncode == 1:
            return ""
        raise


def _commits(repository: Path) -> list[str]:
    if not _tip(repository):
        return []
    return [line for line in _git(repository, "log", "--reverse", "--format=%B", BRANCH).split("\n") if line]


def _git(repository: Path, *words: str, given: str = "") -> str:
    command = ["git", "-C", str(repository), *words]
    environment = {**os.environ, **_AUTHOR}
    done = subprocess.run(
        command, input=given, capture_output=True, text=True, timeout=60, check=True, env=environment
    )  # fmt: skip
    return done.stdout


def _said(error: BaseException) -> str:
    text = str(getattr(error, "stderr", "") or error)
    return " ".join(text.split()) or type(error).__name__
