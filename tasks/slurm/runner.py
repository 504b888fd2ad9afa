"""What runs on the node: verify the code, claim the job, call its function, leave result and marker. Standard library.

    python -P -m tasks.slurm.runner SUBMISSION_FOLDER [INDEX]

In the job's folder it writes, always by rename: `claim-N.json` (which Slurm job owns attempt N: a second one leaves at
once), `result.json`, then `marker-N.json` with the result's sha256 (the only thing that means "done"),
`progress.json`, `starts.jsonl` (one line a start, one a stop) and `usage.json`.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import traceback
import uuid
from pathlib import Path
from types import FrameType
from typing import Any

from tasks.slurm import faults, files, hosting, ranks, remedies, results, snapshot, surroundings
from tasks.slurm.usage import Sampler

PROGRESS_SECONDS = 1.0  # at most one progress file a second
LEASE_SECONDS = 5.0  # how often a running job looks whether it was superseded or cancelled
REQUEUE_PATIENCE_S = 30.0  # within the warning that a job has before its time limit
_UNREACHABLE = re.compile(r"contact|connect|timed out|zero bytes|unexpected message", re.IGNORECASE)
MESSAGE_TEXT, STOP_TEXT = 30_000, 4_000  # characters kept of a failure's text: half of its marker's, of its record's
STOPPED = 75  # exit status of an orderly stop (EX_TEMPFAIL of sysexits.h)


class Context:
    """What a job function sees of its run. `folder` persists over attempts; a checkpoint there is found again."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self.folder: Path = run.work
        self.adjustments: dict[str, Any] = dict(run.attempt["adjustments"])
        self.attempt: int = run.attempt["number"]
        self._fields: dict[str, Any] = {}
        self._written = 0.0
        self._untold = ""

    def should_stop(self) -> bool:
        """True once Slurm or a person asked to stop (SIGTERM, SIGUSR2 …) or another run took over: save and raise
        "interrupted".
        """
        return self._run.stop_reason() is not None

    def progress(self, **fields: Any) -> None:
        """Publish numbers such as epoch or loss; written at most once a second, the last ones always.

        What is no JSON, such as a number of numpy's, is shown as text.
        """
        plain = {name: isinstance(one, float) or not results.not_json(one) for name, one in fields.items()}
        self._fields.update({name: one if plain[name] else str(one) for name, one in fields.items()})
        if time.monotonic() - self._written >= PROGRESS_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what `progress` kept back; a disk that takes none of it ends no job."""
        if not self._fields:
            return
        value = {"at": time.time(), "attempt": self.attempt, "fields": self._fields}
        self._written = time.monotonic()
        try:
            files.write_json(self._run.folder / "progress.json", value, durable=False)
        except OSError as error:
            if (text := f"{error.filename}: {error.strerror}") != self._untold:
                print(f"runner: progress is not shown: {text}", file=sys.stderr, flush=True)
            self._untold = text


class Follower(Context):
    """What a further rank sees: the same folder and adjustments; its progress is not published."""

    def flush(self) -> None:
        """The first rank speaks for all."""


class Superseded(RuntimeError):
    """This run no longer owns the job."""

    job_cause = "interrupted"


class _Run:
    """One start of one attempt."""

    def __init__(self, submission: Path, index: int) -> None:
        order = files.peek_json(submission / "submission.json")
        member = order["members"][index]
        self.folder = Path(member["folder"])
        self.number: int = member["attempt"]
        self.entry: dict[str, Any] = files.peek_json(self.folder / "journal.json") or {}
        self.attempts: dict[int, dict[str, Any]] = {one["number"]: one for one in self.entry.get("attempts", [])}
        self.attempt: dict[str, Any] = self.attempts.get(self.number, {})
        self.work = self.folder / "work"
        self.job_id = surroundings.slurm_id()
        self.incarnation = uuid.uuid4().hex
        self.signal: str | None = None
        self._looked = time.monotonic()

    # -- may this run go on?
    def superseded(self) -> str | None:
        """Why this run must not touch the job, or None."""
        entry = files.peek_json(self.folder / "journal.json")
        if entry is None:  # or a shared disk believes so
            files.refresh(self.folder)
            entry = files.peek_json(self.folder / "journal.json")
        if not entry or not self.attempt:
            return "the job is no longer in the journal"
        if entry.get("cancel") or (self.folder / results.cancel_request(entry["attempts"])).exists():
            return "the job was cancelled"
        if entry.get("state", "live") != "live":  # a twin that the site accepted late, or scancel by hand and a requeue
            return f"the job ended as {entry['state']}"
        if entry["attempts"][-1]["number"] != self.number:
            return f"attempt {entry['attempts'][-1]['number']} has taken over"
        return None

    def claim(self) -> bool:
        """Own this attempt, for good: a second Slurm job of the same attempt gets False."""
        path = self.folder / f"claim-{self.number}.json"
        if files.create_json(path, {"slurm_id": self.job_id, "node": socket.gethostname(), "at": time.time()}):
            return True
        return bool((files.peek_json(path) or {}).get("slurm_id") == self.job_id)

    def stop_reason(self) -> str | None:
        """ "time_limit", "terminated" or "superseded" once the job shall stop."""
        if self.signal is None and time.monotonic() - self._looked > LEASE_SECONDS:
            self._looked = time.monotonic()
            with contextlib.suppress(OSError):  # a disk that cannot be read just now says nothing: look again later
                holder = files.peek_json(self.folder / "incarnation.json")
                if (holder and holder["id"] != self.incarnation) or self.superseded():
                    self.signal = "superseded"
        return self.signal

    # -- records
    def record(self, event: str, **fields: Any) -> None:
        """Append one line to starts.jsonl."""
        value = {
            "event": event,
            "attempt": self.number,
            "slurm_id": self.job_id,
            "node": surroundings.node_name(),
            "at": time.time(),
            "incarnation": self.incarnation,
            "pid": os.getpid(),
            **fields,
        }
        files.append_line(self.folder / "starts.jsonl", value)

    def mark(self, state: str, cause: str = "", message: str = "", digest: str = "") -> None:
        """Write the attempt's marker, unless a newer run of the same attempt took over meanwhile."""
        holder = files.peek_json(self.folder / "incarnation.json")
        if holder and holder["id"] != self.incarnation:
            return
        path = self.folder / f"marker-{self.number}.json"
        if state == "failed" and (files.peek_json(path) or {}).get("incarnation") == self.incarnation:
            return  # another rank failed first: what follows from it is no cause
        content = results.marker(self.number, state, cause, message, digest, self.job_id, surroundings.node_name())
        files.write_json(path, {"incarnation": self.incarnation, **content, "at": time.time()})


