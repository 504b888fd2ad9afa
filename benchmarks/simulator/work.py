"""The job function that a simulated node runs: works for a while, saves, stops when asked, fails as its plan says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.simulator.world import World

STEP_S = 6.0


class Interrupted(RuntimeError):
    """Asked to stop."""

    job_cause = "interrupted"


class NonFinite(ArithmeticError):
    """As a training that diverged raises it."""

    job_cause = "nan_loss"


@dataclass
class Stage:
    """Where the work is done; set anew for each history."""

    world: World = None  # type: ignore[assignment]
    watch: Any = None  # watchman.Watchman: told when work begins and ends


STAGE = Stage()


def work(arguments: dict[str, Any], context: Any) -> dict[str, Any]:
    """Goes on from the step that an earlier run saved."""
    saved = context.folder / "steps"
    done = len(saved.read_bytes()) if saved.exists() else 0
    STAGE.watch.begins(context)
    try:
        while done * STEP_S < arguments["seconds"]:
            STAGE.world.sleep(STEP_S)
            done += 1
            saved.write_bytes(b"x" * done)
            if context.should_stop():
                raise Interrupted("asked to stop")
            context.progress(done=done)
        if arguments["does"] == "bug":
            raise KeyError("a bug in the job")
        if arguments["does"] == "unprintable":
            raise RuntimeError("bad name \udc80 in the data")
        if arguments["does"] == "nan" and context.adjustments["lr_factor"] == 1.0:
            raise NonFinite("loss is NaN")
    finally:
        STAGE.watch.stops(context)
    return {"steps": done}
