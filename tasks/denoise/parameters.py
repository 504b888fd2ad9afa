"""What a person fills in to start a flow: nested models whose titles and help the UI's form shows.

Nothing here names a path of results or a cluster's detail: a profile is named, and read where jobs are sent.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from denoise_core.evaluation.thresholds import GateThresholds
from study_core.paths import Name, Words
from study_core.plan import Frozen
from tasks.parameters import (
    APPROVAL,
    PRODUCTION,
    Approval,
    Common,
    Folder,
    Number,
    OneName,
    Production,
    Rate,
    Text,
    default_profile,
)
from tasks.slurm.profiles import BadProfile, load_profile

RecipeName = Literal[
    "recommended", "act_of_god", "act_of_god_mini", "act_of_god_seed", "act_of_god_seed_mini", "track_h", "track_h_mini"
]


_CHOSEN = (
    "inside: the training groups that the start's fold validates on choose it in a training without them and without "
    "those that it tests on, where the recipe's worth is measured; then all are trained on to that epoch, and the "
    "panel only judges. Twice the training. panel: the best epochs by the panel itself, which then also judges. "
    "recommended: inside, where the fold leaves groups for it."
)
_WORTH = (
    "What the gain over the model's own filter is measured on. start: the start fold's test groups. all: every fold's, "
    "by two more trainings a fold (one where its start is there), beside the others where the profile has room. "
    "recommended: all, where the profile has a GPU."
)
_UNRESOLVED = (
    "What ships where the gain over the model's own filter, on groups that no choice has seen, is not resolved or not "
    "measured. filter: it is judged beside the model, and ships if it passes. recommended: filter, where worth is "
    "measured on every fold; model, where on the start's alone, which seldom resolves it."
)
_BATCH = "Captures at once: memory against time, never the result."


def _default_corpus() -> str:
    return os.environ.get("GATED_CORPUS") or "data/mini"


class OnCorpus(Common):
    """What every flow of the denoiser asks for."""

    corpus: Words = Field(
        default_factory=_default_corpus,
        title="Corpus folder",
        description="The seed's layout or packed; `python -m denoise_core corpus` makes a synthetic one.",
    )


_SIZES = {
    True: "the full size, up to 400 epochs on a GPU",
    False: "the mini size, six epochs at most, minutes on two cores",
}


def trains_full_size(profile: str) -> bool:
    """Whether a profile's trainings have a GPU that computes. BadProfile for one that cannot be read."""
    site = load_profile(profile)
    return site.section("denoise/train").gpus > 0 and not site.fake_gpus


def _recommended(schema: dict[str, Any]) -> None:
    """Which recipe will run, and how long, by the profile that the form starts with; read when it is registered."""
    profile = default_profile()
    with suppress(BadProfile):
        size = _SIZES[trains_full_size(profile)]
        schema["description"] += f" With profile {profile}: {size}. The run's log says memory and epochs."


class Training(Frozen):
    """A named recipe and what to change in it."""

    recipe: Annotated[RecipeName, BeforeValidator(lambda value: value or "recommended")] = Field(
        "recommended",
        title="Recipe",
        description="recommended: what measurement favours for this flow, at mini size where the profile has no GPU.",
        json_schema_extra=_recommended,
    )
    changes: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        title="Changes to the recipe",
        description='By section: `{"optimiser": {"epochs": 50, "lr": 1e-4}}`.',
    )


class Start(Frozen):
    """Where the warm start begins."""

    checkpoint: Text = Field(
        "", title="Checkpoint file", description="Ours or the published format. Empty: the fold's, below."
    )
    fold: int = Field(
        2, ge=1, title="Fold", description="Without a file: this fold's checkpoint, trained first if missing."
    )
    training: Training = Field(
        Training(), title="Training of the fold", description="The recipe of the fold, where it is trained first."
    )


class Panel(Frozen):
    """The fixed hold-out."""

    manifest: Text = Field("", title="Panel manifest", description="CSV. Empty: the corpus's own validation_panel.csv.")
    expected_hash: Text = Field(
        "", title="Expected hash", description="SHA-256 of its rows or bytes: fail at once if it changed. Empty: any."
    )


# What several forms ask for. Prefect's fold nothing away: the long tail of thresholds stands last in each.
_TRAINING: Any = Field(
    default_factory=Training, title="Training", description="What is trained: a named recipe, and changes to it."
)
_PANEL: Any = Field(default_factory=Panel, title="Panel", description="The fixed hold-out that decides.")
_TOP_K: Any = Field(
    5,
    ge=1,
    le=20,
    title="Checkpoints to judge",
    description="The training's best, by validation; the panel's ranking chooses among them.",
)
_GATES: Any = Field(
    default_factory=GateThresholds,
    title="Gates",
    description="The rest of the form: every threshold with its reason. None needs a change; one holds for this run "
    "alone.",
)


