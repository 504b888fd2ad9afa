"""What a person reads of a watched run: when, which step, how it ended; nothing of the events' ids."""

from __future__ import annotations

import re
from typing import Any

from deployments.watching import Watched, progress, step_of

RUN, ARTIFACT = "26ccfcad-4471-4959-a6e6-7cc413bb3219", "4a9016ca-d5da-4377-8525-97748b45555c"
PRINTED = f"""\
Creating flow run for deployment 'panel-qa/audit'...
Created flow run 'legendary-jackdaw'.
└── UUID: {RUN}
└── Parameters: {{'plan': {{}}}}
└── URL: http://127.0.0.1:51281/runs/flow-run/{RUN}
● 10:49:39.681 7cc413bb3219 prefect.flow-run.Pending * legendary-jackdaw
●         .716 7cc413bb3219 prefect.flow-run.Submitting * legendary-jackdaw
●      :41.519 7cc413bb3219 prefect.flow-run.Running * audit-2026-11-21
●         .569 7cc413bb3219 prefect.flow-run.heartbeat * audit-2026-11-21
●         .638 7c73f3fd4ca2 prefect.task-run.Pending * job-ba7
●         .643 7c73f3fd4ca2 prefect.task-run.Running * audit-panel
●         .977 7cc413bb3219 prefect.artifact-collection.created * panel-qa-progress-audit-panel
●      :42.011 7cc413bb3219 prefect.artifact.updated * prefect.artifact.{ARTIFACT}
●         .573 dc6e8053573d prefect.task-run.Completed * audit-panel
●         .594 7cc413bb3219 prefect.flow-run.GateFailed * audit-2026-11-21
Flow run finished in state 'GateFailed'.
"""
SAID = "state RUNNING, node g1, attempt 1, slurm_id 4711, done 2, total 5, elapsed_s 3.1"
MOVED = {"type": "progress", "key": "panel-qa-progress-audit-panel", "data": 40.0, "description": SAID}


def watched(printed: str) -> tuple[str, list[str], list[str], list[str]]:
    """(the run's id, lines said, texts of the status line, artifacts asked for)."""
    said: list[str] = []
    moved: list[str] = []
    asked: list[str] = []

    def artifact(identifier: str) -> dict[str, Any]:
        asked.append(identifier)
        return MOVED

    follower = Watched(said.append, moved.append, artifact)
    follower.follow(printed.splitlines(keepends=True))
    return follower.identifier, said, moved, asked


def test_every_line_has_a_time_a_step_and_a_state_and_nothing_else() -> None:
    identifier, said, _, _ = watched(PRINTED)
    assert identifier == RUN
    told = [re.fullmatch(r"(\d\d:\d\d:\d\d)  (\S.*\S) +(\w+)", line) for line in said]
    assert [line and (line[2], line[3]) for line in told] == [
        ("audit-2026-11-21", "Running"),
        ("audit-panel", "Completed"),
        ("audit-2026-11-21", "GateFailed"),
    ]


def test_the_status_line_says_how_far_the_job_is() -> None:
    _, _, moved, asked = watched(PRINTED)
    assert [text for text in moved if text] == ["audit-panel", "audit-panel: 40 %, done 2, total 5"]
    assert moved[-1] == "", "a step that ended moves no more"
    assert asked == [ARTIFACT]


def test_a_table_moves_nothing() -> None:
    assert progress({"type": "table", "key": "x", "data": "[]", "description": None}) == ""
    assert progress({}) == ""  # the server was busy


def test_an_error_of_the_command_is_shown_as_it_is() -> None:
    _, said, _, _ = watched("Validation failed for field 'plan.top_k'\n\n")
    assert said == ["Validation failed for field 'plan.top_k'"]
    assert step_of("Validation failed for field 'plan.top_k'") is None
