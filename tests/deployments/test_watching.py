"""What a person reads of a followed run: when, which step, how it ended; how far a job is, and how long it takes.

The server is a script of answers here, in Prefect's own types; tests/flows follow real runs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from prefect.client.schemas.objects import FlowRun, State, StateType, TaskRun

from deployments.progress import Pace, duration, said
from deployments.watching import Ended, Watcher

START = datetime(2026, 11, 26, 10, 0, tzinfo=UTC)
RUN = uuid4()
PLUMBING = "state RUNNING, node g1, attempt 1, slurm_id 4711"
DESCRIPTION = f"{PLUMBING}, epoch 4, epochs 10, val_psnr_mean 43.2, best_epoch 3, elapsed_s 3.1"
WORDS = {"val_psnr_mean": "PSNR {} dB", "best_epoch": "best epoch {}"}


def state(kind: str, name: str = "", message: str = "", after: float = 0) -> State[Any]:
    kinds = StateType[kind]
    return State(
        type=kinds, name=name or kind.capitalize(), message=message, timestamp=START + timedelta(seconds=after)
    )


def step(name: str, now: State[Any], seconds: float = 0, number: int = 1) -> TaskRun:
    end = START + timedelta(seconds=seconds) if now.is_final() else None
    return TaskRun(
        id=UUID(int=number), name=name, task_key="job", dynamic_key="0", state=now, end_time=end,
        total_run_time=timedelta(seconds=seconds),
    )  # fmt: skip


def look(now: State[Any], steps: Sequence[TaskRun] = (), moved: dict[int, float] | None = None) -> dict[str, Any]:
    rows = [
        {"task_run_id": str(UUID(int=number)), "type": "progress", "data": percent, "description": DESCRIPTION}
        for number, percent in (moved or {}).items()
    ]
    return {"state": now, "steps": list(steps), "rows": rows}


class Script:
    """A client that gives one look after the other; an exception among them is raised."""

    def __init__(self, looks: Sequence[Any]) -> None:
        self._looks: Iterator[Any] = iter(looks)
        self._now: dict[str, Any] = {}

    def read_flow_run(self, run_id: UUID) -> FlowRun:
        now = next(self._looks)
        if isinstance(now, Exception):
            raise now
        self._now = now
        return FlowRun(id=run_id, flow_id=uuid4(), name="audit-2026-11-26", state=now["state"])

    def read_task_runs(self, *, limit: int, offset: int = 0, **_: Any) -> list[TaskRun]:
        steps: list[TaskRun] = self._now["steps"]
        return steps[offset : offset + limit]

    def request(self, method: str, path: str, **_: Any) -> Any:
        assert (method, path) == ("POST", "/artifacts/filter")
        return SimpleNamespace(json=lambda: self._now["rows"])


def followed(
    looks: Sequence[Any], folder: Path | None = None, **more: Any
) -> tuple[Ended, list[str], list[str], Watcher]:
    """(how it ended, lines said, texts of the moving line, the watcher)."""
    lines: list[str] = []
    moved: list[str] = []
    client: Any = Script(looks)
    watcher = Watcher(client, lines.append, moved.append, lambda _: folder, WORDS, pause=0.0, **more)
    return watcher.follow(str(RUN)), lines, moved, watcher


ENDED = state("FAILED", "GateFailed", "FAILED gate tail", 60)
WORKING = look(state("RUNNING"), [step("audit-panel", state("RUNNING"))], {1: 40.0})
LOOKS = [
    look(state("PENDING")),
    WORKING,
    look(state("RUNNING"), [step("audit-panel", state("COMPLETED", after=42), 42)]),
    look(ENDED, [step("audit-panel", state("COMPLETED", after=42), 42)]),
]


def test_every_line_has_a_time_a_step_and_a_state_and_stands_once() -> None:
    ended, lines, _, watcher = followed(LOOKS)
    assert ended == Ended(str(RUN), "audit-2026-11-26", "GateFailed", "FAILED", "FAILED gate tail")
    told = [re.fullmatch(r"(\d\d:\d\d:\d\d)  (\S+) +(\S.*)", line) for line in lines]
    assert [found and (found[2], found[3]) for found in told] == [
        ("audit-2026-11-26", "Running"),
        ("audit-panel", "Completed   42 s"),
        ("audit-2026-11-26", "GateFailed"),
    ]
    assert watcher.done == ["audit-panel"]


def test_the_moving_line_says_how_far_a_job_is_in_its_studys_words() -> None:
    _, _, moved, _ = followed(LOOKS)
    assert "audit-panel: 40 %, epoch 4 of 10, PSNR 43.2 dB, best epoch 3" in moved
    assert moved[-1] == "", "a run that ended moves no more"


def test_a_pipe_gets_progress_as_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployments.watching.ASIDE_S", 0.0)
    _, lines, _, _ = followed(LOOKS, aside=True)
    assert any("audit-panel: 40 %" in line for line in lines)
    assert not any("audit-panel: 40 %" in line for line in followed(LOOKS)[1])


def test_a_server_that_is_away_is_asked_again() -> None:
    away = httpx.ConnectError("refused")
    ended, lines, _, _ = followed([LOOKS[0], away, away, *LOOKS[1:]])
    assert ended.state == "GateFailed"
    assert len([line for line in lines if "does not answer" in line]) == 1


def test_a_server_that_refuses_is_no_server_that_is_away() -> None:
    request = httpx.Request("GET", "http://127.0.0.1/api")
    refused = httpx.HTTPStatusError("401", request=request, response=httpx.Response(401, request=request))
    with pytest.raises(httpx.HTTPStatusError):
        followed([LOOKS[0], refused])


def test_a_run_that_waits_says_for_what() -> None:
    waits = look(state("PAUSED", "Paused"))
    _, lines, _, _ = followed([look(state("SCHEDULED", "Late")), waits, waits, look(state("COMPLETED"))])
    assert len([line for line in lines if f"waits for a person: /runs/flow-run/{RUN}" in line]) == 1
    assert len([line for line in lines if "waits for its turn" in line]) == 1


def test_what_the_audit_log_says_was_reused_and_shipped_is_told_once(tmp_path: Path) -> None:
    records = [
        {"kind": "opened", "text": "Starting", "data": {}},
        {"kind": "job-reused", "text": "train-god_run: reused", "data": {}},
        {"kind": "shipped", "text": "Shipped 20261126-ab", "data": {"replaces": "20261101-cd"}},
    ]
    rows = [json.dumps({"time": START.isoformat(), **record}) for record in records]
    (tmp_path / "audit.jsonl").write_text("\n".join(rows) + '\n{"kind": "ship')  # the last is being written
    _, lines, _, _ = followed(LOOKS, tmp_path)
    told = [line.partition("  ")[2] for line in lines]
    assert told.count("train-god_run: reused") == 1
    assert told.count("Shipped 20261126-ab, in place of 20261101-cd") == 1
    assert "Starting" not in told


def test_a_campaign_of_more_steps_than_a_page_is_told_whole() -> None:
    done = [step(f"step-{n}", state("COMPLETED", after=n), n, number=n) for n in range(1, 451)]
    _, lines, _, watcher = followed([look(state("RUNNING"), done), look(state("COMPLETED"), done)])
    assert watcher.done == [f"step-{n}" for n in range(1, 451)]  # in the order of their ends
    assert len(lines) == 452


def test_time_left_follows_from_what_was_seen_of_it() -> None:
    """A training that went on from epoch 60 did not make 60 % in its first second."""
    now = [0.0]
    pace = Pace(lambda: now[0])
    assert pace.left(60) is None
    now[0] = 10.0
    assert pace.left(60) is None
    assert pace.left(70) == pytest.approx(30)
    now[0] = 15.0
    assert pace.left(70) == pytest.approx(25)  # it goes down between two epochs as well
    assert pace.left(10) is None, "another attempt begins anew"


def test_progress_without_figures_is_the_name() -> None:
    assert said("audit", None, Pace(), {}) == "audit"
    row = {"data": 40.0, "description": "done 2, total 5, stage denoise val"}
    assert said("audit", row, Pace(), {}) == "audit: 40 %, 2 of 5, stage denoise val"
    row = {"data": 4.0, "description": "done 13, total 300, loss 1.570458173751831, rate 3.0000000e-05, stage null"}
    assert said("train", row, Pace(), {}) == "train: 4 %, 13 of 300, loss 1.57, rate 3e-05"


@pytest.mark.parametrize(("seconds", "text"), [(4.4, "4 s"), (89, "89 s"), (600, "10 min"), (12_000, "3 h 20 min")])
def test_durations_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text
