"""A cross-validation campaign: folds prepared, trained as one array, denoised as each ends, scored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect.futures import PrefectFuture, as_completed

from denoise_core.corpus.folds import fold_numbers
from denoise_core.corpus.manifest import Manifest
from denoise_core.corpus.store import Corpus
from denoise_core.jobs.denoise import Denoised
from denoise_core.jobs.fold import FoldScored
from denoise_core.jobs.train import Trained
from denoise_core.plans import TrainingPlan
from study_core.errors import BadInput
from study_core.files import place, place_tree, sha256_of, write_json, write_text
from study_core.job import received
from tasks.denoise import steps
from tasks.denoise.inputs import BEST, campaign_root, claimed_root, fold_data
from tasks.denoise.parameters import CrossValidationPlan
from tasks.dispatch import Ask, Cluster, JobLost, job
from tasks.run import Run
from tasks.slurm.dispatcher import Job

AUDIT_LOG = "auditing_manifest.log"


@dataclass
class Fold:
    """One fold on its way: its job, its receipts, or why it failed."""

    number: int
    asked: Ask[Trained]
    corpus: Corpus
    manifests: Mapping[str, Manifest]
    root: Path
    device: str
    sent: Job | None = None
    trained: Trained | None = None
    denoising: PrefectFuture[dict[str, Any]] | None = None
    denoised: Denoised | None = None
    evaluation: PrefectFuture[dict[str, Any]] | None = None
    scored: FoldScored | None = None
    failure: str = ""

    @property
    def name(self) -> str:
        return _name(self.number)

    @property
    def denoised_folder(self) -> str:
        return f"denoised/folds/fold_{self.number:02d}"

    @property
    def checkpoint(self) -> Path:
        """Where the runbook has the fold's best checkpoint."""
        return _checkpoint(self.root, self.number)

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


def changes(plan: CrossValidationPlan) -> dict[str, dict[str, Any]]:
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


def _name(number: int) -> str:
    return f"Track_H_fold_{number:02d}"


def _checkpoint(root: Path, number: int) -> Path:
    return root / "checkpoints" / _name(number) / BEST


def _fold(number: int, recipe: TrainingPlan, plan: CrossValidationPlan, corpus: Corpus) -> Fold:
    """A fold with its manifests counted and checked."""
    manifests = fold_data(corpus, number)
    asked = steps.fold_training(number, recipe, corpus, manifests, plan.where.device)
    return Fold(number, asked, corpus, manifests, campaign_root(corpus, plan.output_root), plan.where.device)


def _numbers(plan: CrossValidationPlan, corpus: Corpus) -> list[int]:
    """The folds asked for, each once; every fold that the corpus has where none was named."""
    return sorted(set(plan.folds)) or list(fold_numbers(corpus.captures, corpus.study))


def prepare(run: Run, recipe: TrainingPlan, plan: CrossValidationPlan, corpus: Corpus) -> list[Fold]:
    """Write and check every fold's manifests before anything is submitted."""
    folds = []
    claimed_root(run, corpus, plan.output_root)
    for number in _numbers(plan, corpus):
        opening = [_stamped(f"Starting fold_{number:02d}"), _stamped("Generating manifests")]
        run.event("fold", f"fold_{number:02d}: Generating manifests", fold=number)
        fold = _fold(number, recipe, plan, corpus)
        fold.add_lines(opening)
        counts = {name: len(manifest) for name, manifest in fold.manifests.items()}
        for name, manifest in fold.manifests.items():
            if manifest.path is not None:
                place(manifest.path, fold.root / "manifests" / f"fold_{number:02d}" / f"{name}_manifest.csv")
        placed = ", ".join(f"manifests/fold_{number:02d}/{name}_manifest.csv" for name in counts)
        fold.note(run, f"Generated manifests: {placed}", inputs=fold.asked.request.inputs())
        verified = ", ".join(f"{name}={rows}" for name, rows in counts.items())
        fold.note(run, f"Verified counts: {verified}", counts=counts)
        folds.append(fold)
    return folds