def run_job(submission: Path, index: int) -> int:
    """Run one member of a submission; the exit status for Slurm."""
    os.umask(0o077)
    rank = ranks.own()
    if rank and not ranks.distributed():
        return _leave(f"rank {rank} of a function that runs in one process")
    run = _Run(submission, index)
    if rank:
        return _follow(run)
    if files.peek_json(run.folder / f"marker-{run.number}.json"):
        return _leave("already finished")
    reason = run.superseded()
    if reason or not run.claim():
        return _leave(reason or "another Slurm job owns this attempt")
    files.make_folder(run.work)
    os.chdir(run.work)
    files.write_json(run.folder / "incarnation.json", {"id": run.incarnation, "start": ranks.start()})
    run.record("start", submitted=run.attempt.get("created"))
    finished = results.read_result(run.folder)
    if finished and finished.attempt in run.attempts:  # killed between result and marker
        return _finish(run, finished.file_sha256)
    _listen(run)
    sampler = Sampler(run.folder / "usage.json", float(run.entry.get("usage_seconds", 5.0))).start()
    context = Context(run)
    try:
        result = _call(run, context)
        digest = _keep(run, result)
    except BaseException as error:
        return _failed(run, error, context, sampler)
    context.flush()
    return _finish(run, digest, sampler.finish())


def _follow(run: _Run) -> int:
    """A further rank of a distributed function. The first one owns claim, result and marker; this one only computes.

    Its failure is told in the marker, for the first rank may see no more of it than a lost connection.
    """
    if not (leader := ranks.leader(run.folder)):
        return _leave("the first rank did not begin")
    run.incarnation = leader
    os.chdir(run.work)
    _listen(run)
    try:
        _call(run, Follower(run))
    except BaseException as error:
        cause, message = remedies.cause_of(error), _bounded("".join(traceback.format_exception(error)))
        print(message, file=sys.stderr, flush=True)
        if run.stop_reason() is not None and cause in ("exception", "interrupted"):
            return 0  # the first rank saves and says how it goes on
        run.mark("failed", cause, f"rank {ranks.own()}: {message}")
        return 1
    return 0


def _leave(reason: str) -> int:
    print(f"runner: {reason}; nothing to do", flush=True)
    return 0


def _call(run: _Run, context: Context) -> Any:
    code = run.entry["code"]
    snapshot.verify(Path(code["folder"]), code["sha256"])
    module_name, function_name = run.entry["spec"]["function"].split(":")
    module = importlib.import_module(module_name)
    origin = Path(str(module.__file__)).resolve()
    if not origin.is_relative_to(Path(code["folder"]).resolve()):
        raise snapshot.CodeChanged(f"{module_name} was imported from {origin}, not from the snapshot")
    spec, function = run.entry["spec"], getattr(module, function_name)
    call = {**spec["arguments"], **spec.get("places", {})}
    typed = sys.modules.get("study_core.job")  # imported by whoever takes a Request: others do without its pydantic
    return typed.perform(function, call, context) if typed else function(call, context)


