"""A person's sign-off: asked for in the UI, given or refused by name, and not waited for without end."""

from __future__ import annotations

import asyncio
from typing import TypeVar
from uuid import uuid4

from prefect.flow_runs import apause_flow_run
from prefect.input import RunInput
from pydantic import Field

from study_core.verdict import Verdict
from tasks import artifacts, blessings
from tasks.run import Run

A = TypeVar("A", bound=RunInput)


class SignOff(RunInput):
    """A person's decision, asked for in the UI."""

    name: str = Field(title="Your name", pattern=r"\S")
    ship: bool = Field(False, title="Ship this model")
    comment: str = Field("", title="Why")


def ask(run: Run, verdict: Verdict, hours: float) -> SignOff | None:
    """Pause until a person answers in the UI; None when nobody did in time."""
    run.event("paused", f"Waiting up to {hours:g} h for a person's sign-off", hours=hours)
    artifacts.publish_trail(run)
    current = blessings.production(run.registry, run.channel)
    question = (
        f"**{run.name}**: {verdict.sentence()}.\n\n"
        f"Report: among the artifacts, `{run.key('report')}`; as a file, `{run.folder / 'report.html'}`\n\n"
        f"In production now, in channel {run.channel or blessings.DEFAULT}: "
        f"{f'{current.id}, which it would replace' if current else 'nothing'}."
    )
    asked = SignOff.with_initial_data(description=question)
    # A pause of one key fires once in the life of a run, and a retry by hand has to ask again.
    decision = asyncio.run(answer(asked, hours * 3600, key=f"sign-off-{uuid4().hex[:8]}"))
    if decision is None:
        return None
    said = "ship" if decision.ship else "do not ship"
    run.event("signed", f"{decision.name}: {said}", name=decision.name, ship=decision.ship, comment=decision.comment)
    return decision


async def answer(asked: type[A], seconds: float, key: str) -> A | None:
    """What a person answers in the UI, None when nobody did in time.

    It stops waiting before the server does, which ends an expired pause as a plain `Failed`, whatever the run says.
    """
    asking = apause_flow_run(wait_for_input=asked, timeout=int(seconds) + 600, poll_interval=3, key=key)
    try:
        return await asyncio.wait_for(asking, seconds)
    except TimeoutError:
        return None
