"""A cross-validation campaign: folds prepared, trained as one array, denoised as each ends, summarised."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture, as_completed

from denoise_core.corpus.manifest import Manifest
from denoise_core.corpus.store import Corpus
from denoise_core.errors import BadInput
from denoise_core.plans import TrainingPlan
from tasks import audit, outcome, promotion
from tasks import denoise as steps
from tasks import denoise_jobs as jobs
from tasks.audit import ROOT, Run, artifacts_root
from tasks.dispatch import Cluster, JobLost, JobSpec, job
from tasks.files import place, place_tree, replacing, write_json, write_text
from tasks.showing import publish_pieces, records

AUDIT_LOG = "auditing_manifest.log"


class Settings(Protocol):
    """The campaign's parameters that these steps read."""

    @property
    def corpus(self) -> str: ...
    @property
    def folds(self) -> tuple[int, ...]: ...
    @property
    def layout(self) -> str: ...
    @property
    def inference_batch_size(self) -> int: ...
    @property
    def output_root(self) -> str: ...


@dataclass
class Fold:
    """One fold on its way: its job, its receipts, or why it failed."""

    number: int
    spec: JobSpec
    corpus: Corpus
    manifests: Mapping[str, Manifest]
    root: Path
    device: str
    trained: jobs.Trained | None = None
    denoising: PrefectFuture[dict[str, Any]] | None = None
    denoised: dict[str, Any] | None = None
    evaluation: PrefectFuture[dict[str, Any]] | None = None
    evaluated: dict[str, Any] | None = None
    failure: str = ""

    @property
    def name(self) -> str:
        return f"Track_H_fold_{self.number:02d}"

    @property
    def denoised_folder(self) -> str:
        return f"denoised/folds/fold_{self.number:02d}"

    @property
    def audit_log(self) -> Path:
        return self.root / "logs" / self.name / AUDIT_LOG

    def note(self, run: Run, text: str, **data: Any) -> None:
        """One step of this fold: in the run's audit log, and as the runbook's line in the fold's own."""
        run.event("fold", f"fold_{self.number:02d}: {text}", fold=self.number, **data)
        self.add_lines([_stamped(text)])

    def fail(self, run: Run, why: str, cause: str) -> None:
        """This fold is lost; the others go on."""
        self.failure = why
        self.note(run, f"Fold failed: {why}", cause=cause)

    def add_lines(self, lines: Sequence[str]) -> None:
        """Put lines that the fold's audit log lacks into it at their time; none is ever taken out."""
        known = self.audit_log.read_text(encoding="utf-8").splitlines() if self.audit_log.exists() else []
        whole = [*known, *(line for line in lines if line not in known)]
        write_text(self.audit_log, "\n".join(sorted(whole, key=lambda line: line.split(" | ")[0])) + "\n")


def _stamped(text: str) -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S} | {text}"


def changes(plan: Any) -> dict[str, dict[str, Any]]:
    """The runbook's options as changes of the recipe: `--batch-size`, `--epochs`, `--patience` …"""
    options = {
        "bs": plan.batch_size,
        "grad_accum": plan.grad_accum,
        "epochs": plan.epochs,
        "early_stop_patience": plan.patience,
        "lr": plan.lr,
        "lr_min": plan.lr_min,
    }
    given = {name: value for name, value in options.items() if value}  # 0: the recipe's own
    merged = {section: dict(values) for section, values in plan.training.changes.items()}
    if given:
        merged["optimiser"] = {**merged.get("optimiser", {}), **given}
    return merged


