"""`python -m deployments.house`, as far as it can be seen without a server."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from deployments import house

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("call", "named"),
    [
        ([], ("what", "python -m deployments.house --help")),
        (["walk"], ("'walk'", "python -m deployments.house --help")),
        (["run", "--corpus", "/no/such/corpus"], ("/no/such/corpus", "CORPUS=")),
        (["up", "--port", "http"], ("'http'", "--help")),
    ],
)
def test_a_wrong_call_is_one_line_and_starts_nothing(
    call: list[str], named: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(house, "child", None)  # no process may be started
    assert house.main(call) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("error: ")
    assert told.err.count("\n") == 1, told.err
    for text in named:
        assert text in told.err


def test_make_help_names_every_target() -> None:
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    phony = next(line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith(".PHONY"))
    for target in phony.removeprefix(".PHONY:").split():
        assert [line for line in listed.splitlines() if line.split()[:1] == [target]], target
    assert "\x1b" not in listed
