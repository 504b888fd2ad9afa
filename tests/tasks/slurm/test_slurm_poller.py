"""The shared view of the queue: few calls, however many processes wait and whatever fails."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from dispatch_lab import Lab

from tasks.slurm import states
from tasks.slurm.clocks import steady
from tasks.slurm.commands import Programs
from tasks.slurm.dispatcher import JobSpec
from tasks.slurm.poller import Slurm, sacct_arguments


def _pollers(lab: Lab, count: int, **settings: Any) -> list[Slurm]:
    return [Slurm(lab.fake, folder=lab.folder / "poll", clock=lab.clock, **settings) for _ in range(count)]


def _minute(lab: Lab, pollers: list[Slurm], *asked: str) -> dict[str, int]:
    """One minute in which every poller looks every second; programs started."""
    lab.fake.calls.clear()
    for _ in range(60):
        for poller in pollers:
            poller.view([])
            if asked:
                poller.remember(asked, lab.clock.now)
        lab.clock.now += 1.0
    names = [call[0] for call in lab.fake.calls]
    return {name: names.count(name) for name in ("squeue", "sacct")}


@pytest.mark.parametrize("processes", [1, 8])
@pytest.mark.parametrize("squeue", ["up", "down", "garbled"])
@pytest.mark.parametrize("sacct", ["works", "down", "forgets"])
def test_at_most_twenty_read_commands_a_minute(lab: Lab, processes: int, squeue: str, sacct: str) -> None:
    lab.dispatcher().submit([JobSpec("job", "slurm_jobs:echo")])
    lab.fake.knob(squeue=squeue, sacct=sacct)
    calls = _minute(lab, _pollers(lab, processes), "1", "another-name")
    assert 10 <= calls["squeue"] <= 16
    assert 1 <= calls["sacct"] <= 4
    assert sum(calls.values()) <= 20


def test_a_site_without_accounting_is_asked_once(lab: Lab) -> None:
    lab.fake.knob(sacct="absent")
    poller, other = _pollers(lab, 2)
    assert _minute(lab, [poller, other], "7")["sacct"] == 1
    assert poller.remember(["7"], 0.0)["7"].absent
    assert other.remember(["8"], 0.0)["8"].absent


def test_accounting_that_a_profile_rules_out_is_never_asked(lab: Lab) -> None:
    (poller,) = _pollers(lab, 1, accounting=False)
    assert poller.remember(["7"], 0.0)["7"].absent
    assert not lab.fake.calls


def test_questions_of_several_processes_travel_in_one_sacct(lab: Lab) -> None:
    for name in ("a", "b"):
        lab.dispatcher().submit([JobSpec(name, "slurm_jobs:echo", {"name": name})])
    pollers = _pollers(lab, 2)
    lab.clock.now += 60
    _minute(lab, pollers[:1], "1")
    lab.fake.calls.clear()
    pollers[0].remember(["1"], 0.0)
    pollers[1].remember(["2"], 0.0)
    lab.clock.now += 30
    found = pollers[1].remember(["1", "2"], 0.0)
    assert {key: memory.rows[0].id for key, memory in found.items()} == {"1": "1", "2": "2"}
    assert len([call for call in lab.fake.calls if call[0] == "sacct"]) <= 2


def test_the_text_of_the_questions() -> None:
    assert sacct_arguments({"4_3": 0.0, "4_7": 0.0, "9": 0.0}, 1.0)[-2:] == ["-j", "4,9"]
    by_name = sacct_arguments({"fold-02.ab": 86400.0, "fold-03.ab": 40.0}, 86500.0)
    assert by_name[-1] == "--name=fold-02.ab,fold-03.ab"
    assert by_name[-2] == "now-86520seconds"  # no local time: its hour may come twice


def test_ids_and_names_are_asked_by_turns(lab: Lab) -> None:
    (job,) = lab.dispatcher().submit([JobSpec("job", "slurm_jobs:echo")])
    (poller,) = _pollers(lab, 1)
    token = lab.fake.jobs()["1"]["name"]
    assert token.startswith("job.")
    assert job.name == "job"
    _minute(lab, [poller], "1", token)
    found = poller.remember(["1", token], 0.0)
    assert [found[one].rows[0].id for one in ("1", token)] == ["1", "1"]
    assert {"-j", "-S"} <= {word for call in lab.fake.calls for word in call}


def test_a_question_that_nobody_repeats_expires(lab: Lab) -> None:
    lab.fake.knob(sacct="down")
    (poller,) = _pollers(lab, 1)
    poller.remember(["7"], 0.0)
    lab.clock.now += 700
    lab.fake.calls.clear()
    poller.remember(["8"], 0.0)
    assert lab.fake.calls == [["sacct", *sacct_arguments({"8": 0.0}, 0.0)[1:]]]


def test_a_snapshot_left_half_written_by_a_killed_process_is_asked_anew(lab: Lab) -> None:
    (poller,) = _pollers(lab, 1)
    lab.dispatcher().submit([JobSpec("job", "slurm_jobs:echo")])
    (lab.folder / "poll").mkdir(exist_ok=True)
    (lab.folder / "poll" / "queue.json").write_text('{"at": 1')
    view = poller.view([])
    assert view is not None
    assert set(view.rows) == {"1"}


def test_what_a_process_of_an_older_version_left_there_is_not_read(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATED_POLL_DIR", str(tmp_path))
    lab.dispatcher().submit([JobSpec("job", "slurm_jobs:echo")])
    before = tmp_path / hashlib.sha256(os.environ.get("SLURM_CONF", "").encode()).hexdigest()[:8] / "history.json"
    before.parent.mkdir()
    old = {"answers": {"1": {"at": lab.clock.now, "rows": [], "siblings": 3}}}
    before.write_text(json.dumps(old))
    poller = Slurm(lab.fake, clock=lab.clock)
    for _ in range(30):
        found = poller.remember(["1"], lab.clock.now)["1"]
        lab.clock.now += 1.0
    assert [row.id for row in found.rows] == ["1"]
    assert json.loads(before.read_text()) == old


def test_the_size_of_arrays_is_asked_once_and_kept(lab: Lab) -> None:
    first, second = _pollers(lab, 2)
    assert first.max_array_size() == second.max_array_size() == 101
    assert len(lab.fake.calls) == 1
    assert json.loads(Path(lab.folder / "poll" / "config.json").read_text()) == {"max_array_size": 101, "cluster": ""}


def test_variables_of_the_shell_change_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real programs' door, with a program that prints what reaches it."""
    squeue = tmp_path / "squeue"
    squeue.write_text("#!/bin/sh\nenv\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("SLURM_CONF", "/etc/c")
    for name in (
        "SQUEUE_PARTITION",
        "SQUEUE_FORMAT",
        "SACCT_FORMAT",
        "SLURM_CLUSTERS",
        "SLURM_JOB_ID",
        "SERVICE_TOKEN",
    ):
        monkeypatch.setenv(name, "canary-5f1d")
    seen = Programs().run(["squeue"]).out
    assert "canary-5f1d" not in seen
    assert "SLURM_CONF=/etc/c" in seen
    assert "SLURM_TIME_FORMAT=%s" in seen
    assert "SLURM_BITSTR_LEN=0" in seen


def test_a_snapshot_is_read_alike_in_every_time_zone(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes share squeue's text; local times of one would be hours off for another, and twice in autumn."""
    assert [states.parse_time("1795827954")] * 2 == [_in_zone(zone, monkeypatch) for zone in ("UTC", "Asia/Tokyo")]


def _in_zone(zone: str, monkeypatch: pytest.MonkeyPatch) -> float | None:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        found = states.read_queue("7|RUNNING|g1|1795827954|1795827954|None|c|name\n").rows["7"].submitted
    time.tzset()
    return found


def test_a_queue_that_gives_no_answer_is_told_in_slurms_words(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    (poller,) = _pollers(lab, 1)
    poller.view([])
    lab.fake.knob(squeue="down")
    assert _minute(lab, [poller])["squeue"] > 1
    assert not caplog.records
    for _ in range(10):
        _minute(lab, [poller])
    (record,) = caplog.records
    assert "Unable to contact slurm controller" in record.getMessage()
    lab.fake.knob(squeue="up")
    _minute(lab, [poller])
    assert poller.view([]) is not None
    assert len(caplog.records) == 1


def test_a_clock_that_is_set_back_stops_nobody_from_looking(lab: Lab) -> None:
    lab.fake.knob(sacct="works")
    dispatcher = lab.dispatcher()
    dispatcher.submit([JobSpec("echo", "slurm_jobs:echo", {"n": 1})])
    before = dispatcher.scheduler.view([])
    dispatcher.scheduler.remember(["1"], lab.clock.now)
    assert before is not None
    lab.clock.now -= 3600
    lab.fake.set("1", "RUNNING", appears=0.0)
    after = dispatcher.scheduler.view([])
    assert after is not None
    assert after.rows["1"].state == "RUNNING"
    asked = len([call for call in lab.fake.calls if call[0] == "sacct"])
    dispatcher.scheduler.remember(["2"], lab.clock.now)
    assert len([call for call in lab.fake.calls if call[0] == "sacct"]) == asked + 1


def test_deadlines_keep_to_a_clock_that_nobody_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    before = steady()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert 0 <= steady() - before < 5
