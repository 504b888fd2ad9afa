"""One look at the queue for every flow process of a user: a shared snapshot under a lock.

Whoever finds the snapshot too old renews it with one `squeue` for all jobs; everybody else reads the file. `sacct` is
asked only about jobs that the queue no longer shows, in one call for everybody. Budget: a squeue at most every
`FLOOR_S`, a sacct at most every `MEMORY_S`: under 20 read commands a minute however many jobs and processes there are.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from tasks.slurm import files, user_defaults
from tasks.slurm.clocks import age
from tasks.slurm.commands import Commands, Programs, submitted_id
from tasks.slurm.entries import Submission
from tasks.slurm.replies import answer
from tasks.slurm.scheduler import Answer, Controller, Memory, Reply, View
from tasks.slurm.shared import Shared, log
from tasks.slurm.states import HISTORY_FIELDS, QUEUE_FORMAT, Row, parse_time, read_history, read_queue

FLOOR_S = 4.0
MEMORY_S = 20.0
ABSENT_S = 600.0  # how long "this site has no accounting" is believed
FORGET_S = 3600.0
QUESTION_S = 600.0  # a question that nobody repeats is dropped: its job has ended otherwise
MOST_QUESTIONS = 200  # in one sacct: a command line has an end
SILENT_S, COMPLAIN_S = 60.0, 1800.0  # a queue that gives no answer for so long is told about, and again after
MAX_ARRAY_SIZE = 1001  # slurm.conf's own default
FORMAT = "3"  # of the shared files; processes of another version share others


def poll_folder() -> Path:
    """Folder shared by this user's processes on this machine, one a cluster and format; GATED_POLL_DIR moves it.

    Which cluster answers is a matter of SLURM_CONF, or of the programs that PATH finds.
    """
    chosen, own = os.environ.get("GATED_POLL_DIR"), f"gated-poll-{os.getuid()}"
    base = Path(chosen) if chosen else Path(os.devnull) / own  # nowhere: each process asks for itself
    answers = f"{FORMAT} {os.environ.get('SLURM_CONF', '')} {shutil.which('squeue')}"
    cluster = hashlib.sha256(answers.encode()).hexdigest()[:8]
    try:
        base = base if chosen else Path(tempfile.gettempdir()) / own  # raises where no disk has any room
        files.make_folder(base)
        if base.lstat().st_uid != os.getuid():
            log.warning("%s belongs to another user; set GATED_POLL_DIR. This process asks the scheduler alone", base)
            base = Path(tempfile.mkdtemp(prefix="gated-poll-"))
    except OSError as error:  # a full or missing disk: `Shared` tells it, and does without
        log.warning("%s: %s", base, error.strerror or error)
    return base / cluster


class _Queue:
    """The shared snapshot as this process last parsed it: once for all its threads."""

    def __init__(self, path: Path) -> None:
        self.shared, self._lock = Shared(path.parent, path.name), threading.Lock()
        self._view: View | None = None

    def state(self) -> dict[str, Any]:
        """The shared content: when it was asked, when it was last tried, squeue's text."""
        with self._lock:
            return self.shared.read()

    def view(self) -> View | None:
        """The parsed text; None before the first answer."""
        state = self.state()
        if "at" not in state:
            return None
        with self._lock:
            if self._view is None or self._view.at != state["at"]:
                listing = read_queue(state["text"])
                self._view = View.of(state["at"], listing.rows, listing.whole)
            return self._view


_queue = functools.cache(lambda folder: _Queue(folder / "queue.json"))


