"""One house for all tests of this folder: a Prefect server takes longer to come up than most flows to run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))  # flow_lab
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "denoise_core" / "corpus"))  # strangers

from flow_lab import Lab, house


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory, mini_corpus_root: Path) -> Iterator[Lab]:
    """A running house over a mini corpus, with nothing in it yet."""
    with house(tmp_path_factory.mktemp("house"), mini_corpus_root) as running:
        yield running
