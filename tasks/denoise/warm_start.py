"""The warm start's trainings as one set of jobs: the start's fold where it is missing, the training inside training
that chooses an epoch, the one that is judged; and the first two again for each fold that worth is measured on, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from denoise_core.corpus.manifest import Manifest
from denoise_core.jobs.audit import Held, Unseen
from denoise_core.jobs.train import Trained
from denoise_core.plans import TrainingPlan
from study_core.job import Content
from tasks.conditions import Condition, ended, receipts
from tasks.denoise import inputs, steps
from tasks.denoise.inputs import Data, Inside
from tasks.denoise.parameters import WarmStartPlan
from tasks.dispatch import Cluster
from tasks.run import Run


@dataclass(frozen=True)
class WarmStarted:
    """What is judged, what its worth is measured by, and what ships where that is not resolved."""

    trained: Trained
    unseen: Unseen | None
    unresolved: str


@dataclass(eq=False)
class _Fold:
    """One fold on its way: its start, a file or a training, and the training that chooses an epoch inside training."""

    number: int
    split: Inside | None
    file: Path | None
    begun: Condition[Trained] | None = None
    chosen: Condition[Trained] | None = None

    @property
    def jobs(self) -> list[Condition[Trained]]:
        return [one for one in (self.begun, self.chosen) if one is not None]

    @property
    def start(self) -> Path:
        """Once it is there."""
        return self.file or receipts(self.jobs[:1])[0].best.path


def carry_out(
    cluster: Cluster, plan: WarmStartPlan, data: Data, recipe: TrainingPlan, inside: Inside | None
) -> WarmStarted:
    """Train everything. The loss of another fold's training costs its part of the worth, and nothing else.

    Raises what a training that the judged one needs was lost by; BadInput where worth is asked of every fold and can
    be measured on none.
    """
    run, given = cluster.run, plan.start
    file = inputs.existing_start(run, given.checkpoint, given.fold, data.corpus)
    known = not given.checkpoint and inputs.of_known_origin(file)
    others = inputs.other_folds(data, plan, inside, known)
    mine, *more = _folds(run, plan, data, recipe, {given.fold: inside, **others}, file)
    judged = Condition(
        lambda: steps.training(
            "god_run", recipe, data.corpus, data.training, data.panel,
            init=mine.start, epoch=mine.chosen.receipt.best_epoch if mine.chosen else None, device=plan.where.device,
        ),
        "train-god_run", needs=mine.jobs, keep=_whole,
    )  # fmt: skip
    needed = [*mine.jobs, judged]
    for one in ended(cluster, [*needed, *(job for fold in more for job in fold.jobs)]):
        if one in needed and one.state == "lost":
            break  # nothing will be judged: what the other folds train is withdrawn
    trained = receipts(needed)[-1]
    lost = [fold.number for fold in more if fold.chosen is None or fold.chosen.state != "done"]
    if more:
        without = f"; lost: {', '.join(map(str, lost))}" if lost else ""
        run.event("worth", f"Worth is measured on {1 + len(more) - len(lost)} folds{without}", lost=lost)
    follows = "filter" if more and not lost else "model"
    measured = [fold for fold in (mine, *more) if fold.number not in lost]
    return WarmStarted(
        trained, _unseen(data, measured) if known else None,
        follows if plan.unresolved == "recommended" else plan.unresolved,
    )  # fmt: skip


def _folds(
    run: Run, plan: WarmStartPlan, data: Data, recipe: TrainingPlan, splits: Mapping[int, Inside | None],
    file: Path | None,
) -> list[_Fold]:  # fmt: skip
    """The folds with their jobs, the start's first. A start that lies there is not trained again, unless it is a
    stranger's: what that one has seen is not known."""
    mine, *others = splits
    files = {mine: file, **{fold: inputs.campaign_start(run, fold, data.corpus) for fold in others}}
    given, device = plan.start.training, plan.where.device
    again = (
        inputs.recipe(given.recipe, "track_h", plan.where.profile, given.changes, data.corpus)
        if None in files.values()
        else None
    )
    folds = [_Fold(number, split, files[number]) for number, split in splits.items()]
    for fold in folds:
        own = fold.number == mine
        if again is not None and fold.file is None:
            manifests = inputs.fold_data(data.corpus, fold.number)
            asked = steps.fold_training(fold.number, again, data.corpus, manifests, device)
            fold.begun = Condition(asked, keep=partial(_started, run) if own else _whole)
        elif own:
            inputs.record_start(run, fold.start)
        if fold.split is not None:
            fold.chosen = _choosing(run, data, fold, fold.split, recipe, device, own)
    return folds


def _choosing(
    run: Run, data: Data, fold: _Fold, split: Inside, recipe: TrainingPlan, device: str, own: bool
) -> Condition[Trained]:
    """A training without the groups that choose its epoch, and without those that its fold tests on."""
    name = "god_run_inside" if own else f"god_run_inside_fold_{fold.number:02d}"

    def keep(found: Trained) -> None:
        _whole(found)
        if own:
            groups = split.chosen_on.groups
            text = f"Epoch {found.best_epoch} of {found.epochs_run}, chosen on {len(groups)} groups inside training"
            run.event("epoch", text, epoch=found.best_epoch, groups=list(groups))

    return Condition(
        lambda: steps.training(
            name, recipe, data.corpus, split.training, split.chosen_on, init=fold.start, device=device
        ),
        f"train-{name}", needs=fold.jobs, keep=keep,
    )  # fmt: skip


def _whole(found: Trained) -> None:
    found.best.checked()


def _started(run: Run, found: Trained) -> None:
    _whole(found)
    inputs.record_start(run, found.best.path)


def _unseen(data: Data, folds: Sequence[_Fold]) -> Unseen:
    """Models and groups that neither they nor any choice has seen. Those trained inside training where there are some:
    they are of the recipe that is judged. Else the fold's own model."""
    first = folds[0]
    if first.chosen is None:
        parts = inputs.fold_data(data.corpus, first.number)
        return Unseen(what="the warm start's fold model on its test groups", models=(_held(first.start, **parts),))
    split = {fold: fold.split for fold in folds if fold.split is not None}
    named = ", ".join(map(str, sorted(fold.number for fold in split)))
    what = f"the same recipe, trained without the test groups of fold {named}, on them"
    if len(split) > 1:
        what = f"the same recipe, trained once for each of folds {named} without its test groups, on them"
    models = [
        _held(receipts(fold.jobs)[-1].best.path, train=part.training, val=part.chosen_on, test=part.unseen)
        for fold, part in split.items()
    ]
    return Unseen(what=what, models=tuple(models))


def _held(checkpoint: Path, **manifests: Manifest) -> Held:
    parts = {name: steps.manifest_content(one) for name, one in manifests.items()}
    return Held(checkpoint=Content.of(checkpoint), **parts)
