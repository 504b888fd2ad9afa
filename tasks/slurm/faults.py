"""Named crash points: where tests kill a process with SIGKILL. Inert unless GATED_FAULT names the point.

The names are the steps between which a dispatch can die; `kill -9` at each of them must lose and duplicate nothing.
"""

from __future__ import annotations

import os
import signal

DISPATCHER_POINTS = ("before_intent", "after_intent", "during_sbatch", "after_sbatch", "waiting")
NODE_POINTS = ("result_written", "marker_written")
POINTS = DISPATCHER_POINTS + NODE_POINTS

VARIABLE = "GATED_FAULT"


def reach(point: str) -> None:
    """Kill this process if GATED_FAULT is `point`. A file named by GATED_FAULT_ONCE limits it to the first time."""
    if os.environ.get(VARIABLE) != point:
        return
    once = os.environ.get(f"{VARIABLE}_ONCE")
    if once:
        try:
            os.close(os.open(once, os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            return
    os.kill(os.getpid(), signal.SIGKILL)
