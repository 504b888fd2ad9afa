"""`gated run` and `gated up`: a study from the command line to its verdict, in a house that is up or in one for it."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from deployments import server
from deployments.asking import Job, check, job_for, make_corpus, planned, shortened
from deployments.house import House, house
from deployments.server import Address
from deployments.telling import Terminal
from tasks.terminal import STOPPED, Json, near

if TYPE_CHECKING:
    from deployments.watching import Watcher

DEFAULT = "denoise"
Corpus = Annotated[
    str, typer.Option("--corpus", envvar="GATED_CORPUS", show_default=False, help="The data; empty: the study's own.")
]
Port = Annotated[
    int, typer.Option("--port", envvar="GATED_PORT", help="Of server and web page; 0: the one that is yours.")
]


def run(
    what: Annotated[str, typer.Argument(help="A study, or one deployment: panel-qa/audit.")] = DEFAULT,
    corpus: Corpus = "",
    plan: Annotated[str, typer.Option("--plan", help="The plan as JSON, over the form's defaults.")] = "{}",
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="One field of it: gates.psnr_mean_min=60; again for another.")
    ] = None,
    epochs: Annotated[
        int, typer.Option("--epochs", min=0, show_default=False, help="End every training of a main job after so many.")
    ] = 0,
    port: Port = 0,
    as_json: Json = False,
) -> int:
    """Run a study's main job, or one deployment, and follow it: one line a step, then the verdict.

    A house that is up (gated up) is used; else one is started, and stopped at the end. A refused run is followed into
    its fallback. Ctrl-C withdraws the run; the same command goes on from what was kept. Exit codes: 0 shipped or done,
    1 refused, 2 input that cannot be used, 3 ended without a verdict.
    """
    job = job_for(what, corpus, planned(plan, changes or ()))
    if epochs:
        job = shortened(job, epochs)
    taken = check(job)
    from deployments.following import main_job  # Prefect takes a second: not before a wrong call was refused

    terminal = Terminal(as_json=as_json)
    if taken:
        terminal.say(taken)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    watcher: list[Watcher] = []
    own = True
    try:
        with _a_house(job, port, terminal) as (address, between, own):
            return main_job(job, address, terminal, between, watcher)
    except KeyboardInterrupt:
        _stopped(terminal, watcher, own)
        return STOPPED


def up(corpus: Corpus = "", port: Port = 0, as_json: Json = False) -> None:
    """Server, web page and every study's deployments, until Ctrl-C. What dies is started again."""
    if (other := server.standing(server.home())) is not None:
        raise ValueError(f"a house is up already: {other.page}; use it (gated run does), or end it with Ctrl-C first")
    job = job_for(DEFAULT, corpus, {})
    terminal = Terminal(as_json=as_json)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with _own_house(job, port, terminal) as running:
        key, shell = running.home / server.KEY, running.home / server.SHELL
        terminal.say(f"UI: {running.address.page}   # asks once for a password: the line in {near(key)}")
        terminal.say(f"source {near(shell)}   # in a second terminal; then: gated run, or prefect deployment run …")
        if as_json:
            print(json.dumps({"ui": running.address.page, "key": str(key), "environment": str(shell)}), flush=True)
        try:
            while True:
                time.sleep(1)
                running.mend()
        except KeyboardInterrupt:
            terminal.say("stopping")


@contextmanager
def _own_house(job: Job, port: int, terminal: Terminal) -> Iterator[House]:
    terminal.status("bringing up the Prefect server and the deployments")
    wanted = port or server.own_port()
    with house(job.asked.corpus, wanted, terminal.event, lambda: make_corpus(job, terminal.say)) as running:
        terminal.status("")
        try:
            yield running
        finally:
            terminal.status("")


@contextmanager
def _a_house(job: Job, port: int, terminal: Terminal) -> Iterator[tuple[Address, Callable[[], object], bool]]:
    """(address, what to call now and then, whether the house is this command's own)."""
    if (found := server.standing(server.home())) is not None:
        terminal.say(f"In the house that is up: {found.page}")
        make_corpus(job, terminal.say)
        yield found, lambda: None, False
        return
    with _own_house(job, port, terminal) as running:
        terminal.say(f"UI: {running.address.page}")
        yield running.address, running.mend, True
        running.settle()


def _stopped(terminal: Terminal, seen: list[Watcher], own: bool) -> None:
    """What was kept, and how to go on."""
    if not own:
        terminal.say("no longer watching; the run goes on in its house: see it in the web page, or cancel it there")
        return
    done, moving = (seen[0].done, seen[0].moving) if seen else ([], "")
    kept = f"kept: {', '.join(dict.fromkeys(done))}" if done else "kept: nothing had ended yet"
    under_way = f"; under way was {moving}" if moving else ""
    terminal.say(f"stopped; the run and its jobs were withdrawn. {kept}{under_way}")
    terminal.say("The same command goes on: ended jobs are reused, a training starts from its last epoch.")