def prepare(run: Run, recipe: TrainingPlan, plan: Any) -> list[Fold]:
    """Write and check every fold's manifests before anything is submitted."""
    root = Path(plan.output_root) if plan.output_root else artifacts_root()
    root = root if root.is_absolute() else ROOT / root
    folds = []
    for number in sorted(set(plan.folds)):
        opening = [_stamped(f"Starting fold_{number:02d}"), _stamped("Generating manifests")]
        run.event("fold", f"fold_{number:02d}: Generating manifests", fold=number)
        spec, manifests = jobs.fold_spec(number, recipe, plan.corpus, plan.where.device)
        corpus = steps.corpus_at(plan.corpus)
        fold = Fold(number, spec, corpus, manifests, root, plan.where.device)
        fold.add_lines(opening)
        counts = {name: len(manifest) for name, manifest in manifests.items()}
        for name, manifest in manifests.items():
            if manifest.path is not None:
                place(manifest.path, root / "manifests" / f"fold_{number:02d}" / f"{name}_manifest.csv")
        placed = ", ".join(f"manifests/fold_{number:02d}/{name}_manifest.csv" for name in counts)
        fold.note(run, f"Generated manifests: {placed}", inputs=spec.inputs)
        verified = ", ".join(f"{name}={rows}" for name, rows in counts.items())
        fold.note(run, f"Verified counts: {verified}", counts=counts)
        folds.append(fold)
    return folds


def trained(cluster: Cluster, folds: Sequence[Fold]) -> Iterator[Fold]:
    """Send all trainings as one array; yield each fold as its training ends well. A failed one is noted, not raised."""
    sent = cluster.send([fold.spec for fold in folds], array=True)
    for handle, fold in zip(sent, folds, strict=True):
        if handle.key in cluster.reused:
            fold.note(cluster.run, "Skipping training: a whole checkpoint of this plan and these manifests exists")
    waits = {job.submit(cluster, handle): fold for handle, fold in zip(sent, folds, strict=True)}
    for future in as_completed(list(waits)):
        fold = waits[future]
        receipt = _result(cluster, fold, future)
        if receipt is None:
            continue
        try:
            fold.trained = jobs.trained(fold.name, receipt)
        except (BadInput, OSError) as error:  # spoilt between its training and now: this fold's loss, no other's
            fold.fail(cluster.run, str(error), "unreadable_checkpoint")
            continue
        _place_training(fold)
        cluster.run.event("fold", f"fold_{fold.number:02d}: Checkpoint ready", sha256=fold.trained.best_sha256)
        yield fold


def denoise(cluster: Cluster, fold: Fold, plan: Settings) -> None:
    """Start denoising a fold's three splits; nobody waits for the slowest fold."""
    if fold.trained is None:
        return
    spec = jobs.denoise_spec(
        f"fold_{fold.number:02d}", fold.corpus, fold.manifests, fold.trained.best,
        layout=plan.layout, batch_size=plan.inference_batch_size, device=fold.device,
    )  # fmt: skip
    (sent,) = cluster.send([spec])
    what = "Skipping inference, done before:" if sent.key in cluster.reused else "Starting inference for"
    for split in fold.manifests:
        fold.note(cluster.run, f"{what} {split} -> {fold.denoised_folder}/{split}")
    fold.denoising = job.submit(cluster, sent)


def finish(cluster: Cluster, folds: Sequence[Fold]) -> None:
    """As each fold's denoising ends, put its outputs in the seed's places and score them beside the controls."""
    waits = {fold.denoising: fold for fold in folds if fold.denoising is not None}
    for future in as_completed(list(waits)):
        fold = waits[future]
        receipt = _result(cluster, fold, future)
        if receipt is not None:
            fold.denoised = receipt["outputs"]
            for split, row in fold.denoised.items():
                place_tree(Path(row["folder"]), fold.root / fold.denoised_folder / split)
            spec = jobs.fold_evaluation_spec(f"fold_{fold.number:02d}", fold.corpus, fold.manifests, fold.denoised)
            fold.evaluation = job.submit(cluster, *cluster.send([spec]))
    for fold in folds:
        if fold.evaluation is not None:
            fold.evaluated = _result(cluster, fold, fold.evaluation)
            if fold.evaluated is not None:
                fold.note(cluster.run, "Fold completed")


def _result(cluster: Cluster, fold: Fold, future: PrefectFuture[dict[str, Any]]) -> dict[str, Any] | None:
    try:
        return future.result()
    except JobLost as lost:
        _place_logs(fold, lost.outcome.folder / "logs" / fold.name)
        fold.fail(cluster.run, lost.line, lost.outcome.cause)
        log = fold.audit_log.with_name("train.log")
        told = log.read_text(encoding="utf-8") if log.exists() else ""
        write_text(log, f"{told}{lost.outcome.message.rstrip()}\n")
        return None


