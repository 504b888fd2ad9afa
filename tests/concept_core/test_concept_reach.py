"""What a job can reach is part of its identity: colours, command lines and other jobs' verbs must not be."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

ASK = "import {module}, json, sys; print(json.dumps(sorted(sys.modules)))"
HEAVY = ("torch", "transformers", "sklearn", "matplotlib", "typer", "rich")


def reached(module: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", ASK.format(module=module)], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("job", ["embed", "train_cav", "scan", "concept_eval", "detect", "sensitivity", "smoke"])
def test_a_job_reaches_neither_report_nor_command_line_and_imports_nothing_heavy(job: str) -> None:
    found = reached(f"concept_core.jobs.{job}")
    ours = {name for name in found if name.startswith(("concept_core", "study_core"))}
    assert not [name for name in ours if ".report" in name or ".cli" in name or name.endswith("__main__")]
    assert not [name for name in HEAVY if name in found]
    others = {"prefect", "submitit", "tasks", "flows", "denoise_core", "ptycho_core"}
    assert not others & {name.split(".")[0] for name in found}


def test_training_does_not_depend_on_what_is_made_of_it() -> None:
    found = reached("concept_core.jobs.train_cav")
    for later in ("detection", "predictions", "sensitivity", "evaluation.thresholds", "evaluation.measures", "steps"):
        assert f"concept_core.{later}" not in found
