"""What a tenant is: files of its own, dropped into a copy of the project, and not a line changed elsewhere.

The toy is dispatched, judged in the flow, shipped, refused, compared with its own production, rolled back, bundled and
replayed, by the commands that a person types.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flow_lab import ROOT, brought_up

TOY = ROOT / "tests" / "toy"
pytestmark = pytest.mark.prefect


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, mini_corpus_root: Path) -> Iterator[Path]:
    """A copy of the packages with the toy's files laid over it, nothing but new files, and `gated up` in it."""
    copy = tmp_path_factory.mktemp("toy") / "project"
    skipped = shutil.ignore_patterns("__pycache__", ".*_cache")
    cores = [path.name for path in ROOT.glob("*_core")]
    for package in (*cores, "tasks", "flows", "deployments", "slurm_templates"):
        shutil.copytree(ROOT / package, copy / package, ignore=skipped)
    for path in (file for file in TOY.rglob("*") if file.suffix in (".py", ".yaml")):
        target = copy / path.relative_to(TOY)
        assert not target.exists(), f"{target}: a tenant is new files only"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    with brought_up(environment(copy), mini_corpus_root, copy / "up.log", cwd=copy):
        yield copy


def environment(house: Path) -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "GATED"))},
        "PYTHONPATH": str(house), "GATED_ARTIFACTS": str(house / "artifacts"), "PREFECT_HOME": str(house / "prefect"),
        "PREFECT_RUNNER_POLL_FREQUENCY": "2",
    }  # fmt: skip


def gated(house: Path, *words: str, code: int = 0) -> str:
    """One command in the copy; its standard output."""
    command = [sys.executable, "-m", "tasks.cli", *words]
    done = subprocess.run(
        command, cwd=house, env=environment(house), capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def test_its_stage_needs_no_word_in_any_site_file(house: Path) -> None:
    text = gated(house, "dry-run", "--profile", "a100", "--stage", "count", "--root", str(house / "root"))
    assert "#SBATCH --time=00:05:00" in text
    assert "--gres" not in text, "its class asks for no GPU"


def run(house: Path, text: str, *, code: int = 0, margin: float = 0.0, by: str = "", **gates: float) -> dict[str, Any]:
    file = house / "text.txt"
    file.write_text(text)
    plan = json.dumps({"text": str(file), "gates": gates, "production": {"margin": margin}, "approval": {"by": by}})
    return dict(json.loads(gated(house, "run", "toy", "--plan", plan, "--json", code=code)))


def test_a_tenant_is_a_matter_of_new_files(house: Path) -> None:
    first = run(house, "a b a c")
    assert [record["passed"] for record in first["gates"]] == [True, True, True]
    assert [record.get("slice") for record in first["gates"]] == [{}, {"word": "a"}, {"word": "b"}]
    jobs = sorted((house / "artifacts" / "jobs" / "jobs").rglob("result.json"))

    refused = run(house, "a b a c", code=1, words_min=5.0)  # another threshold: the same numbers, no job
    assert [record["passed"] for record in refused["gates"]] == [False, True, True]
    assert sorted((house / "artifacts" / "jobs" / "jobs").rglob("result.json")) == jobs

    better = run(house, "a b a c d")
    history = json.loads(gated(house, "history", "--json"))
    assert [(row["tenant"], row["production"]) for row in history] == [("toy", False), ("toy", True)]
    assert history[1]["replaces"] == history[0]["id"]
    assert better["candidate_sha256"] != first["candidate_sha256"]

    worse = run(house, "a b c", code=1)  # passes its own gates, and production is better
    *own, against = worse["gates"]
    assert all(record["passed"] for record in own)
    assert {name: against[name] for name in ("gate", "metric", "value", "threshold", "passed", "against")} == {
        "gate": "production", "metric": "score", "value": -2.0, "threshold": 0.0, "passed": False,
        "against": "production",
    }  # fmt: skip
    nameless = run(house, "a b c", code=1, margin=-2.0)  # the same numbers under another threshold
    assert nameless["gates"][-1]["passed"]
    assert nameless["changed_thresholds"] == ["production.margin -2 (standard 0)"]
    allowed = run(house, "a b c", margin=-2.0, by="Ada Lovelace")
    assert allowed["gates"][-1]["passed"]
    gated(house, "rollback", "--tenant", "toy", "drift seen")
    assert [row["production"] for row in json.loads(gated(house, "history", "--json"))] == [False, True, False]

    folders = sorted((house / "artifacts" / "toy").glob("*-*"))
    assert len(folders) == 6
    ends = [
        json.loads((folder / "audit.jsonl").read_text().splitlines()[-1])["data"].get("state") for folder in folders
    ]
    assert sorted(end for end in ends if end) == ["GateFailed", "PromotionRefused", "PromotionRefused"]
    for folder in folders:
        assert "untouched" in gated(house, "bundle", str(folder / "auditors_bundle.zip"))
        assert "equal" in gated(house, "replay", "--bundle", str(folder), "--corpus", str(house))
    verdict = folders[0] / "verdict.json"
    verdict.write_text(verdict.read_text().replace('"passed": true', '"passed": false'))
    assert "DIFFERENT" in gated(house, "replay", "--bundle", str(folders[0]), "--corpus", str(house), code=1)
