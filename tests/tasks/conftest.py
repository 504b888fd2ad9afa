"""A house of a shipped and a refused run, for tests of what is found in one and what may leave it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))  # judged_house

from judged_house import House, judged


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.setenv("GATED_ARTIFACTS", str(tmp_path / "house"))
    monkeypatch.setenv("GATED_KEY", str(tmp_path / "owner" / "key.pem"))
    monkeypatch.setenv("GATED_ANCHOR", str(tmp_path / "elsewhere" / "anchors.jsonl"))
    return House(tmp_path / "house", judged(tmp_path, "good", 54.0), judged(tmp_path, "bad", 40.0))
