"""Every command line of the tasks: an error is one line with its next step, the trace on demand, JSON for scripts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks import bundle, ledger
from tasks.ledger import Ledger
from tasks.slurm import __main__ as slurm

Main = Callable[[list[str]], int]
WRONG: dict[str, tuple[Main, list[str], tuple[str, ...]]] = {
    "no log": (ledger.main, ["nowhere"], ("nowhere", "make run")),
    "unknown option": (ledger.main, ["--fast"], ("--fast", "python -m tasks.ledger --help")),
    "no bundle": (bundle.main, ["verify", "no.zip"], ("no.zip", "artifacts/")),
    "nothing to verify": (bundle.main, ["verify"], ("ZIP|FOLDER", "python -m tasks.bundle --help")),
    "no command": (slurm.main, [], ("command", "python -m tasks.slurm --help")),
    "unknown command": (slurm.main, ["job"], ("'job'", "python -m tasks.slurm --help")),
    "no journal": (slurm.main, ["jobs", "--root", "nowhere"], ("nowhere", "--root")),
    "nothing to cancel": (slurm.main, ["cancel", "--profile", "local", "--root", "nowhere"], ("nowhere", "--root")),
    "nothing to prune": (slurm.main, ["prune", "--root", "nowhere"], ("nowhere", "--root")),
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
    assert ledger.main(call) == 2
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert told.splitlines()[-1].startswith("error: no audit.jsonl")


def test_findings_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = Ledger(tmp_path / "run")
    log.append("event", "one")
    assert ledger.main([str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {str(log.path): []}
    log.path.write_text(log.path.read_text().replace("one", "two"))
    assert ledger.main([str(tmp_path), "--json"]) == 1
    (problems,) = json.loads(capsys.readouterr().out).values()
    assert "line 1: the record was changed after it was written" in problems
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
    assert json.loads(capsys.readouterr().out) == {"removed": []}
