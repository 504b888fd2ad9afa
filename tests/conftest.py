"""Fixtures shared by every test: the real corpus where it exists, a small synthetic one everywhere."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import pytest

# A key and told heads of the tests' own: nobody's real ones are used; processes that a test starts have the same.
_OWN = tempfile.mkdtemp(prefix="gated-tests-")
os.environ |= {"XDG_CONFIG_HOME": f"{_OWN}/config", "XDG_STATE_HOME": f"{_OWN}/state"}
atexit.register(shutil.rmtree, _OWN, ignore_errors=True)

ROOT = Path(__file__).resolve().parent.parent


def _real_corpus() -> Path:
    return Path(os.environ.get("GATED_CORPUS", ROOT.parent / "shared" / "corpus"))


@pytest.fixture(scope="session")
def real_corpus_root() -> Path:
    """Folder of the real corpus; the test is skipped where there is none."""
    root = _real_corpus()
    if not (root / "spectra.npy").exists() and not (root / "spectra_for_fold").exists():
        pytest.skip(f"no real corpus at {root} (set GATED_CORPUS)")
    return root


@pytest.fixture(scope="session")
def mini_corpus_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated synthetic corpus of size mini, seed 1, in the seed's own layout."""
    from denoise_core.corpus.synthetic import generate

    out = tmp_path_factory.mktemp("corpus") / "mini corpus"
    generate(out, size="mini", seed=1)
    return out


LONG = (
    "test_docs_house",
    "test_flow_slurm",
    "test_flow_folds",
    "test_flow_browser",
    "test_slurm_real",
    "test_flow_ptycho",
    "test_flow_kill",
    "test_flow_concept",
    "test_flow_run",
    "test_flow_toy",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files of minutes first: workers take file by file, and one that begins last keeps the other waiting."""
    order = {name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path.stem, len(LONG)))
