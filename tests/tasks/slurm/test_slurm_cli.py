"""The command line over the journal, and the worker's job script."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from dispatch_lab import Lab

from tasks.slurm import __main__ as cli
from tasks.slurm import listing
from tasks.slurm.dispatcher import JobSpec

TEMPLATES = Path(__file__).resolve().parents[3] / "slurm_templates"


def test_dry_run_prints_the_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["dry-run", "--profile", "a100", "--stage", "evaluate", "--name", "audit", "--root", str(tmp_path)]
    assert cli.main(arguments) == 0
    out = capsys.readouterr().out
    assert "#SBATCH --time=02:00:00" in out
    assert "--gres" not in out
    assert cli.main([*arguments, "--array", "5"]) == 0
    assert "#SBATCH --array=0-4%5" in capsys.readouterr().out


def test_a_wrong_profile_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["dry-run", "--profile", "a1000", "--root", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_live_jobs_are_listed(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    lab.dispatcher().submit([JobSpec("fold-01", "slurm_jobs:echo", {"n": 1})])
    assert cli.main(["jobs", "--root", str(lab.folder / "root")]) == 0
    out = capsys.readouterr().out
    header, row = (line.split("\t") for line in out.splitlines())
    assert dict(zip(header, row, strict=True)) | {"waited_s": "", "folder": ""} == {
        "name": "fold-01", "attempt": "1", "slurm_id": "1", "state": "-", "why": "-", "starts": "-", "waited_s": "",
        "elapsed_s": "0", "gpu_hours": "0.0", "folder": "",
    }  # fmt: skip


def test_a_live_job_says_what_it_waits_for_and_when_the_site_expects_it(lab: Lab) -> None:
    dispatcher = lab.dispatcher()
    jobs = dispatcher.submit([JobSpec(f"fold-{n}", "slurm_jobs:echo", {"n": n}) for n in (1, 2)])
    lab.fake.set("1", "PENDING", reason="PartitionTimeLimit")
    lab.fake.set("2", "RUNNING")
    lab.clock.now += 100
    first, second = listing.live(dispatcher.journal, lab.clock, lambda profile: dispatcher)
    rows = {row["name"]: row for row in (first, second)}
    assert rows["fold-1"]["state"] == "PENDING"
    assert rows["fold-1"]["why"] == "PartitionTimeLimit: no job may have that much time there: lower time"
    assert rows["fold-1"]["starts"] is not None
    assert rows["fold-1"]["waited_s"] == pytest.approx(100, abs=2)
    assert (rows["fold-2"]["state"], rows["fold-2"]["why"]) == ("RUNNING", "")
    dispatcher.cancel(jobs)


def test_ended_jobs_are_listed_with_what_they_took_and_the_sum(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    lab.when(lab.has("1"), lab.runs("1"))
    lab.when(lab.has("2"), lab.runs("2"))
    lab.outcomes([JobSpec(f"fold-{n}", "slurm_jobs:nap", {"n": n, "seconds": 0.4}) for n in (1, 2)])
    assert cli.main(["jobs", "--ended", "1", "--root", str(lab.folder / "root"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["state"] for row in told["jobs"]] == ["done", "done"]
    hours = [row["gpu_hours"] for row in told["jobs"]]
    assert told["total"]["elapsed_s"] == pytest.approx(sum(row["elapsed_s"] for row in told["jobs"]))
    assert told["total"]["elapsed_s"] >= 0.8
    assert told["total"]["gpu_hours"] == pytest.approx(sum(hours))
    assert told["total"]["gpu_energy_wh"] is None  # no counter here, and none is made up
    assert cli.main(["jobs", "--ended", "1", "--root", str(lab.folder / "root")]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("2 jobs\t")


def test_prune_says_what_it_would_remove_and_removes_it_when_told(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    lab.outcomes([JobSpec("fold-01", "slurm_jobs:echo", {"n": 1})], stop=lambda: True)
    root = lab.folder / "root"
    (folder,) = (root / "submissions").iterdir()
    (folder / "big").write_bytes(b"x" * 3_000_000)
    elsewhere = root / "kept"
    elsewhere.hardlink_to(folder / "big")  # as a run's folder holds a checkpoint of its job
    (folder / "log").write_bytes(b"x" * 1_000_000)
    arguments = ["prune", "--days", "-1", "--root", str(root)]

    assert cli.main(arguments) == 0
    told = capsys.readouterr().out
    assert told.startswith("size\tfolder\n")
    assert "nothing is removed yet" in told
    assert str(folder) in told
    assert folder.exists()
    assert cli.main([*arguments, "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    held = {row["folder"]: row["bytes"] for row in first["folders"]}
    assert 1_000_000 <= held[str(folder)] < 1_200_000  # what the disk gets back, not what has another name
    assert first["bytes"] == sum(held.values())

    assert cli.main([*arguments, "--yes"]) == 0
    assert "removed" in capsys.readouterr().out
    assert not list((root / "submissions").iterdir())
    assert elsewhere.stat().st_size == 3_000_000


@pytest.mark.parametrize("script", sorted(TEMPLATES.glob("**/*.s*")), ids=lambda path: path.name)
def test_every_script_is_valid_shell(script: Path) -> None:
    done = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_try_runs_one_job_and_says_what_it_found(quick_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["try", "--profile", "local", "--root", str(quick_folder / "root")]) == 0
    out = capsys.readouterr().out
    assert '"python"' in out
    assert "done try" in out
