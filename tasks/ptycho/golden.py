"""The reference of later runs: a manifest becomes it only by a person's word, asked for in the UI."""

from __future__ import annotations

import asyncio
from uuid import uuid4

from prefect.input import RunInput
from pydantic import Field

from ptycho_core.check_loss import promote_reference
from study_core.files import sha256_of
from tasks import artifacts, sign_off
from tasks.ptycho.steps import Study
from tasks.run import Run


class Blessing(RunInput):
    """A person's decision, asked for in the UI."""

    name: str = Field(title="Your name", pattern=r"\S")
    bless: bool = Field(False, title="Make this run the reference of later ones")
    note: str = Field("", title="What you looked at")


def ask(run: Run, study: Study, sentence: str) -> str:
    """Pause until somebody answers; what came of it, in words."""
    hours = study.plan.approval.timeout_hours
    run.event("paused", f"Waiting up to {hours:g} h for a person to bless the reference", hours=hours)
    artifacts.publish_trail(run)
    question = (
        f"**{run.name}**: {sentence}.\n\nReport: among the artifacts, `{run.key('report')}`; as a file, "
        f"`{run.folder / 'report.html'}`\n\nShall later trainings be held to this run's?"
    )
    asked = Blessing.with_initial_data(description=question)
    decision = asyncio.run(sign_off.answer(asked, hours * 3600, key=f"bless-{uuid4().hex[:8]}"))
    if decision is None:
        return f"nobody answered within {hours:g} h, the reference stays"
    run.event("signed", f"{decision.name}: {'bless' if decision.bless else 'do not bless'}", **decision.model_dump())
    if not decision.bless:
        return f"{decision.name} did not bless it, the reference stays"
    layout = study.layout
    note = decision.note.strip() or f"blessed in run {run.name}"
    reference = promote_reference(layout.training_manifest, layout.reference_manifest, by=decision.name, note=note)
    run.event("reference", f"Reference: {reference}", sha256=sha256_of(reference))
    return f"blessed by {decision.name}"
