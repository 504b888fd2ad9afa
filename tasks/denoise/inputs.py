"""The denoiser's data, recipes and checkpoints: what a flow looks up and checks before it sends a job."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import task

from denoise_core import recipes
from denoise_core.corpus.folds import Fold, fold_manifests, fold_numbers, inside_training
from denoise_core.corpus.layout import manifest_path
from denoise_core.corpus.manifest import (
    Manifest,
    read_manifest,
    verify_disjoint,
    verify_manifest_hash,
    write_manifest,
)
from denoise_core.corpus.store import Corpus, open_corpus
from denoise_core.corpus.usable import values_told, verify_training
from denoise_core.estimate import available_memory, gigabytes, memory, verify_gpu_memory, verify_memory
from denoise_core.evaluation.thresholds import GateThresholds
from denoise_core.plans import TrainingPlan
from study_core.errors import BadInput
from study_core.files import copy, create_json, peek_json, read_json, sha256_of
from study_core.paths import below
from study_core.plan import changed
from study_core.verdict import changed_thresholds
from tasks import blessings, channels, promotion
from tasks.channels import Line
from tasks.denoise.parameters import WarmStartPlan, trains_full_size
from tasks.located import located
from tasks.provenance import ROOT, artifacts_root
from tasks.run import Run, logger
from tasks.slurm.profiles import load_profile

BEST = "mamba_tiny_uv_best.pt"
FILTERS = "checkpoints/filters"
OWNER = "checkpoints/corpus.json"  # below a campaign's folder: whose it is
TENANT = "denoise"  # whose models its runs ship


@dataclass(frozen=True)
class Data:
    """An opened corpus with the manifests of one study, written where jobs can read them."""

    corpus: Corpus
    training: Manifest
    panel: Manifest

    @property
    def line(self) -> Line:
        """What its models are judged on."""
        return Line(str(self.corpus.root), self.corpus.sha256, self.panel.rows_sha256)

    def judged_by(self, thresholds: GateThresholds) -> dict[str, Any]:
        """What a verdict says of where it comes from: the data, and which thresholds are not the study's own."""
        changed = changed_thresholds(thresholds, GateThresholds())
        return {"data": self.line.data, "data_sha256": self.corpus.sha256, "changed_thresholds": changed}

    @property
    def inputs(self) -> dict[str, str]:
        return {
            "corpus": self.corpus.sha256,
            "training": self.training.rows_sha256,
            "panel": self.panel.rows_sha256,
        }


def corpus_at(path: str) -> Corpus:
    """Open a corpus given relative to the project or absolute."""
    root = ROOT / path
    if not root.exists():
        raise BadInput(
            "no corpus here",
            file=root,
            remedy="make one: python -m denoise_core corpus --out data/mini --size mini --seed 1",
        )
    corpus = open_corpus(root.resolve())
    logger().info("Corpus %s: %s", path, values_told(corpus))
    return corpus


def stored(manifest: Manifest, name: str) -> Manifest:
    """The manifest as a file named by its content, so that equal manifests are one file for every run."""
    digest = manifest.bytes_sha256 or manifest.rows_sha256
    target = artifacts_root() / "manifests" / f"{name}_{digest[:12]}.csv"
    if not target.exists():
        if manifest.path is None:
            return write_manifest(manifest.frame, target)
        copy(manifest.path, target)  # byte for byte: an auditor's hash of the file must go on matching
    return read_manifest(target)


@task(task_run_name="verify panel")
def verify_panel(corpus: str, manifest: str, expected_hash: str, training_manifest: str = "") -> Data:
    """Gate 0 before anything is spent: the panel is the one expected, and none of it is trained on."""
    opened = corpus_at(corpus)
    panel = read_manifest(located(manifest)) if manifest else opened.manifest("validation_panel")
    if expected_hash:
        verify_manifest_hash(panel, expected_hash)
    training = read_manifest(located(training_manifest)) if training_manifest else opened.training_beside(panel)
    verify_disjoint(panel, training)
    verify_training(opened, training, panel)
    return Data(opened, stored(training, "train"), stored(panel, "panel"))


