"""Score a fold's denoised validation and test splits beside the controls."""

from __future__ import annotations

from typing import Any

from study_core.job import Content, Context, Receipt, Request
from study_core.paths import Name


class ScoreFold(Request):
    """A fold's manifests and its outputs, by split."""

    corpus: Content
    train: Content
    splits: dict[Name, Content]
    denoised: dict[Name, Content]


class FoldScored(Receipt):
    """One row a split and method, and the table of captures."""

    rows: tuple[dict[str, Any], ...]
    captures: Content


def score_fold(request: ScoreFold, context: Context) -> FoldScored:
    """Metrics under the leave-one-out reference; judges nothing."""
    from denoise_core.corpus.manifest import read_manifest
    from denoise_core.corpus.store import open_corpus
    from denoise_core.evaluation import folds

    out = context.folder / "fold_eval"
    rows = folds.evaluate_fold(
        open_corpus(request.corpus.path),
        read_manifest(request.train.path),
        {name: read_manifest(content.path) for name, content in request.splits.items()},
        {name: content.path for name, content in request.denoised.items()},
        out,
    )
    return FoldScored(rows=tuple(rows), captures=Content.of(out / "captures.csv"))
