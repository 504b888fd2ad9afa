"""Mends taken back, one at a time: after how many histories does the simulator find each?

Two tables. `GUARDS`: what the dispatcher has always done against doubles, losses and false verdicts, each made
ineffective. `BY_KIND`: the kinds of fault that trials on real sites showed, each with the behaviour from before its
mend. A kind that the shipped code does not stand yet (`plan.UNMENDED`) is its own mutant: its faults are let in, and
nothing is patched. An entry without `patch` for a kind that was mended cannot be taken back from outside,
and is reported so; so is a patch that no longer fits the code.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from benchmarks.simulator import flows
from benchmarks.simulator.history import run
from benchmarks.simulator.plan import UNMENDED, draw
from tasks.slurm import (
    commands,
    ending,
    files,
    journal,
    owners,
    placing,
    poller,
    ranks,
    results,
    runner,
    tracking,
    waiting,
)  # fmt: skip
from tasks.slurm.scheduler import Answer, Memory, Reply, View
from tasks.slurm.states import HISTORY_FIELDS, Listing, Meaning, Row, Verdict, read_history, read_queue

Patch = Callable[[], AbstractContextManager[object]]
UNFIT = ("AttributeError", "TypeError", "NameError", "KeyError")


@contextlib.contextmanager
def _put(holder: Any, name: str, value: Any) -> Iterator[None]:
    old = getattr(holder, name)
    setattr(holder, name, value)
    try:
        yield
    finally:
        setattr(holder, name, old)


def _patch(holder: Any, name: str, make: Callable[[Any], Any]) -> Patch:
    """A patch whose new value is made from the value that is there."""
    return lambda: _put(holder, name, make(getattr(holder, name)))


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One mend taken back; `kind` is that of the fault it was a mend of, 0 for a guard that was always there."""

    name: str
    patch: Patch | None = None
    kind: int = 0


# -- guards
def _raw_marker(self: Any, entry: Any) -> Any:
    return files.peek_json(self.folder(entry.key) / f"marker-{entry.attempt.number}.json")


def _hasty_result(self: Any, entry: Any) -> Any:
    if self._journal.marker(entry) is None:
        return None
    found = results.read_result(self._journal.folder(entry.key))
    return found.value if found else None


def _empty_when_down(renew: Any) -> Any:
    def mutant(self: Any, state: dict[str, Any]) -> None:
        renew(self, state)
        text = files.peek_json(self._folder / "queue.json") or {}
        if text.get("tried", 0.0) > text.get("at", 0.0):
            files.write_json(self._folder / "queue.json", {**text, "at": text["tried"], "text": ""}, durable=False)

    return mutant


def _settled_is_ended(meaning: Any) -> Any:
    return lambda text: (
        Meaning(Verdict.ENDED, found.cause) if (found := meaning(text)).verdict is Verdict.SETTLING else found
    )


def _always_whole(read: Callable[[str], Listing]) -> Callable[[str], Listing]:
    return lambda text: dataclasses.replace(read(text), whole=True)


GUARDS = (
    Mutant("two Slurm jobs may claim one attempt", _patch(runner._Run, "claim", lambda _: lambda self: True)),
    Mutant("a run that was superseded goes on", _patch(runner._Run, "superseded", lambda _: lambda self: None)),
    Mutant("a doubtful sbatch is lost at once", _patch(placing.Placer, "_surely_lost", lambda _: lambda *_: True)),
    Mutant("sbatch's own reply file is not read", _patch(poller.Slurm, "recall", lambda _: lambda self, submission: (
        Answer(Reply.DOUBTFUL) if submission.reply.exists() else None))),
    Mutant("a doubt counts as never ordered", _patch(poller.Slurm, "recall", lambda _: lambda self, submission: None)),
    Mutant("a squeue that fails is an empty queue", _patch(poller.Slurm, "_renew", _empty_when_down)),
    Mutant("a cut listing is whole", _patch(poller, "read_queue", _always_whole)),
    Mutant("a marker counts without its result", _patch(journal.Journal, "marker", lambda _: _raw_marker)),
    Mutant("an NFS client's memory of absence is believed", _patch(ending.Ender, "result", lambda _: _hasty_result)),
    Mutant("a result without marker is not certified", _patch(ending.Ender, "certify", lambda _: lambda *_: False)),
    Mutant("an owner is dead to every sweep", _patch(owners.Owners, "dead", lambda _: lambda *_: True)),
    Mutant("a cancellation is asked for once", _patch(tracking.Tracker, "_insist", lambda _: lambda *_: None)),
    Mutant("a job that Slurm is about to put back has ended", _patch(tracking, "meaning", _settled_is_ended)),
)  # fmt: skip


