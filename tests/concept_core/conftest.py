"""Fixtures of the concept tests: the committed house model, the committed windows, a model registry in a folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from concept_core.config import Config, read_config
from concept_core.jobs.concept_eval import Evaluated
from concept_core.layout import Layout
from concept_core.local import Study
from concept_core.models.registry import Registered, registered

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "data" / "concept"


@pytest.fixture(scope="session")
def concept_config() -> Config:
    """The embedded default."""
    return read_config(DATA / "config.yaml")


@pytest.fixture(scope="session")
def house(concept_config: Config) -> Registered:
    """The committed house model's entry."""
    return registered(concept_config.paths.model_registry, "house_esm2")


@pytest.fixture(scope="session")
def shared_concept() -> Path:
    """Data that may be read but not committed; the test is skipped where there is none."""
    folder = Path(os.environ.get("CONCEPT_SHARED", ROOT.parent / "shared" / "concept"))
    if not folder.is_dir():
        pytest.skip(f"no {folder} (set CONCEPT_SHARED)")
    return folder


@dataclass(frozen=True)
class SmallStudy:
    """A finished study of forty proteins a class: its configuration, folder, and what was evaluated."""

    config: Path
    study: Study
    evaluated: Evaluated


@pytest.fixture(scope="session")
def small_study(tmp_path_factory: pytest.TempPathFactory) -> SmallStudy:
    """The committed house model, forty proteins a class, few refits: everything runs, some gates refuse."""
    pytest.importorskip("transformers")
    from concept_core.prepare import make_windows

    root = tmp_path_factory.mktemp("concept") / "a study"
    root.mkdir()
    for kind in ("pos", "neg"):
        rows = (DATA / f"c2h2_mini_{kind}.jsonl").read_text().splitlines()[:40]
        (root / f"{kind}.jsonl").write_text("\n".join(rows) + "\n")
    file = root / "config.yaml"
    file.write_text(
        f"""
model: {{name: house_esm2, layers: [2, 4]}}
paths:
  positives: pos.jsonl
  negatives: neg.jsonl
  model_registry: {DATA / "models" / "model_registry.yaml"}
  output: out
embedding: {{context: 96}}
data: {{folds: 3}}
cav: {{random_cavs: 3, null_refits: 19}}
evaluation: {{bootstrap: 50, heatmaps: 4}}
detection: {{longest: 300}}
sensitivity: {{random_cavs: 5, steering_sd: [1.0]}}
"""
    )
    config = read_config(file)
    study = Study(config.plan, Layout(config.paths.output), config.paths.model_registry, "cpu")
    facts = make_windows(config, study.layout)
    return SmallStudy(file, study, study.evaluate(dropped_share=facts["dropped_share"], smoke_passed=6))
