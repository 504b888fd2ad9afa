"""A fold's model is known by what it was trained on, whatever its file is called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from denoise_core.corpus.folds import fold_manifests
from denoise_core.corpus.store import Corpus, open_corpus
from denoise_core.evaluation.origin import fold_behind, fold_hashes
from denoise_core.evaluation.panel import why_not_shipped
from denoise_core.model.checkpoints import save_plain


@pytest.fixture(scope="module")
def mini(mini_corpus_root: Path) -> Corpus:
    return open_corpus(mini_corpus_root)


@pytest.fixture(scope="module")
def hashes(mini: Corpus) -> dict[str, int]:
    return fold_hashes(mini)


def checkpoint(folder: Path, **content: Any) -> Path:
    save_plain(folder / "innocent.pt", content)
    return folder / "innocent.pt"


@pytest.mark.parametrize("fold", [1, 2, 5])
def test_the_manifests_hash_names_the_fold(mini: Corpus, hashes: dict[str, int], tmp_path: Path, fold: int) -> None:
    trained_on = fold_manifests(mini, fold).train.rows_sha256
    path = checkpoint(tmp_path, inputs={"train": trained_on})
    assert fold_behind(path, hashes) == fold
    reason = why_not_shipped(path.name, fold_behind(path, hashes))
    assert reason is not None
    assert f"fold {fold}" in reason
    assert "20 % of the data unused and is not representative" in reason


def test_a_published_fold_is_known_by_the_options_of_its_training(hashes: dict[str, int], tmp_path: Path) -> None:
    path = checkpoint(tmp_path, config={"train_manifest": "manifests/fold_02/train_manifest.csv"})
    assert fold_behind(path, hashes) == 2


def test_a_model_of_all_data_may_ship(mini: Corpus, hashes: dict[str, int], tmp_path: Path) -> None:
    for content in (
        {"inputs": {"train": mini.manifest("manifest_train").rows_sha256}},
        {"config": {"checkpoint_dir": "checkpoints/god_run"}},
        {},
    ):
        path = checkpoint(tmp_path, **content)
        assert why_not_shipped(path.name, fold_behind(path, hashes)) is None
