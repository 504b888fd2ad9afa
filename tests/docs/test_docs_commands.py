"""Every command of the guide is run by a test; one that nobody runs fails here."""

from __future__ import annotations

import os
import re
import subprocess

import pytest
from docs_commands import ELSEWHERE, ROOT, commands, copy_of_the_project, guide, of, runners

MEAN = "make a new cup"


@pytest.mark.parametrize("command", guide())
def test_every_command_of_the_guide_has_one_runner(command: str) -> None:
    told = f"{command!r} is run by {runners(command) or 'no test'}: see tests/docs/docs_commands.py"
    assert len(runners(command)) == 1, told


def test_a_command_without_a_runner_would_be_noticed() -> None:
    page = (
        f"Type `{MEAN}` or\n\n```\nmake run   # fine\n.venv/bin/python -m denoise_core \\\n    brew --hot\n```\n`make`"
    )
    assert commands(page) == [MEAN, "make run", ".venv/bin/python -m denoise_core brew --hot"]
    assert [runners(command) for command in commands(page)] == [[], ["elsewhere"], []]


def test_what_is_no_command_is_left_alone() -> None:
    assert commands('`train`, `--method linear`, `a.csv`\n```json\n{"make": 1}\n```\n```\n# a comment\n```\n') == []


@pytest.mark.parametrize("command", of("elsewhere"))
def test_commands_that_are_run_elsewhere_are_really_run_there(command: str) -> None:
    (elsewhere,) = [told for pattern, told in ELSEWHERE.items() if re.fullmatch(pattern, command)]
    assert elsewhere.text in (ROOT / elsewhere.file).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("target", "line"),
    [
        ("slurm-up", "slurm_templates/lab/slurm-up.sh"),
        ("slurm-down", "slurm_templates/lab/slurm-down.sh --wipe"),
        ("up CORPUS=/data/nostoc", ".venv/bin/gated up --corpus '/data/nostoc'"),
        ("run CORPUS=/data/nostoc", ".venv/bin/gated run --corpus '/data/nostoc'"),
    ],
)
def test_a_make_target_is_the_line_that_its_runner_runs(target: str, line: str) -> None:
    command = ["make", "--no-print-directory", "-n", *target.split()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == line


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, subprocess.CompletedProcess[str]]:
    """The commands by hand, typed one after the other in a copy of the project: each with what came of it."""
    copy = copy_of_the_project(tmp_path_factory.mktemp("guide"))
    environment = {**os.environ, "PYTHONPATH": str(copy), "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    return {
        command: subprocess.run(
            ["bash", "-c", command], cwd=copy, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        for command in of("by hand")
    }


SAYS = {
    "make help": "slurm-up",
    "denoise_core corpus": "artifacts/try/corpus",
    "denoise_core folds": "fold_05",
    "denoise_core train": "linear_f.pt",
    "denoise_core denoise": "120 spectra of 200 rows",
    "denoise_core evaluate": "panel_eval_summary.json",
    "cp slurm_templates": "",
    "gated dry-run": "#SBATCH --partition=gpu",
    "gated try": "--profile",
    "gated --help": "dry-run",
}


@pytest.mark.parametrize("command", of("by hand"))
def test_commands_by_hand(command: str, typed: dict[str, subprocess.CompletedProcess[str]]) -> None:
    done = typed[command]
    assert done.returncode == 0, done.stderr
    (said,) = [text for part, text in SAYS.items() if part in command]
    assert said in done.stdout
    assert "\x1b" not in done.stdout + done.stderr


def test_every_file_that_the_guide_links_to_is_there() -> None:
    for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", (ROOT / "README.md").read_text(encoding="utf-8")):
        assert (ROOT / target).exists(), target


def test_the_readme_keeps_to_the_point() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 180
    assert not [line for line in lines if len(line) > 140 and not line.startswith(("|", "."))]