def recipe(
    name: str, default: str, profile: str, changes: Mapping[str, Mapping[str, Any]], corpus: Corpus
) -> TrainingPlan:
    """A named plan with changes, on the corpus's grid; `recommended` is the default, mini without a GPU that computes.

    BadInput, before anything is sent, where it trains on a CPU, or a GPU, whose memory cannot hold it.
    """
    site = load_profile(profile)
    section = site.section(f"{TENANT}/train")
    computes = trains_full_size(profile)
    sized = default if computes else f"{default}_mini"
    chosen = recipes.named(sized if name == "recommended" else name)
    plan = recipes.fitted(changed(chosen, changes), corpus.wavelength_nm.tolist(), corpus.study.roi_nm)
    if not computes and section.memory_bytes is not None:
        verify_memory(plan, len(corpus), section.memory_bytes, f"the stage train of profile {site.name} has")
    if not computes and site.executor == "local":
        verify_memory(plan, len(corpus), available_memory(), "free here are")
    if computes and section.gpu_memory_bytes is not None:
        verify_gpu_memory(plan, len(corpus), section.gpu_memory_bytes, f"a GPU of profile {site.name} has")
    needs = "" if computes else f", about {gigabytes(memory(plan, len(corpus)).of(plan.optimiser.bs))} of memory"
    logger().info("Recipe %s: up to %d epochs%s", plan.name, plan.optimiser.epochs, needs)
    return plan


def fold_data(corpus: Corpus, fold: int) -> dict[str, Manifest]:
    """A fold's three manifests, counted and checked before anything is submitted."""
    parts = fold_manifests(corpus, fold)
    manifests = {"train": parts.train, "val": parts.val, "test": parts.test}
    verify_training(corpus, *manifests.values())
    return {name: stored(part, f"fold_{fold:02d}_{name}") for name, part in manifests.items()}


@dataclass(frozen=True)
class Inside:
    """The training manifest in three: what an epoch is chosen on, what nothing sees, and the rest."""

    training: Manifest
    chosen_on: Manifest
    unseen: Manifest


def inside(data: Data, epoch_chosen_on: str, fold: int) -> Inside | None:
    """Where the epoch is chosen inside training: its groups, checked before anything is submitted. None: the panel."""
    if epoch_chosen_on == "panel":
        return None
    try:
        parts = inside_training(data.corpus, data.training, fold)
    except BadInput as error:
        if epoch_chosen_on == "inside":
            raise
        logger().info("The panel chooses the epoch: %s", error)
        return None
    return _inside(parts)


def _inside(parts: Fold, suffix: str = "") -> Inside:
    named = {"train_inside": parts.train, "chosen_on": parts.val, "unseen_inside": parts.test}
    return Inside(*(stored(part, f"{name}{suffix}") for name, part in named.items()))


def other_folds(data: Data, plan: WarmStartPlan, inside: Inside | None, known: bool) -> dict[int, Inside]:
    """The folds beside the start's on which worth is measured, too, each splitting the training as that one does.

    `known`: whether what the start has seen is known. BadInput where every fold is asked for and there can be none.
    """
    asked = plan.worth_folds
    if asked == "start" or (asked == "recommended" and not trains_full_size(plan.where.profile)):
        return {}
    why = "the panel chooses the epoch" if inside is None else "" if known else "what its start has seen is not known"
    if why and asked == "all":
        remedy = (
            "measure it on the start's fold, or leave the start's checkpoint and the choice of the epoch as they are"
        )
        raise BadInput(f"worth cannot be measured on every fold: {why}", remedy=remedy)
    found = {}
    for fold in () if why else fold_numbers(data.corpus.captures, data.corpus.study):
        parts = None
        if fold != plan.start.fold:
            with suppress(BadInput):  # the panel holds out all that it chooses or tests on
                parts = inside_training(data.corpus, data.training, fold)
        if parts is not None:
            found[fold] = _inside(parts, f"_fold_{fold:02d}")
    return found


