"""Fixtures of the concept tests: the committed house model, the committed windows, a model registry in a folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from concept_core.config import Config, read_config
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