class WarmStartPlan(OnCorpus):
    """Act of God: warm start, train on everything but the panel, judge, ship or fail."""

    training: Training = _TRAINING
    start: Start = Field(default_factory=Start, title="Start", description="The weights that the training starts from.")
    panel: Panel = _PANEL
    epoch_chosen_on: Literal["recommended", "inside", "panel"] = Field(
        "recommended", title="Epoch chosen on", description=_CHOSEN
    )
    worth_folds: Literal["recommended", "start", "all"] = Field(
        "recommended", title="Worth measured on", description=_WORTH
    )
    unresolved: Literal["recommended", "model", "filter"] = Field(
        "recommended", title="Gain not resolved", description=_UNRESOLVED
    )
    top_k: int = _TOP_K
    production: Production = PRODUCTION
    approval: Approval = APPROVAL
    gates: GateThresholds = _GATES


class ActBPlan(OnCorpus):
    """Act B: calibrator head and rebalanced losses from the warm checkpoint, then the same gates."""

    source_run: OneName = Field(
        "",
        title="Refused run",
        description="Id of the flow run whose gates failed. Its plan is taken where no checkpoint is named.",
    )
    checkpoint: Text = Field("", title="Warm checkpoint", description="Seeds Act B. Empty: the refused run's best.")
    failed_gates: tuple[Name, ...] = Field((), title="Failed gates", description="What the losses are rebalanced for.")
    training: Training = _TRAINING
    panel: Panel = _PANEL
    top_k: int = _TOP_K
    production: Production = PRODUCTION
    approval: Approval = APPROVAL
    gates: GateThresholds = _GATES


_OWN = "0: the recipe's own."


class CrossValidationPlan(OnCorpus):
    """The five-fold campaign of the runbook."""

    folds: tuple[int, ...] = Field(
        (),
        title="Folds",
        description="Only these run, every one where none is named; the summary keeps the others that the same plan "
        "finished before.",
    )
    skip_existing: bool = Field(
        True,
        title="Skip what exists",
        description="Take a whole checkpoint of the same plan and manifests as done.",
    )
    training: Training = _TRAINING
    batch_size: Number = Field(0, ge=0, title="Batch size", description=_OWN)
    grad_accum: Number = Field(0, ge=0, title="Gradient accumulation", description=_OWN)
    epochs: Number = Field(0, ge=0, title="Epochs", description=_OWN)
    patience: Number = Field(0, ge=0, title="Early-stop patience (epochs)", description=_OWN)
    lr: Rate = Field(0.0, ge=0, title="Learning rate", description=_OWN)
    lr_min: Rate = Field(0.0, ge=0, title="Learning rate at the end", description=_OWN)
    inference_batch_size: int = Field(64, ge=1, title="Batch size of denoising", description=_BATCH)
    layout: Literal["packed", "files"] = Field(
        "packed", title="Layout of outputs", description="One array a split, or one file a spectrum."
    )
    output_root: Folder = Field(
        "", title="Output folder", description="A folder below artifacts/. Empty: artifacts/ itself."
    )


class PanelQAPlan(OnCorpus):
    """Audit existing checkpoints on the panel."""

    checkpoints: tuple[Words, ...] = Field((), title="Checkpoints", description="Files, or folders of checkpoints.")
    training_manifest: Text = Field(
        "",
        title="Training manifest",
        description="No panel group may be in it. Empty: the corpus's own manifest_train.csv.",
    )
    reference: Literal["loo", "self"] = Field(
        "loo",
        title="Reference",
        description="loo: the mean of a group's other captures. self: the capture itself, as published; never ships.",
    )
    panel: Panel = _PANEL
    top_k: int = _TOP_K
    gates: GateThresholds = _GATES


class DenoisePlan(OnCorpus):
    """A whole manifest through one checkpoint."""

    checkpoint: Text = Field("", title="Checkpoint", description="Empty: the model in production.")
    channel: OneName = Field(
        "",
        title="Channel",
        description="Whose model is taken. Empty: the corpus's own, else the only one in use.",
    )
    manifest: Words = Field(
        "manifest", title="Manifest", description="A CSV, or a name: manifest, manifest_full, staging …"
    )
    layout: Literal["packed", "files"] = Field(
        "packed", title="Layout of outputs", description="One array, or one file a spectrum."
    )
    batch_size: int = Field(128, ge=1, title="Batch size", description=_BATCH)
