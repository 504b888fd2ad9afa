"""A cross-validation campaign: folds prepared, trained as one array, each denoised and scored as its inputs end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from denoise_core.corpus.folds import fold_numbers
from denoise_core.corpus.manifest import Manifest
from denoise_core.corpus.store import Corpus
from denoise_core.jobs.denoise import Denoised
from denoise_core.jobs.fold import FoldScored
from denoise_core.jobs.train import Trained
from denoise_core.plans import TrainingPlan
from study_core.files import place, place_tree, sha256_of, write_json, write_text
from tasks.conditions import Condition, ended
from tasks.denoise import steps
from tasks.denoise.inputs import BEST, campaign_root, claimed_root, fold_data
from tasks.denoise.parameters import CrossValidationPlan
from tasks.dispatch import Ask, Cluster, JobLost
from tasks.run import Run

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
    trained: Trained | None = None
    denoised: Denoised | None = None
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


def carry_out(cluster: Cluster, folds: Sequence[Fold], plan: CrossValidationPlan) -> None:
    """Train all folds as one array; denoise each as its training ends, score it as that does. A failed one is noted."""
    of = {one: fold for fold in folds for one in _conditions(cluster.run, fold, plan)}
    for one in ended(cluster, list(of)):
        if one.state == "lost":
            _lose(cluster.run, of[one], one)
        elif isinstance(one.found, FoldScored):
            of[one].scored = one.found
            of[one].note(cluster.run, "Fold completed")


def _conditions(run: Run, fold: Fold, plan: CrossValidationPlan) -> tuple[Condition[Any], ...]:
    def training(reused: bool) -> None:
        if reused:
            fold.note(run, "Skipping training: a whole checkpoint of this plan and these manifests exists")

    def inference(reused: bool) -> None:
        what = "Skipping inference, done before:" if reused else "Starting inference for"
        for split in fold.manifests:
            fold.note(run, f"{what} {split} -> {fold.denoised_folder}/{split}")

    trained = Condition(fold.asked, keep=partial(_keep_training, run, fold), begun=training)
    denoised = Condition(
        lambda: _denoising(fold, trained.receipt, plan), f"denoise-fold_{fold.number:02d}",
        keep=partial(_keep_outputs, fold), needs=[trained], inside=trained, begun=inference,
    )  # fmt: skip
    scored = Condition(
        lambda: _scoring(fold, denoised.receipt), f"evaluate-fold_{fold.number:02d}", needs=[denoised], inside=trained
    )
    return trained, denoised, scored


def _keep_training(run: Run, fold: Fold, done: Trained) -> None:
    done.best.checked()  # spoilt between its training and now: this fold's loss, no other's
    _place_training(fold, done)
    fold.trained = done
    run.event("fold", f"fold_{fold.number:02d}: Checkpoint ready", sha256=done.best.sha256)


def _keep_outputs(fold: Fold, done: Denoised) -> None:
    for split, output in done.outputs.items():
        place_tree(output.folder.path, fold.root / fold.denoised_folder / split)
    fold.denoised = done


def _lose(run: Run, fold: Fold, one: Condition[Any]) -> None:
    """This fold's loss; a job's last words go where the runbook sends a reader."""
    lost = one.error.outcome if isinstance(one.error, JobLost) else None
    if lost is not None:
        _place_logs(fold, lost.folder / "logs" / fold.name)
        log = fold.audit_log.with_name("train.log")
        told = log.read_text(encoding="utf-8") if log.exists() else ""
        write_text(log, f"{told}{lost.message.rstrip()}\n")
    fold.fail(run, one.reason, one.cause)


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
