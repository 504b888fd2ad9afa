"""Every command of docs/verdicts.md, typed in its order into a house with one run; and its table names real tests."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from docs_commands import ROOT, commands, runners

from study_core.files import sha256_of, write_json
from study_core.gates import GateRecord
from study_core.plan import Frozen
from study_core.verdict import Verdict
from tasks.bundle import write_bundle
from tasks.run import Run, open_run

PAGE = (ROOT / "docs" / "verdicts.md").read_text(encoding="utf-8")
TYPED = [command for command in commands(PAGE) if runners(command) == ["elsewhere"]]
SAYS = {
    "gated key": "ed25519:", "auditors_bundle.zip --key": "untouched", "verify artifacts": "untouched",
    "openssl": "Signature Verified Successfully", "sha256sum": "every file is as signed", "export": "MLflow run",
}  # fmt: skip


class Plan(Frozen):
    label: str = ""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run from its opening to its end, below `artifacts/` of a folder with an environment beside it."""
    monkeypatch.setenv("GATED_ARTIFACTS", str(tmp_path / "artifacts"))
    monkeypatch.setenv("GATED_KEY", str(tmp_path / "owner" / "key.pem"))
    monkeypatch.setenv("GATED_ANCHOR", str(tmp_path / "elsewhere.jsonl"))
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    gated = tmp_path / ".venv" / "bin" / "gated"
    gated.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tasks.cli "$@"\n')
    gated.chmod(0o755)
    run = open_run("act-of-god", Plan(), label="typed")
    candidate = tmp_path / "best.pt"
    candidate.write_text("weights")
    gate = GateRecord(gate="size", metric="m", comparison=">=", threshold=1.0, value=2.0, passed=True)
    verdict = Verdict(
        candidate=str(candidate), candidate_sha256=sha256_of(candidate), panel_sha256="a" * 64, gates=(gate,)
    )
    write_json(run.folder / "verdict.json", verdict.model_dump(mode="json"))
    (run.folder / "report.html").write_text("<p>passed</p>\n")
    write_bundle(run.folder, {}, run.folder / "auditors_bundle.zip")
    run.event("closed", verdict.sentence())
    return run


def typed(command: str, run: Run) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = ["bash", "-o", "pipefail", "-c", command.replace("<run>", run.folder.name)]
    folder = run.folder.parents[2]
    return subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False)


def test_each_command_does_what_the_page_says(run: Run) -> None:
    assert len(TYPED) >= 7
    told = {}
    for command in TYPED:
        done = typed(command, run)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        told[command] = done.stdout + done.stderr
    for part, says in SAYS.items():
        assert any(part in command and says in text for command, text in told.items()), part


def test_the_independent_check_finds_what_was_changed(run: Run) -> None:
    for command in TYPED:
        assert typed(command, run).returncode == 0
    (openssl,) = [command for command in TYPED if command.startswith("openssl")]
    (files,) = [command for command in TYPED if "sha256sum" in command]
    folder = run.folder.parents[2]
    (folder / "audited" / "report.html").write_text("<p>passed, and how</p>\n")
    assert "report.html: FAILED" in typed(files, run).stdout
    (folder / "signed").write_bytes((folder / "signed").read_bytes().replace(b"PASSED", b"FAILED"))
    done = typed(openssl, run)
    assert done.returncode != 0
    assert "Signature Verification Failure" in done.stdout + done.stderr


def test_the_table_of_forgeries_names_tests_that_exist() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    sources = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(named) >= 11
    assert {name for name in named if f"def {name}(" not in sources} == set()
