"""The command lines that the study was first given, as they were written: each script takes its options."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.concept
SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
COMMANDS = {
    "smoke_test.py": ("smoke", "--config --n-samples --keep-temp"),
    "run_pipeline.py": ("pipeline", "--config --skip-embed --skip-train --skip-eval"),
    "run_embed.py": ("embed", "--model --device"),
    "run_train_cav.py": ("train", "--model --layer"),
    "run_evaluate.py": ("evaluate", "--model"),
    "run_detect.py": ("detect", "--input --output --model --device"),
}


@pytest.mark.parametrize("script", COMMANDS)
def test_a_script_is_its_command_with_the_options_it_had(
    script: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [script, "--help"])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(SCRIPTS / script), run_name="__main__")
    assert left.value.code == 0
    command, options = COMMANDS[script]
    shown = capsys.readouterr().out
    assert f"concept_core {command} " in shown
    assert [name for name in options.split() if name not in shown] == []


def test_every_script_is_there() -> None:
    assert {path.name for path in SCRIPTS.glob("*.py")} == set(COMMANDS)
