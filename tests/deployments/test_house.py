"""What the Makefile offers, as far as it can be seen without a server."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from deployments import house
from tasks import cli

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("call", [["run", "walk"], ["run", "--corpus", "/no/such/corpus"], ["up", "--port", "http"]])
def test_a_wrong_call_starts_nothing(
    call: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(house, "child", None)  # no process may be started
    assert cli.main(call) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_make_help_names_every_target() -> None:
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    phony = next(line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith(".PHONY"))
    for target in phony.removeprefix(".PHONY:").split():
        assert [line for line in listed.splitlines() if line.split()[:1] == [target]], target
    assert "\x1b" not in listed
