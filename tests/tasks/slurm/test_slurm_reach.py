"""What a job's identity is made of: what its function can reach, and nothing else."""

from __future__ import annotations

import importlib.metadata
import os
import sys
import time
from pathlib import Path

import grimp
import pytest
from dispatch_lab import Lab

from tasks.slurm import dispatcher, snapshot
from tasks.slurm import reach as module
from tasks.slurm.dispatcher import JobSpec
from tasks.slurm.reach import reach

FILES = {
    "__init__.py": "",
    "jobs/__init__.py": "",
    "jobs/fit.py": "from reach_core.model import weights\n\n\ndef fit(arguments, context):\n    import numpy\n",
    "jobs/score.py": "import reach_core.metric\n\n\ndef score(arguments, context): ...\n",
    "model/__init__.py": "",
    "model/weights.py": "from study_core.errors import BadInput\n",
    "model/kernel.cpp": "int main() {}",
    "metric.py": "",
    "report/__init__.py": "",
    "report/page.py": "from reach_core import metric\n",
    "report/style.css": "a { color: red }",
}


@pytest.fixture
def core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "reach_core"
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder


def _identities() -> tuple[str, str]:
    return reach("reach_core.jobs.fit:fit").identity, reach("reach_core.jobs.score:score").identity


@pytest.mark.parametrize(
    ("edited", "fit", "score"),
    [
        ("report/style.css", False, False),
        ("report/page.py", False, False),
        ("metric.py", False, True),
        ("model/weights.py", True, False),
        ("model/kernel.cpp", True, False),
        ("jobs/__init__.py", True, True),
        ("__init__.py", True, True),
    ],
)
def test_an_edit_renames_exactly_the_jobs_that_reach_it(core: Path, edited: str, fit: bool, score: bool) -> None:
    before = _identities()
    path = core / edited
    path.write_text(path.read_text() + "\n")
    after = _identities()
    assert (before[0] != after[0], before[1] != after[1]) == (fit, score)


def test_an_edit_that_keeps_size_and_time_is_seen_by_the_process_that_read_the_file_before(
    core: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "SETTLED_NS", 0)  # else what was changed just now is read each time
    path = core / "model/kernel.cpp"
    before, stamp = _identities(), path.stat()
    assert _identities() == before
    time.sleep(0.02)  # a tick of the disk's clock
    path.write_text("int main() [}")
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert path.stat().st_size == stamp.st_size
    assert _identities()[0] != before[0]


def test_shared_code_counts_for_those_who_use_it(core: Path) -> None:
    assert "study_core/errors.py" in reach("reach_core.jobs.fit:fit").sources
    assert not any(name.startswith("study_core/errors") for name in reach("reach_core.jobs.score:score").sources)


def test_another_version_of_an_imported_package_is_another_job(core: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _identities()
    assert set(reach("reach_core.jobs.fit:fit").distributions) == {"numpy"}
    monkeypatch.setattr(module.importlib.metadata, "version", lambda name: "0.0.1")
    after = _identities()
    assert before[0] != after[0]
    assert before[1] == after[1]
    monkeypatch.undo()
    assert importlib.metadata.version("numpy") != "0.0.1"


def test_a_misspelt_module_is_named(core: Path) -> None:
    with pytest.raises(ModuleNotFoundError, match=r"reach_core\.jobs\.fitt"):
        reach("reach_core.jobs.fitt:fit")


def test_no_job_of_any_core_reaches_a_report_or_a_command_line() -> None:
    """The contract behind it: what draws or talks is copied along with a job and never decides its identity."""
    root = Path(__file__).resolve().parents[3]
    cores = sorted(path.name for path in root.glob("*_core") if path.is_dir() and path.name != "study_core")
    assert "denoise_core" in cores
    for name in cores:
        graph = grimp.build_graph(name, "study_core", cache_dir=None)
        for job in sorted(found for found in graph.modules if found.startswith(f"{name}.jobs.")):
            up = graph.find_upstream_modules(job)
            found = sorted(one for one in up if ".report" in one or one.endswith("__main__") or ".cli" in one)
            assert found in ([], [f"{name}.evaluation.report"]), f"{job} reaches {found}"
    assert "reach_core" not in sys.modules


def test_what_a_function_reaches_is_found_out_once_a_submission(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(dispatcher, "reach", lambda function: asked.append(function) or reach(function))
    lab.dispatcher().submit([JobSpec(f"job-{n}", "slurm_jobs:echo", {"n": n}) for n in range(5)])
    assert asked == ["slurm_jobs:echo"]