def earlier(cluster: Cluster, recipe: TrainingPlan, plan: CrossValidationPlan, corpus: Corpus) -> list[Fold]:
    """Folds not asked for this time that stand whole from before: same plan, data, code and outputs. Runs nothing.

    They stay in the summary, so that the runbook's `--folds 4` adds a row to it and takes none out.
    """
    found = []
    for number in sorted(set(fold_numbers(corpus.captures, corpus.study)) - set(_numbers(plan, corpus))):
        if not _checkpoint(campaign_root(corpus, plan.output_root), number).exists():
            continue  # before its manifests are made: a first fold has no others
        fold = _fold(number, recipe, plan, corpus)
        fold.trained = cluster.known(fold.asked)
        if fold.trained is None or sha256_of(fold.checkpoint) != fold.trained.best.sha256:
            continue  # another plan's fold stands there by now
        fold.denoised = cluster.known(_denoising(fold, fold.trained, plan))
        if fold.denoised is not None:
            fold.scored = cluster.known(_scoring(fold, fold.denoised))
        if fold.scored is not None:
            found.append(fold)
    return found


def _denoising(fold: Fold, done: Trained, plan: CrossValidationPlan) -> Ask[Denoised]:
    return steps.denoising(
        f"fold_{fold.number:02d}", fold.corpus, fold.manifests, done.best.path,
        layout=plan.layout, batch_size=plan.inference_batch_size, device=fold.device,
    )  # fmt: skip


def _scoring(fold: Fold, outputs: Denoised) -> Ask[FoldScored]:
    return steps.fold_scoring(f"fold_{fold.number:02d}", fold.corpus, fold.manifests, outputs)


def trained(cluster: Cluster, folds: Sequence[Fold]) -> Iterator[Fold]:
    """Send all trainings as one array; yield each fold as its training ends well. A failed one is noted, not raised."""
    sent = cluster.send([fold.asked for fold in folds], array=True)
    for handle, fold in zip(sent, folds, strict=True):
        fold.sent = handle
        if handle.key in cluster.reused:
            fold.note(cluster.run, "Skipping training: a whole checkpoint of this plan and these manifests exists")
    waits = {job.submit(cluster, handle): fold for handle, fold in zip(sent, folds, strict=True)}
    for future in as_completed(list(waits)):
        fold = waits[future]
        receipt = _result(cluster, fold, future)
        if receipt is None:
            continue
        try:
            done = fold.asked.receipt(receipt)
            done.best.checked()
        except (BadInput, OSError) as error:  # spoilt between its training and now: this fold's loss, no other's
            fold.fail(cluster.run, str(error), "unreadable_checkpoint")
            continue
        fold.trained = done
        _place_training(fold, done)
        cluster.run.event("fold", f"fold_{fold.number:02d}: Checkpoint ready", sha256=done.best.sha256)
        yield fold


def denoise(cluster: Cluster, fold: Fold, plan: CrossValidationPlan) -> None:
    """Start denoising a fold's three splits; nobody waits for the slowest fold."""
    if fold.trained is None:
        return
    (sent,) = cluster.send([_denoising(fold, fold.trained, plan)], inside=fold.sent)
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
            fold.denoised = received(Denoised, receipt)
            for split, output in fold.denoised.outputs.items():
                place_tree(output.folder.path, fold.root / fold.denoised_folder / split)
            fold.evaluation = job.submit(cluster, *cluster.send([_scoring(fold, fold.denoised)], inside=fold.sent))
    for fold in folds:
        if fold.evaluation is not None:
            result = _result(cluster, fold, fold.evaluation)
            if result is not None:
                fold.scored = received(FoldScored, result)
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


def _place_training(fold: Fold, done: Trained) -> None:
    origin = {"sha256": done.best.sha256, "path": str(fold.corpus.root), **fold.asked.request.inputs()}
    for folder in (fold.root / "checkpoints" / fold.name, fold.root / "checkpoints" / "prod" / fold.name):
        place(done.best.path, folder / BEST)
        write_json((folder / BEST).with_suffix(".json"), origin)
    _place_logs(fold, done.folder / "logs" / fold.name)
    speed = done.folder / f"fold_{fold.number:02d}_speed.json"
    if speed.exists():
        place(speed, fold.root / "artifacts" / "cross_validation" / speed.name)
