"""What a campaign came to: a row a fold, mean and deviation over folds beside the controls, the review's page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from prefect.client.schemas.objects import State

from study_core.files import replacing
from tasks import artifacts, outcome
from tasks.denoise.fallback import reviewing
from tasks.denoise.folds import Fold
from tasks.denoise.show import records
from tasks.run import Run


def summarise(run: Run, asked: Sequence[Fold], earlier: Sequence[Fold] = ()) -> State[Any]:
    """`fold_summary.csv`, the review over folds, their artifacts, and the run's end: Failed when any fold failed.

    Args:
        asked: the folds of this run, at least one.
        earlier: folds that stand from before, summed up with them.
    """
    folds = sorted([*asked, *earlier], key=lambda fold: fold.number)
    rows = [_row(fold) for fold in folds]
    root = folds[0].root
    _write_csv(root / "artifacts" / "cross_validation" / "fold_summary.csv", pd.DataFrame(rows))
    artifacts.publish_table(run, "fold-summary", rows, "One row a fold")
    figures = _figures(folds)
    if not figures.empty:
        _write_csv(root / "artifacts" / "cross_validation" / "fold_figures.csv", figures)
        review = over_folds(figures)
        _write_csv(root / "artifacts" / "cross_validation" / "review.csv", review)
        artifacts.publish_table(run, "review", records(review), "Mean and standard deviation over folds")
    review_folds(run, folds)
    failed = [fold for fold in folds if fold.failure]
    if failed:
        return outcome.failed(run, "FoldFailed", "; ".join(f"{fold.name}: {fold.failure}" for fold in failed))
    also = f"; summed up with {_count(earlier)} finished before" if earlier else ""
    return outcome.conclude(run, f"{_count(asked)} trained, denoised and scored{also}")


def _count(folds: Sequence[Fold]) -> str:
    return f"{len(folds)} fold{'s' if len(folds) != 1 else ''}"


def review_folds(run: Run, folds: Sequence[Fold]) -> None:
    """The review over folds as a page, as artifacts, and as `reviewing_the_5fold_run.md`; nothing without a fold."""
    from denoise_core.report.campaign import worst_examples, write_campaign_report
    from denoise_core.report.campaign_blocks import worst_captures

    done = [fold for fold in folds if fold.scored and fold.trained and fold.denoised]
    if not done:
        return
    captures = pd.concat(
        [pd.read_csv(fold.scored.captures.path).assign(fold=fold.number) for fold in done if fold.scored]
    )
    outputs = {fold.number: fold.denoised.outputs["test"].folder.path for fold in done if fold.denoised}
    curves = {fold.number: pd.read_csv(fold.trained.metrics_csv) for fold in done if fold.trained}
    with reviewing() as review:  # a refused run appends to the same one
        report = write_campaign_report(
            run.folder,
            captures,
            curves,
            failures={fold.number: fold.failure for fold in folds if fold.failure},
            examples=worst_examples(done[0].corpus, worst_captures(captures), outputs),
            review=review,
        )
    artifacts.publish_page(run, "report", report.page, "Start here")


def _figures(folds: Sequence[Fold]) -> pd.DataFrame:
    """One row a fold, split and method."""
    done = [(fold.number, fold.scored.rows) for fold in folds if fold.scored]
    return pd.DataFrame([{"fold": number, **row} for number, rows in done for row in rows])


REVIEWED = (
    "psnr_mean",
    "psnr_std",
    "sam_mean",
    "area_within_10_pct_ratio",
    "centroid_mae_nm_median",
    "depth_mae_median",
)


def over_folds(figures: pd.DataFrame) -> pd.DataFrame:
    """Mean ± standard deviation (ddof 1) over folds of each figure, by split and method; NaN sd for a single fold."""
    groups = figures.groupby(["split", "method"], sort=False)
    mean = groups[list(REVIEWED)].mean()
    sd = groups[list(REVIEWED)].std().add_suffix("_sd")
    return groups["fold"].count().rename("folds").to_frame().join(mean).join(sd).reset_index()


def _write_csv(path: Path, frame: pd.DataFrame) -> None:
    with replacing(path) as temporary:
        frame.to_csv(temporary, index=False, lineterminator="\n")


def _row(fold: Fold) -> dict[str, Any]:
    done = fold.trained
    base = {
        "fold": fold.number,
        "status": "failed" if fold.failure else "done",
        "reason": fold.failure,
        **{f"{name}_rows": len(manifest) for name, manifest in fold.manifests.items()},
    }
    if done is None:
        return base
    return {
        **base,
        "best_epoch": done.best_epoch,
        "epochs_run": done.epochs_run,
        "best_sam_deg": done.best_sam_deg,
        "checkpoint": str(fold.checkpoint.relative_to(fold.root)),
        "checkpoint_sha256": done.best.sha256,
        "audit_log": f"logs/{fold.name}/auditing_manifest.log",
    }