def differences(plan: TrainingPlan) -> list[str]:
    """How a plan differs from the seed's recipe of the same study."""
    seed = "track_h" if plan.name.startswith("track_h") else "act_of_god_seed"
    return recipes.difference(plan, recipes.named(seed))


def claimed_root(run: Run, corpus: Corpus, output_root: str) -> Path:
    """`campaign_root`, taken by this corpus for good: two campaigns that start at once get a folder each."""
    root = campaign_root(corpus, output_root)
    (root / OWNER).parent.mkdir(parents=True, exist_ok=True)
    create_json(root / OWNER, {"corpus": corpus.sha256, "path": str(corpus.root)})
    root = campaign_root(corpus, output_root)  # somebody else's, where they were a moment faster
    if root != artifacts_root():
        run.event("folder", f"The campaign's files lie in {root}")
    return root


def campaign_root(corpus: Corpus, output_root: str = "") -> Path:
    """Where a campaign's files lie under the runbook's names: `artifacts/`, or a folder below it that was asked for.

    Those of another corpus are never written over: then they lie in `artifacts/corpora/<name>-<hash>`, and a folder
    that was asked for is a BadInput.
    """
    root = below(artifacts_root(), output_root) if output_root else artifacts_root()
    receipts = sorted(root.glob(f"checkpoints/*/{Path(BEST).with_suffix('.json')}"))
    placed = [peek_json(path) for path in (root / OWNER, *receipts)]
    if all(one is None or one.get("corpus") == corpus.sha256 for one in placed):
        return root
    if output_root:
        raise BadInput("holds folds of another corpus", file=root, remedy="name another output_root")
    name = re.sub(r"[^A-Za-z0-9_]+", "-", corpus.root.resolve().name)[:40].strip("-")
    return root / "corpora" / f"{name}-{corpus.sha256[:8]}"


def existing_start(run: Run, checkpoint: str | None, fold: int, corpus: Corpus) -> Path | None:
    """The warm start's checkpoint: the file asked for, else the fold's in `checkpoints/prod/`, else None.

    A fold that a campaign trained on another corpus, or whose file is not the one that it placed (half a copy, say),
    is passed over: its receipt beside it says so.
    """
    if checkpoint:
        return checkpoint_file(checkpoint, corpus)
    name = f"checkpoints/prod/Track_H_fold_{fold:02d}/{BEST}"
    for path in dict.fromkeys((campaign_root(corpus) / name, artifacts_root() / name, ROOT / name)):
        if not path.exists():
            continue
        receipt = receipt_of(path)
        if receipt is None and path.with_suffix(".json").exists():
            run.event("start", f"Passed over {path}: not the file that its campaign placed")
            continue
        if receipt is None:
            try:
                return checkpoint_file(str(path), corpus)
            except BadInput as error:
                run.event("start", f"Passed over {error}")
            continue
        if receipt["corpus"] == corpus.sha256:
            return path
        run.event("start", f"Passed over {path}: trained on another corpus", trained_on=receipt["corpus"])
    return None


def campaign_start(run: Run, fold: int, corpus: Corpus) -> Path | None:
    """A fold's checkpoint, where a campaign of ours placed it."""
    path = existing_start(run, None, fold, corpus)
    return path if of_known_origin(path) else None


def of_known_origin(start: Path | None) -> bool:
    """Whether it is known what a fold's start has seen: a campaign of ours placed it, or it is yet to be trained."""
    return start is None or receipt_of(start) is not None


def receipt_of(checkpoint: Path) -> dict[str, Any] | None:
    """What a campaign wrote beside a checkpoint that it placed: corpus, manifests, plan. None for any other file."""
    path = checkpoint.with_suffix(".json")
    content: dict[str, Any] | None = read_json(path) if path.exists() else None
    return content if content and content.get("sha256") == sha256_of(checkpoint) else None


