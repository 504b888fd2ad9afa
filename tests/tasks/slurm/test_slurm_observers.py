"""What stands beside the work never ends it: a shared poll folder, a disk that is full for a while, a listener."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from dispatch_lab import Lab

from tasks.slurm import files
from tasks.slurm.dispatcher import JobSpec
from tasks.slurm.poller import Slurm, poll_folder

ECHO = JobSpec("echo", "slurm_jobs:echo", {"n": 1})


def test_a_poll_folder_that_a_cleaner_removed_is_made_again(lab: Lab) -> None:
    poll = lab.folder / "poll"
    lab.when(lab.has("1"), lambda: shutil.rmtree(poll))
    lab.after(20, lambda: _assert((poll / "queue.json").exists()))
    lab.after(0, lab.runs("1"))
    (outcome,) = lab.outcomes([ECHO])
    assert outcome.state == "done"


def _assert(condition: bool) -> None:
    assert condition


@pytest.mark.parametrize("sacct", ["works", "absent"])
def test_without_a_poll_folder_a_process_asks_for_itself_and_says_so(
    lab: Lab, caplog: pytest.LogCaptureFixture, sacct: str
) -> None:
    poll = lab.folder / "poll"
    lab.fake.knob(sacct=sacct)

    def spoil() -> None:
        shutil.rmtree(poll)
        poll.write_text("a file in the folder's place: nothing can be made here, not even by root")

    lab.when(lab.has("1"), spoil)
    lab.after(60, lambda: lab.fake.set("1", "NODE_FAIL"))
    lab.when(lab.has("2"), lab.runs("2"))
    (outcome,) = lab.outcomes([ECHO])
    assert (outcome.state, outcome.attempts) == ("done", 2)
    assert str(poll) in caplog.text
    assert len([one for one in caplog.records if "asks the scheduler for itself" in one.message]) < 10
    calls = [call[0] for call in lab.fake.calls]
    assert calls.count("squeue") <= 40  # still no more than one every four seconds


def test_where_no_disk_has_room_for_a_poll_folder_the_queue_is_asked_all_the_same(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def gettempdir() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp', '/var/tmp']")

    monkeypatch.delenv("GATED_POLL_DIR", raising=False)
    monkeypatch.setattr(tempfile, "gettempdir", gettempdir)
    lab.dispatcher().submit([ECHO])
    view = Slurm(lab.fake, folder=poll_folder(), clock=lab.clock).view([])
    assert view is not None
    assert list(view.rows) == ["1"]
    assert "No usable temporary directory" in caplog.text


def test_a_poll_folder_of_somebody_else_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GATED_POLL_DIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    planted = tmp_path / f"gated-poll-{os.getuid()}"
    planted.symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    os.chown(planted, os.getuid(), -1, follow_symlinks=False)
    if os.getuid() == 0:
        os.chown(planted, 65534, -1, follow_symlinks=False)
        found = poll_folder()
        assert found.parent != planted
        assert found.parent.stat().st_mode & 0o077 == 0
    assert Slurm(folder=poll_folder()).remember([], 0.0) == {}


def test_a_full_disk_delays_the_wait_and_ends_nothing(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal cannot be written for a minute, while the job ends and its remedy is due."""
    real, full = files.write_json, []

    def write_json(path: Path, value: Any, **more: Any) -> None:
        if full and "journal" in path.name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        real(path, value, **more)

    monkeypatch.setattr(files, "write_json", write_json)
    lab.when(lab.has("1"), lambda: (full.append(1), lab.fake.set("1", "NODE_FAIL")))
    lab.after(60, full.clear)
    lab.when(lab.has("2"), lab.runs("2"))
    (outcome,) = lab.outcomes([ECHO])
    assert (outcome.state, outcome.attempts) == ("done", 2)
    assert "journal.json" in lab.told("trouble")[0]["text"]
    assert len(lab.told("trouble")) <= 2
    assert "CANCELLED" not in [job["state"] for job in lab.fake.jobs().values()]


def test_a_cancellation_on_a_full_disk_reaches_slurm_and_ends_no_flow(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing can be put on record for a minute: every job is told to end all the same, and each end is told once."""
    real, full, asked = files.write_json, [], []

    def write_json(path: Path, value: Any, **more: Any) -> None:
        if full and "journal" in path.name:
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), str(path))
        real(path, value, **more)

    monkeypatch.setattr(files, "write_json", write_json)
    lab.when(lab.has("2"), lambda: (full.append(1), asked.append(1)))
    lab.after(60, full.clear)
    outcomes = lab.outcomes([ECHO, JobSpec("other", "slurm_jobs:echo")], stop=lambda: bool(asked))
    assert [outcome.state for outcome in outcomes] == ["cancelled"] * 2
    assert {job["state"] for job in lab.fake.jobs().values()} == {"CANCELLED"}
    assert len([call for call in lab.fake.calls if call[0] == "scancel"]) < 12
    assert len(lab.told("cancelling")) <= 2
    assert "journal.json" in lab.told("trouble")[0]["text"]


@pytest.mark.parametrize("blocked", [True, False])
def test_progress_that_cannot_be_written_or_is_no_json_ends_no_job(lab: Lab, blocked: bool) -> None:
    dispatcher, seen = lab.dispatcher(), []
    (job,) = dispatcher.submit([JobSpec("shows", "slurm_jobs:shows")])
    if blocked:
        (job.folder / "progress.json").mkdir()
    lab.when(lab.has("1"), lab.runs("1"))
    said: list[str] = []
    (outcome,) = dispatcher.wait(
        [job], on_progress=lambda job, fields: seen.append(fields), on_log=lambda job, text: said.append(text)
    )
    assert (outcome.state, outcome.attempts) == ("done", 1), outcome.message
    assert ("progress is not shown" in "".join(said)) == blocked
    assert blocked or (seen[-1]["where"], seen[-1]["parts"]) == (str(job.work), "{1, 2}")


def test_a_listener_that_fails_costs_its_line_alone(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: Any) -> None:
        raise ConnectionError("the server is away")

    lab.when(lab.has("1"), lab.runs("1"))
    dispatcher = lab.dispatcher(events=broken)
    spec = JobSpec("talker", "slurm_jobs:echo", {"lines": 2})
    (outcome,) = dispatcher.wait(dispatcher.submit([spec]), on_log=broken, on_progress=broken)
    assert outcome.state == "done"
    assert "the server is away" in caplog.text
