"""`~/.slurm/defaults`: a matter of the site is kept, what makes another job of a job is refused by its line."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import small_cluster
from dispatch_lab import Lab

from tasks.slurm import user_defaults
from tasks.slurm.dispatcher import Dispatcher
from tasks.slurm.profiles import load_profile
from tasks.slurm.specs import JobSpec

SCRIPT = "#!/bin/bash\n#SBATCH --job-name=a\n#SBATCH --nodes=1\nsrun --unbuffered --output /x python -m runner\n"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("account=lab\nmail-type=END\nnice=5\n", None),
        ("nodes=7\n", None),  # the script's own word wins
        ("# array=0-3\n\nsalloc:ntasks=4\n", None),
        ("array=0-3\n", "line 1: array=0-3"),
        ("account=lab\nsbatch:dependency=singleton\n", "line 2: dependency=singleton"),
        ("mini:sbatch:mem-per-cpu = 4G\n", "line 1: mem-per-cpu=4G"),
        ("srun:overlap=yes\n", "line 1: overlap=yes"),
    ],
)
def test_only_what_makes_another_job_is_refused(tmp_path: Path, text: str, named: str | None) -> None:
    file = tmp_path / "defaults"
    file.write_text(text)
    why = user_defaults.refusal(file, SCRIPT)
    assert (named in why and str(file) in why) if named else not why


@pytest.mark.parametrize(("plugins", "state"), [("user_defaults,lua", "failed"), ("lua", "done")])
def test_only_a_site_with_the_plugin_reads_the_file(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plugins: str, state: str
) -> None:
    (tmp_path / "defaults").write_text("array=0-3\n")
    monkeypatch.setattr(user_defaults, "path", lambda: tmp_path / "defaults")
    lab.fake.knob(config=f"CliFilterPlugins        = {plugins}\n")
    lab.when(lab.has("1"), lab.runs("1"))
    (outcome,) = lab.outcomes([JobSpec("echo", "slurm_jobs:echo")])
    assert outcome.state == state, outcome.message


@pytest.fixture
def defaults() -> Iterator[Path]:
    """The real file of this user, for a moment; a person's own is left alone."""
    file = user_defaults.path()
    if file.exists():
        pytest.skip(f"{file} belongs to a person")
    made = not file.parent.exists()
    file.parent.mkdir(exist_ok=True)
    try:
        yield file
    finally:
        file.unlink(missing_ok=True)
        if made:
            file.parent.rmdir()


@pytest.mark.slurm
def test_the_plugin_adds_what_is_the_sites_and_nothing_else(tmp_path: Path, defaults: Path) -> None:
    with small_cluster(tmp_path, "CliFilterPlugins=cli_filter/user_defaults"):
        door = Dispatcher(load_profile("slurm-dev"), tmp_path / "root")
        defaults.write_text("nice=7\nsbatch:array=0-3\n")
        (refused,) = door.wait(door.submit([JobSpec("refused", "slurm_jobs:echo")]))
        assert refused.state == "failed"
        assert f"{defaults} would add" in refused.message
        assert "line 2: array=0-3" in refused.message
        assert not _squeue("%i")
        defaults.write_text("nice=7\n")
        (job,) = door.submit([JobSpec("kept", "slurm_jobs:nap", {"seconds": 4})])
        assert _squeue("%y") == ["7"]
        assert [one.state for one in door.wait([job])] == ["done"]


def _squeue(field: str) -> list[str]:
    return subprocess.run(["squeue", "-h", "-o", field], capture_output=True, text=True, check=True).stdout.split()