# -- kinds, as they were before their mends
def _observer_raises(view: Any) -> Any:
    def mutant(self: Any, submissions: Any) -> View | None:
        probe = Path(self._folder) / "probe.json"
        files.write_json(probe, {}, durable=False)
        found: View | None = view(self, submissions)
        return found

    return mutant


def _all_or_nothing(read: Callable[[str], Listing], fields: int) -> Callable[[str], Listing]:
    def mutant(text: str) -> Listing:
        listing = read(text)
        strange = [line for line in text.splitlines() if line.count("|") < fields - 1 or "+" in line.split("|")[0]]
        return dataclasses.replace(listing, whole=listing.whole and not strange)

    return mutant


def _window(wants: dict[str, float], _now: float) -> list[str]:
    """Accounting asked for everything since, as before the questions named their jobs."""
    return ["sacct", "-n", "-P", "-o", ",".join(HISTORY_FIELDS), "-u", "0", "-S", str(min(wants.values()))]


def _any_word(_: Any) -> Callable[[Any], Answer]:
    never = ("invalid", "not available", "unrecognized option", "permission denied", "unable to run sbatch")
    later = ("submitjobperuserlimit", "violates accounting/qos policy", "authentication")

    def mutant(done: Any) -> Answer:
        job_id = commands.submitted_id(done.out)
        if job_id:
            return Answer(Reply.ACCEPTED, job_id)
        text = done.err.strip() or done.out.strip() or f"sbatch ended with {done.status}"
        for words, reply in ((later, Reply.LATER), (never, Reply.REJECTED)):
            if done.status and any(word in text.lower() for word in words):
                return Answer(reply, text=text)
        return Answer(Reply.DOUBTFUL, text=text)

    return mutant


def _unwritable_text(write: Any) -> Any:
    """Of a text that is no UTF-8 nothing is written: neither the marker nor the record of the stop."""

    def mutant(self: Any, *words: Any, **fields: Any) -> None:
        for text in (*words, *fields.values()):
            if isinstance(text, str):
                text.encode()
        write(self, *words, **fields)

    return mutant


def _leaky(run_it: Any) -> Any:
    def mutant(self: Any, arguments: Any) -> Any:
        subprocess, os = vars(commands)["subprocess"], vars(commands)["os"]  # the simulated ones
        done = subprocess.run(
            list(arguments), capture_output=True, text=True, timeout=20.0, check=False, env=dict(os.environ)
        )
        return commands.Exit(done.returncode, done.stdout, done.stderr)

    return mutant


def _absence_is_loss(missing: Any) -> Any:
    def mutant(self: Any, watch: Any, entry: Any, job_id: str, view: Any, memory: Memory, known_at: float) -> None:
        if view is None or view.at <= known_at or not view.whole:
            return
        watch.missing_since = watch.missing_since or view.at
        if view.at - watch.missing_since >= self._profile.vanish_seconds and not memory.rows:
            self._conclude(entry, Row(job_id, entry.attempt.token, "MISSING"), "vanished", job_id)
            return
        missing(self, watch, entry, job_id, view, memory, known_at)

    return mutant


def _clocks_judge(_: Any) -> Any:
    def mutant(self: Any, owner: str, grace_s: float) -> bool:
        beat = self.last_beat(owner)
        return beat is None or self._clock() - beat["at"] > max(grace_s, 120.0)

    return mutant


