"""Which fold of a cross-validation a checkpoint comes from: such a model is judged, and never shipped."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from denoise_core.corpus.folds import fold_manifests, fold_numbers
from denoise_core.corpus.store import Corpus
from denoise_core.model.checkpoints import read_checkpoint
from study_core.errors import BadInput


def fold_hashes(corpus: Corpus) -> dict[str, int]:
    """Hash of each fold's training manifest → fold; empty for a corpus that cannot be divided into folds."""
    try:
        numbers = fold_numbers(corpus.captures, corpus.study)
        return {fold_manifests(corpus, k).train.rows_sha256: k for k in numbers}
    except BadInput:
        return {}


def fold_behind(checkpoint: Path, hashes: Mapping[str, int]) -> int | None:
    """The fold whose training manifest a checkpoint was trained on; None for any other model.

    Ours carries its manifest's hash. A published one carries the options of its training, whose paths name the fold.
    """
    content = read_checkpoint(checkpoint)
    trained_on = (content.get("inputs") or {}).get("train")
    if trained_on:
        return hashes.get(trained_on)
    config = content.get("config") or {}
    paths = (str(config.get(option) or "") for option in ("train_manifest", "checkpoint_dir", "log_dir"))
    found = next(filter(None, (re.search(r"fold_0*(\d+)", path) for path in paths)), None)
    return int(found[1]) if found else None
