"""The scan benchmark runs and says what it measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_smoke_run_writes_ratios_and_agreement(tmp_path: Path) -> None:
    out = tmp_path / "scan.json"
    command = [sys.executable, "-m", "benchmarks.scan", "--smoke", "--json", str(out)]
    subprocess.run(command, cwd=Path(__file__).parents[3], check=True, capture_output=True, timeout=120)
    result = json.loads(out.read_text(encoding="utf-8"))
    size = result["sizes"]["smoke"]
    assert size["ratios"]["blocked over unbind"]["both"] > 0
    assert max(figures["difference"] for figures in size["methods"].values()) < 1e-5
    assert set(size["methods"]) | set(result["missing"]) == {"unbind", "blocked", "mambapy", "native"}