def _place_logs(fold: Fold, logs: Path) -> None:
    """A training's log, metrics and events; its audit lines take their places among the fold's own."""
    if logs.is_dir():
        place_tree(logs, fold.root / "logs" / fold.name, skip=(AUDIT_LOG,))
        fold.add_lines((logs / AUDIT_LOG).read_text(encoding="utf-8").splitlines())


def _place_training(fold: Fold) -> None:
    done = fold.trained
    if done is None:
        return
    origin = {"sha256": done.best_sha256, "path": str(fold.corpus.root), **fold.spec.inputs}
    for folder in (fold.root / "checkpoints" / fold.name, fold.root / "checkpoints" / "prod" / fold.name):
        place(done.best, folder / steps.BEST)
        write_json((folder / steps.BEST).with_suffix(".json"), origin)
    _place_logs(fold, done.folder / "logs" / fold.name)
    speed = done.folder / f"fold_{fold.number:02d}_speed.json"
    if speed.exists():
        place(speed, fold.root / "artifacts" / "cross_validation" / speed.name)


def summarise(run: Run, folds: Sequence[Fold], plan: Settings) -> State[Any]:
    """`fold_summary.csv`, the review over folds, their artifacts, and the run's end: Failed when any fold failed."""
    rows = [_row(fold) for fold in folds]
    root = folds[0].root if folds else artifacts_root()
    _write_csv(root / "artifacts" / "cross_validation" / "fold_summary.csv", pd.DataFrame(rows))
    audit.publish_table(run, "fold-summary", rows, "One row a fold")
    figures = _figures(folds)
    if not figures.empty:
        _write_csv(root / "artifacts" / "cross_validation" / "fold_figures.csv", figures)
        review = over_folds(figures)
        _write_csv(root / "artifacts" / "cross_validation" / "review.csv", review)
        audit.publish_table(run, "review", records(review), "Mean and standard deviation over folds")
    review_folds(run, folds)
    failed = [fold for fold in folds if fold.failure]
    if failed:
        return outcome.failed(run, "FoldFailed", "; ".join(f"{fold.name}: {fold.failure}" for fold in failed))
    return outcome.conclude(run, f"{len(folds)} folds trained, denoised and scored")


def review_folds(run: Run, folds: Sequence[Fold]) -> None:
    """The review over folds as a page, as artifacts, and as `reviewing_the_5fold_run.md`; nothing without a fold."""
    from denoise_core.report.campaign import worst_examples, write_campaign_report
    from denoise_core.report.campaign_blocks import worst_captures

    done = [fold for fold in folds if fold.evaluated and fold.trained and fold.denoised]
    if not done:
        return
    captures = pd.concat(
        [pd.read_csv(fold.evaluated["captures"]).assign(fold=fold.number) for fold in done if fold.evaluated]
    )
    outputs = {fold.number: Path(fold.denoised["test"]["folder"]) for fold in done if fold.denoised}
    curves = {fold.number: pd.read_csv(fold.trained.receipt["metrics_csv"]) for fold in done if fold.trained}
    with promotion.locked():  # a refused run appends to the same review
        report = write_campaign_report(
            run.folder,
            captures,
            curves,
            failures={fold.number: fold.failure for fold in folds if fold.failure},
            examples=worst_examples(done[0].corpus, worst_captures(captures), outputs),
            review=artifacts_root() / "final_analytics" / "reviewing_the_5fold_run.md",
        )
    publish_pieces(run, report.page)


def _figures(folds: Sequence[Fold]) -> pd.DataFrame:
    """One row a fold, split and method."""
    done = [(fold.number, fold.evaluated["rows"]) for fold in folds if fold.evaluated]
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
    place_of = fold.root / "checkpoints" / fold.name / steps.BEST
    return {
        **base,
        "best_epoch": done.receipt["best_epoch"],
        "epochs_run": done.receipt["epochs_run"],
        "best_sam_deg": done.receipt["best_sam_deg"],
        "checkpoint": str(place_of.relative_to(fold.root)),
        "checkpoint_sha256": done.best_sha256,
        "audit_log": f"logs/{fold.name}/auditing_manifest.log",
    }
