"""The smoke test's six (T12): all pass with the committed model; after a failure the rest are told as not run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

pytest.importorskip("transformers")

from concept_core.__main__ import main

pytestmark = pytest.mark.concept
DATA = Path(__file__).resolve().parents[2] / "data" / "concept"
SIX = ["model_loading", "dataset_creation", "embedding_extraction", "cav_training", "evaluation", "artifact_validation"]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The default with its own registry and output below a temporary folder."""
    written = yaml.safe_load((DATA / "config.yaml").read_text())
    models = yaml.safe_load((DATA / "models" / "model_registry.yaml").read_text())["models"]
    shutil.copytree(DATA / "house_esm2", tmp_path / "house")
    (tmp_path / "registry.yaml").write_text(
        yaml.safe_dump({"models": {"house_esm2": {**models["house_esm2"], "checkpoint_path": "house"}}})
    )
    files = {name: str(DATA / f"c2h2_mini_{kind}.jsonl") for name, kind in (("positives", "pos"), ("negatives", "neg"))}
    written |= {"model": {"name": "house_esm2"}, "paths": {**files, "model_registry": "registry.yaml", "output": "out"}}
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(written))
    return file


def metrics(config: Path) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = json.loads((config.parent / "out" / "smoke_test_metrics.json").read_text())[
        "tests"
    ]
    return found


def test_all_six_pass_with_five_samples(config: Path) -> None:
    assert main(["smoke", "--config", str(config), "--n-samples", "5", "--device", "cpu"]) == 0
    tests = metrics(config)
    assert list(tests) == SIX or sorted(tests) == sorted(SIX)
    assert all(one["passed"] for one in tests.values())


def test_a_broken_model_fails_the_first_and_the_rest_are_not_run(config: Path) -> None:
    (config.parent / "house" / "model.safetensors").write_bytes(b"broken")
    assert main(["smoke", "--config", str(config), "--n-samples", "5", "--device", "cpu"]) == 1
    tests = metrics(config)
    assert not any(one["passed"] for one in tests.values())
    assert "not run" not in str(tests["model_loading"]["error"])
    assert "not run" in str(tests["evaluation"]["error"])