def started_on(start: str | None, fold: int, corpus: Corpus) -> tuple[str, ...]:
    """Groups that the warm start was trained or chosen on; none are known of a file's, or without such a fold."""
    if not start:
        with suppress(BadInput):
            parts = fold_manifests(corpus, fold)
            return (*parts.train.groups, *parts.val.groups)
    return ()


def own_filter(checkpoint: Path) -> Path | None:
    """The linear filter that a model corrects, as a checkpoint of its own beside nobody's run; None where it corrects
    none."""
    from denoise_core.model.checkpoints import read_checkpoint, save_linear

    state = read_checkpoint(checkpoint).get("base_state")
    if state is None:
        return None
    path = artifacts_root() / FILTERS / f"filter_of_{sha256_of(checkpoint)[:12]}.pt"
    save_linear(path, state)
    return path


def record_start(run: Run, checkpoint: Path) -> None:
    """Which weights the warm start begins with."""
    run.event("start", f"Warm start from {checkpoint}", checkpoint=str(checkpoint), sha256=sha256_of(checkpoint))


def checkpoints_of(paths: Sequence[str], corpus: Corpus) -> list[Path]:
    """Checkpoint files of the corpus's grid, folders taken as all the .pt below them."""
    found: list[Path] = []
    for text in paths:
        path = ROOT / text
        found += sorted(path.rglob("*.pt")) if path.is_dir() else [path]
    if not found:
        raise BadInput("no checkpoint to audit", file=", ".join(paths) or None, remedy="name .pt files or their folder")
    return [checkpoint_file(str(path), corpus) for path in found]


def model_or_production(checkpoint: str | None, channel: str, corpus: Corpus) -> Path:
    """The checkpoint named, else what a channel has in production: the one named, the corpus's own, or the only one.

    Of the corpus's grid in any case.
    """
    if checkpoint:
        return checkpoint_file(checkpoint, corpus)
    model = promotion.checked_model(channels.in_use(TENANT, channel, data=str(corpus.root)))
    if model is None:
        raise BadInput("nothing is in production", remedy="name a checkpoint, or run act-of-god/warm-start first")
    return checkpoint_file(str(model), corpus)


def incumbent(run: Run, corpus: Corpus) -> Path | None:
    """What the run's channel has in production, of the corpus's grid; None where it has nothing."""
    model, held = promotion.production_model(run), blessings.production(run.registry, run.channel)
    same = held is not None and held.verdict.data_sha256 == corpus.sha256  # its grid is the corpus's: nothing to open
    return model if model is None or same else checkpoint_file(str(model), corpus)


def manifest_named(corpus: str, name: str) -> tuple[Corpus, Manifest]:
    """A manifest by the corpus's own name for it, or a CSV file; with the corpus that holds its captures."""
    opened = corpus_at(corpus)
    staging = manifest_path(opened.root, name) if name == "staging" else None
    if staging is not None and any(staging.parent.glob("treatment_*")):
        opened = corpus_at(str(staging.parent))  # captures before the alignment: a corpus of its own
    manifest = read_manifest(located(name)) if name.endswith(".csv") else opened.manifest(name)
    opened.rows(manifest)
    return opened, stored(manifest, Path(name).stem)


def act_b_stages(
    base: TrainingPlan, failed_gates: Sequence[str]
) -> tuple[dict[str, TrainingPlan], list[dict[str, Any]]]:
    """Act B's two trainings in order, and what was rebalanced for which failed gate."""
    rebalanced, multipliers = recipes.rebalance(base, failed_gates)
    return {
        "act_b_stage1": recipes.act_b_stage1(rebalanced),
        "act_b_stage2": recipes.act_b_stage2(rebalanced),
    }, multipliers


def checkpoint_file(text: str, corpus: Corpus) -> Path:
    """A checkpoint that must exist and be one of the corpus's grid: BadInput now, not an hour later on a node."""
    path = located(text)
    from denoise_core.model.checkpoints import verify_checkpoint  # torch: seconds that only a named checkpoint costs

    verify_checkpoint(path, corpus.wavelength_nm)
    return path