def _keep(run: _Run, result: Any) -> str:
    if not isinstance(result, dict):
        raise TypeError(f"{run.entry['spec']['function']} returned {type(result).__name__}; expected a JSON dict")
    if place := results.not_json(result):
        raise ValueError(
            f"{run.entry['spec']['function']} returned {place}, which is no JSON: say None, or leave it out"
        )
    if run.superseded():
        raise Superseded("another attempt has taken over")
    content = results.result_bytes(result, run.number)
    files.write_bytes(run.folder / "result.json", content)
    faults.reach("result_written")
    return hashlib.sha256(content).hexdigest()


def _finish(run: _Run, digest: str, used: dict[str, Any] | None = None) -> int:
    run.record("stop", reason="done", usage=used)
    hosting.announce(run.folder)
    run.mark("done", digest=digest)
    faults.reach("marker_written")
    return 0


def _failed(run: _Run, error: BaseException, context: Context, sampler: Sampler) -> int:
    frames = error.__traceback__
    for _ in range(2):  # this module's own frames tell a reader nothing
        frames = frames.tb_next if frames is not None and frames.tb_next is not None else frames
    cause, message = remedies.cause_of(error), _bounded("".join(traceback.format_exception(type(error), error, frames)))
    context.flush()
    used = sampler.finish()
    if run.signal is not None and cause in ("exception", "interrupted"):
        print(f"runner: stopped in order ({run.signal}): {type(error).__name__}: {remedies.text_of(error)}", flush=True)
        run.record("stop", reason=run.signal, usage=used)
        return _stopped(run)
    print(message, file=sys.stderr, flush=True)
    run.record("stop", reason=cause, usage=used, message=message[-STOP_TEXT:])
    run.mark("failed", cause, message)
    return 1


def _bounded(message: str) -> str:
    """Beginning and end of a text that is too long to keep; what no database takes (NUL, half a surrogate) escaped."""
    message = message.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
    if len(message) <= 2 * MESSAGE_TEXT:
        return message
    left_out = len(message) - 2 * MESSAGE_TEXT
    return f"{message[:MESSAGE_TEXT]}\n[... {left_out} characters left out ...]\n{message[-MESSAGE_TEXT:]}"


def _stopped(run: _Run) -> int:
    """After an orderly stop. At the time limit the job asks for its own requeue, so that no flow has to be alive.

    SIGTERM alone needs nothing: Slurm requeues a preempted job, and one that was cancelled shall stay so.
    """
    if run.signal != "time_limit":
        return STOPPED
    stops = [line for line in files.read_lines(run.folder / "starts.jsonl") if line.get("reason") == "time_limit"]
    own = [line for line in stops if line["attempt"] == run.number]
    if len(own) <= remedies.TABLE["time_limit"].limit and _requeue():
        print("runner: requeued by itself at the time limit", flush=True)
    else:
        run.mark("failed", "time_limit", "the time limit came; the job saved its state and stopped")
    return STOPPED


def _requeue() -> bool:
    """Ask Slurm to put this job back; a controller out of reach (restarting, say) is asked again for a while."""
    job = os.environ.get("SLURM_JOB_ID")
    scontrol = shutil.which("scontrol")
    if not job or not scontrol:
        return False
    deadline = time.monotonic() + REQUEUE_PATIENCE_S
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            asked = subprocess.run(
                [scontrol, "requeue", job],
                capture_output=True,
                text=True,
                timeout=REQUEUE_PATIENCE_S,
                check=False,
                env=surroundings.commands_environment(),
            )
            if asked.returncode == 0 or not _UNREACHABLE.search(asked.stderr):
                return asked.returncode == 0
        if time.monotonic() > deadline:
            return False
        time.sleep(1)


def _listen(run: _Run) -> None:
    reasons = {signal.SIGTERM: "terminated", signal.SIGUSR2: "time_limit"}
    reasons |= dict.fromkeys((signal.SIGUSR1, signal.SIGHUP), "terminated")  # by hand, or a site's own warning

    def handler(number: int, _frame: FrameType | None) -> None:
        # a preemption may send USR2 first and TERM after it: the first one names the reason
        run.signal = run.signal or reasons[signal.Signals(number)]

    for number in reasons:
        signal.signal(number, handler)


def main(arguments: list[str]) -> int:
    """Entry point: submission folder, and the member's index (default: Slurm's array index, else 0)."""
    for stream in (sys.stdout, sys.stderr):  # whatever a job prints, in whatever locale, ends up in its log
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    index = int(arguments[1]) if len(arguments) > 1 else int(os.environ.get("SLURM_ARRAY_TASK_ID") or 0)
    os.environ.update(ranks.environment())
    return run_job(Path(arguments[0]), index)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