class Slurm:
    """The real scheduler, or a fake one through `commands`."""

    def __init__(
        self,
        commands: Commands | None = None,
        *,
        folder: Path | None = None,
        clock: Callable[[], float] = time.time,
        poll_seconds: float = 4.0,
        floor_seconds: float = FLOOR_S,
        memory_seconds: float = MEMORY_S,
        accounting: bool = True,
    ) -> None:
        self.commands: Commands = commands or Programs()
        self._folder = folder or poll_folder()
        self._history, self._config = Shared(self._folder, "history.json"), Shared(self._folder, "config.json")
        self._clock, self._defaults = clock, user_defaults.path()
        self._poll, self._floor, self._memory = poll_seconds, min(floor_seconds, poll_seconds), memory_seconds
        self._accounting = accounting
        self._began, self._complained = clock(), float("-inf")

    # -- writing
    def order(self, submission: Submission, environment: dict[str, str], lock: int) -> Answer:
        """One sbatch, unless the user's own defaults would make another job of it."""
        why = user_defaults.refusal(self._defaults, submission.script.read_text(encoding="utf-8"))
        if why and user_defaults.PLUGIN in self._configuration().get("CliFilterPlugins", ""):
            return Answer(Reply.REJECTED, text=why, gist=why)
        return answer(self.commands.sbatch(submission.script, submission.reply, environment, lock))

    def recall(self, submission: Submission) -> Answer | None:
        """What a finished sbatch left in the reply file; None where sbatch was never started."""
        if not submission.reply.exists():
            return None
        found = submitted_id(submission.reply.read_text(errors="replace"))
        if found:
            return Answer(Reply.ACCEPTED, found)
        return Answer(Reply.DOUBTFUL, text="sbatch left no answer")

    def cancel(self, ids: Sequence[str]) -> None:
        """scancel in batches that fit a command line."""
        for start in range(0, len(ids), 500):
            self.commands.run(["scancel", *ids[start : start + 500]])

    def release(self, slurm_id: str) -> None:
        """A job that runs or is gone by now needs none: the next look tells."""
        self.commands.run(["scontrol", "release", slurm_id])

    def exclude(self, slurm_id: str, nodes: Sequence[str]) -> bool:
        """Slurm refuses it for a job that runs (again)."""
        asked = ["scontrol", "update", f"JobId={slurm_id}", f"ExcNodeList={','.join(nodes)}"]
        return self.commands.run(asked).status == 0

    def log(self, submission: Submission, index: int, slurm_id: str) -> Path:
        """As the script names it."""
        return submission.log(index, slurm_id.partition("_")[0])

    # -- reading
    def view(self, submissions: Iterable[Submission]) -> View | None:
        """The shared snapshot, renewed first when it is older than the poll interval."""
        queue = _queue(self._folder)
        if self._due(queue.state()):
            with queue.shared.turn() as mine:
                state = queue.state()  # somebody may have renewed it while we took the lock
                if mine and self._due(state):
                    self._renew(dict(state))
        self._complain(queue.state())
        return queue.view()

    def _complain(self, state: dict[str, Any]) -> None:
        """Tell, once in a while, that nothing is known of the queue, in Slurm's words."""
        now = self._clock()
        if not (text := state.get("error")) or age(now, state.get("at", self._began)) < SILENT_S:
            return
        if now - self._complained >= COMPLAIN_S:
            self._complained = now
            log.warning("squeue: %s; what is live goes on, and is asked for again", text)

    def _due(self, state: dict[str, Any]) -> bool:
        now = self._clock()
        asked, tried = float(state.get("at", 0.0)), float(state.get("tried", 0.0))
        return age(now, asked) > self._poll and age(now, tried) >= self._floor

    def _renew(self, state: dict[str, Any]) -> None:
        started = self._clock()
        done = self.commands.run(["squeue", "-h", "-r", "-t", "all", "-u", str(os.getuid()), "-o", QUEUE_FORMAT])
        state["tried"] = started
        if done.status == 0:
            state.update(at=started, text=done.out, error="")
        else:
            state["error"] = done.err[-500:].strip() or f"squeue ended with {done.status}"
        _queue(self._folder).shared.write(state)

    def remember(self, what: Sequence[str], since: float) -> dict[str, Memory]:
        """Rows of the accounting for ids and names; questions of all processes travel in one sacct."""
        if not self._accounting:
            return {one: Memory(absent=True) for one in what}
        with self._history.turn() as mine:
            if mine:
                state = dict(self._history.read())
                self._ask(state, what, since)
                self._history.write(state)
        state = self._history.read()
        absent = age(self._clock(), state.get("absent", float("-inf"))) < ABSENT_S
        answers = state.get("answers", {})
        return {one: _memory(answers.get(one), absent) for one in what}

    def _ask(self, state: dict[str, Any], what: Sequence[str], since: float) -> None:
        """Note the questions; once it is time, put those about ids, or those about names, in one sacct."""
        now = self._clock()
        wants: dict[str, Any] = {one: dict(want) for one, want in state.get("wants", {}).items()}
        for one in what:
            wants.setdefault(one, {"since": since})["asked"] = now
        wants = {
            one: want for one, want in wants.items() if age(now, want["asked"]) < QUESTION_S
        }  # nobody asks any more
        answers = {one: known for one, known in state.get("answers", {}).items() if age(now, known["at"]) <= FORGET_S}
        state.update(wants=wants, answers=answers)
        waited = age(now, state.get("tried", float("-inf")))
        if not wants or waited < self._memory or age(now, state.get("absent", float("-inf"))) < ABSENT_S:
            return
        state["tried"] = now
        chosen = self._chosen(state, wants)
        done = self.commands.run(sacct_arguments(chosen, now))
        if done.status == 0:
            listing = read_history(done.out)
            if listing.whole:
                for one in chosen:
                    found = [row.__dict__ for row in listing.rows.values() if one in (row.id, row.name)]
                    beside = {
                        row.name for row in listing.rows.values() if row.id != one and _base(row.id) == _base(one)
                    }
                    answers[one] = {"at": now, "rows": found, "siblings": sorted(beside)}
                    del wants[one]
        elif "accounting storage is disabled" in done.err:
            state["absent"] = now

    def _chosen(self, state: dict[str, Any], wants: dict[str, Any]) -> dict[str, float]:
        """Questions of one kind, for sacct takes ids or names: by turns, where there are both."""
        kinds = {by_id: [one for one in wants if _is_id(one) is by_id] for by_id in (True, False)}
        by_id = not state.get("by_id", False) if all(kinds.values()) else bool(kinds[True])
        state["by_id"] = by_id
        return {one: wants[one]["since"] for one in kinds[by_id][:MOST_QUESTIONS]}

    def controller(self) -> Controller | None:
        """From `scontrol show config`."""
        found = self._configuration()
        began, keeps = parse_time(found.get("BOOT_TIME", "")), found.get("MinJobAge", "").partition(" ")[0]
        return Controller(began, float(keeps)) if began is not None and keeps.isdigit() else None

    def _configuration(self) -> dict[str, str]:
        """The controller's settings; empty where it cannot be reached."""
        done = self.commands.run(["scontrol", "show", "config"])
        pairs = [line.partition("=") for line in done.out.splitlines()] if done.status == 0 else []
        return {name.strip(): value.strip() for name, _, value in pairs}

    def cluster(self) -> str:
        """ClusterName."""
        return str(self._kept().get("cluster", ""))

    def max_array_size(self) -> int:
        """MaxArraySize of the cluster."""
        return int(self._kept().get("max_array_size", MAX_ARRAY_SIZE))

    def _kept(self) -> dict[str, Any]:
        """What never changes of the configuration: asked once and kept; empty while it cannot be asked."""
        known = self._config.read()
        if not known and (found := self._configuration()):
            size, name = int(found.get("MaxArraySize", MAX_ARRAY_SIZE)), found.get("ClusterName", "")
            known = {"max_array_size": size, "cluster": name}
            self._config.write(known)
        return known


def sacct_arguments(wants: dict[str, float], now: float) -> list[str]:
    """One sacct for these ids, or for these names since the oldest of them: never for a window of everything.

    That is told as an age: the hour of a local time may come twice.
    """
    asked = ["sacct", "-n", "-P", "-o", ",".join(HISTORY_FIELDS)]
    if all(map(_is_id, wants)):
        return [*asked, "-j", ",".join(sorted({_base(one) for one in wants}))]
    age_s = max(0.0, now - min(wants.values())) + 60
    return [*asked, "-u", str(os.getuid()), "-S", f"now-{age_s:.0f}seconds", f"--name={','.join(sorted(wants))}"]


def _is_id(one: str) -> bool:
    return one.replace("_", "").isdigit()


def _base(one: str) -> str:
    return one.partition("_")[0]


def _memory(known: dict[str, Any] | None, absent: bool) -> Memory:
    if known is None:
        return Memory(absent=absent)
    return Memory(tuple(Row(**row) for row in known["rows"]), known["at"], absent, tuple(known["siblings"]))
