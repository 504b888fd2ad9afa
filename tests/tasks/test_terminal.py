"""Every command line of the tasks: an error is one line with its next step, the trace on demand, JSON for scripts."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks import bundle, cli, verification
from tasks.audit_log import AuditLog
from tasks.slurm import __main__ as slurm

ROOT = Path(__file__).resolve().parents[2]
Main = Callable[[list[str]], int]
WRONG: dict[str, tuple[Main, list[str], tuple[str, ...]]] = {
    "no log": (verification.main, ["nowhere"], ("nowhere", "make run")),
    "unknown option": (verification.main, ["--fast"], ("--fast", "python -m tasks.verification --help")),
    "no bundle": (bundle.main, ["verify", "no.zip"], ("no.zip", "artifacts/")),
    "nothing to verify": (bundle.main, ["verify"], ("ZIP|FOLDER", "python -m tasks.bundle --help")),
    "no command": (slurm.main, [], ("Missing command", "python -m tasks.slurm --help")),
    "unknown command": (slurm.main, ["job"], ("'job'", "python -m tasks.slurm --help")),
    "no journal": (slurm.main, ["jobs", "--root", "nowhere"], ("nowhere", "--root")),
    "nothing to cancel": (slurm.main, ["cancel", "--profile", "local", "--root", "nowhere"], ("nowhere", "--root")),
    "nothing to prune": (slurm.main, ["prune", "--root", "nowhere"], ("nowhere", "--root")),
    "of the word itself": (cli.main, ["job"], ("'job'", "'jobs'", "gated --help")),
    "of a command": (cli.main, ["jobs", "--fast"], ("--fast", "gated jobs --help")),
    "no bundle to replay": (cli.main, ["replay", "--corpus", ".", "--bundle", "no.zip"], ("no.zip", "artifacts/")),
    "nobody's bundle": (cli.main, ["replay", "--bundle", "."], ("verdict.json", "gated bundle")),
    "no study": (cli.main, ["run", "walk"], ("walk", "denoise", "gated run --help")),
    "no such corpus": (cli.main, ["run", "--corpus", "/no/such"], ("/no/such", "CORPUS=")),
    "no plan": (cli.main, ["run", "panel-qa/audit", "--plan", "x"], ("--plan", '{"label": "first"}')),
    "no field": (cli.main, ["run", "panel-qa/audit", "--set", "top_k"], ("top_k", "--set gates.psnr_mean_min=60")),
    "no port": (cli.main, ["up", "--port", "http"], ("'--port'", "gated up --help")),
    "no address": (cli.main, ["webhook", "example.org"], ("example.org", "https://")),
    "profile": (slurm.main, ["try", "--profile", "mysite"], ("mysite", "local")),
    "stage": (slurm.main, ["dry-run", "--profile", "a100", "--stage", "walk"], ("walk", "train")),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_call_is_one_line_with_the_next_step_and_exit_code_2(
    wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main, call, named = WRONG[wrong]
    monkeypatch.chdir(tmp_path)
    assert main(call) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("error: ")
    assert told.err.count("\n") == 1, told.err
    for text in named:
        assert text in told.err
    assert not (tmp_path / "nowhere").exists()  # looking makes no folder


@pytest.mark.parametrize("call", [["-v", "nowhere"], ["nowhere", "--verbose"]])
def test_verbose_shows_the_trace(
    call: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert verification.main(call) == 2
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert told.splitlines()[-1].startswith("error: nowhere: no such")


def test_findings_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = AuditLog(tmp_path / "run")
    log.append("event", "one")
    assert verification.main([str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {str(log.folder): []}
    log.path.write_text(log.path.read_text().replace("one", "two"))
    assert verification.main([str(tmp_path), "--json"]) == 1
    (problems,) = json.loads(capsys.readouterr().out).values()
    assert problems == ["audit.jsonl line 1: the record was changed after it was written"]
    assert bundle.main(["verify", str(tmp_path / "run"), "--json"]) == 1
    (problems,) = json.loads(capsys.readouterr().out).values()
    assert problems == ["SHA256SUMS is missing: not a bundle, or not a whole one"]


def test_a_tried_profile_answers_in_json_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = str(tmp_path / "jobs")
    assert slurm.main(["try", "--profile", "local", "--root", root, "--json"]) == 0
    told = capsys.readouterr()
    assert "python" in json.loads(told.out)
    assert "done try" in told.err
    assert slurm.main(["jobs", "--root", root, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert slurm.main(["prune", "--root", root, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"removed": False, "bytes": 0, "folders": []}


def test_every_command_has_a_help_and_says_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    listed = capsys.readouterr().out
    for name in cli.COMMANDS:
        assert f" {name} " in listed
        if name != "up":
            assert cli.main([name, "--help"]) == 0
            assert "--json" in capsys.readouterr().out, name


def test_the_word_alone_imports_nothing_heavy() -> None:
    """What it lists is imported when it is called: a help text that takes seconds is not read."""
    code = (
        "import sys; from tasks import cli; cli.main(['--version']); cli.main(['--help']);"
        "print([name for name in sys.modules if name in ('prefect', 'torch', 'numpy', 'pydantic', 'httpx', 'yaml')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert re.fullmatch(r"gated \d+\.\d+\.\d+", lines[0])
    assert lines[-1] == "[]"


def test_an_old_form_and_the_new_one_say_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = AuditLog(tmp_path / "run")
    log.append("event", "one")
    pairs: list[tuple[Main, list[str], list[str]]] = [
        (verification.main, [str(tmp_path)], ["verify", str(tmp_path)]),
        (bundle.main, ["verify", str(tmp_path / "run")], ["bundle", str(tmp_path / "run")]),
    ]
    for main, old, new in pairs:
        codes = main(old), capsys.readouterr().out, cli.main(new), capsys.readouterr().out
        assert codes[:2] == codes[2:]