@contextlib.contextmanager
def _both(*patches: AbstractContextManager[object]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for one in patches:
            stack.enter_context(one)
        yield


def _unchecked_nodes(profile: Any, nodes: int) -> Any:
    stages = {name: one.model_copy(update={"nodes": nodes}) for name, one in profile.stages.items()}
    return profile.model_copy(update={"stages": stages})


BY_KIND = (
    Mutant("an observer's error ends the flow", _patch(poller.Slurm, "view", _observer_raises), 1),
    Mutant(
        "one strange row voids the queue", _patch(poller, "read_queue", lambda r: _all_or_nothing(read_queue, 7)), 2
    ),
    Mutant(
        "one strange row voids accounting",
        lambda: _both(_put(poller, "read_history", _all_or_nothing(read_history, 10)),
                      _put(poller, "sacct_arguments", _window)),
        2,
    ),
    Mutant("a failed launch waits for somebody", _patch(waiting.Waiter, "_launch_again", lambda _: lambda *_: None), 3),
    Mutant("no bound on orders, no pause", lambda: _both(_put(placing, "MOST_ORDERS", 10**9),
           _put(placing, "MOST_DOUBT_S", 0.0)), 3),
    Mutant("refusals judged by any word", _patch(poller, "answer", _any_word), 4),
    Mutant("two runners under one id", lambda: _both(_put(flows, "_on_nodes", _unchecked_nodes),
           _put(ranks, "own", lambda: 0)), 5),
    Mutant("a text that cannot be written", lambda: _both(
        _put(runner, "_bounded", str),
        _put(runner._Run, "mark", _unwritable_text(runner._Run.mark)),
        _put(runner._Run, "record", _unwritable_text(runner._Run.record))), 6),
    Mutant("the environment reaches the reads", _patch(commands.Programs, "run", _leaky), 7),
    Mutant("absence read as loss", _patch(tracking.Tracker, "_missing", _absence_is_loss), 9),
    Mutant("life judged by clocks", _patch(owners.Owners, "dead", _clocks_judge), 10),
)  # fmt: skip


def hunt(mutant: Mutant, histories: int, seed: int) -> dict[str, Any]:
    """Histories until the mutant is found: number, seed, invariant; or that it was not, or does not fit the code."""
    shipped = mutant.kind in UNMENDED
    row: dict[str, Any] = {"kind": mutant.kind, "mutant": mutant.name, "how": "as shipped" if shipped else "patched"}
    if mutant.patch is None and not shipped:
        return {**row, "found": None, "why": "cannot be taken back from outside"}
    patch = None if shipped else mutant.patch
    begun = time.monotonic()
    for number in range(histories):
        told = run(draw(seed + number, frozenset({mutant.kind})), patch)
        if told.violations:
            first = told.violations[0]
            if patch is not None and any(word in first.text for word in UNFIT):
                return {**row, "found": None, "why": f"no longer fits the code: {first.text}"}
            took = round(time.monotonic() - begun, 1)
            return {**row, "found": number + 1, "seed": seed + number, "why": f"{first.kind}: {first.text}", "s": took}
    return {**row, "found": None, "why": f"not found in {histories} histories"}


def table(histories: int, seed: int, *, as_json: bool = False) -> int:
    """Print a line a mutant; 1 when one was not found."""
    rows: list[dict[str, Any]] = []
    for mutant in (*BY_KIND, *GUARDS):
        if mutant.kind in UNMENDED and mutant.kind in [row["kind"] for row in rows]:
            continue  # as shipped: one hunt a kind
        row = hunt(mutant, histories, seed)
        rows.append(row)
        if not as_json:
            why = str(row["why"]).replace("\n", " / ")[:110]
            print(
                f"{row['kind'] or '':>4} {row['mutant']:<50} {row['how']:<10} {row['found'] or '-':>6}  {why}",
                flush=True,
            )
    if as_json:
        print(json.dumps(rows))
    return int(any(row["found"] is None for row in rows))
