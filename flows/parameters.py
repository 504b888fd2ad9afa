"""What a person fills in to start a flow: nested models whose titles and help the UI's form shows.

Nothing here names a path of results or a cluster's detail: a profile is named, and read where jobs are sent.
"""

from __future__ import annotations

import os
from typing import Any, Literal

from pydantic import Field

from denoise_core.evaluation.thresholds import GateThresholds
from denoise_core.plans import Frozen

RecipeName = Literal[
    "act_of_god", "act_of_god_mini", "act_of_god_seed", "act_of_god_seed_mini", "track_h", "track_h_mini"
]


def _default_corpus() -> str:
    return os.environ.get("GATED_CORPUS", "data/mini")


def _default_profile() -> str:
    return os.environ.get("GATED_PROFILE", "local")


class Where(Frozen):
    """Which computer does the work. Changing it changes no result's name."""

    profile: str = Field(
        default_factory=_default_profile, title="Site profile", description="A file of slurm_templates/, e.g. a100."
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N, on the node.")
    detach: bool = Field(False, description="Leave jobs running when this flow run is cancelled or dies.")
    fresh: bool = Field(False, description="Do everything again instead of reusing finished jobs of the same plan.")


class Common(Frozen):
    """What every flow asks for."""

    label: str = Field("", description="Free text for the run's name; no part of its identity.")
    corpus: str = Field(
        default_factory=_default_corpus,
        title="Corpus folder",
        description="The seed's layout or packed; `python -m denoise_core corpus` makes a synthetic one.",
    )
    where: Where = Field(default_factory=Where)


class Training(Frozen):
    """A named recipe and what to change in it."""

    recipe: RecipeName | None = Field(
        None, description="Empty: the flow's recommended recipe, at mini size where the profile has no GPU."
    )
    changes: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description='By section, e.g. {"optimiser": {"epochs": 50, "lr": 1e-4}}.'
    )


class Start(Frozen):
    """Where the warm start begins."""

    checkpoint: str | None = Field(None, description="A checkpoint file, ours or the published format.")
    fold: int = Field(2, ge=1, le=5, description="Without a file: this fold's checkpoint, trained first if missing.")
    training: Training = Field(Training(), title="Recipe of the fold")


class Panel(Frozen):
    """The fixed hold-out."""

    manifest: str | None = Field(None, description="CSV; empty: the corpus's own validation_panel.csv.")
    expected_hash: str | None = Field(None, description="SHA-256 of its rows or bytes: fail at once if it changed.")


class Approval(Frozen):
    """A person's sign-off before anything ships."""

    ask: bool = Field(False, title="Ask a person before shipping")
    timeout_hours: float = Field(72.0, gt=0)


class WarmStartPlan(Common):
    """Act of God: warm start, train on everything but the panel, judge, ship or fail."""

    training: Training = Field(default_factory=Training)
    start: Start = Field(default_factory=Start)
    panel: Panel = Field(default_factory=Panel)
    gates: GateThresholds = Field(default_factory=GateThresholds)
    top_k: int = Field(5, ge=1, le=20, title="Checkpoints to judge")
    approval: Approval = Field(default_factory=Approval)


class ActBPlan(Common):
    """Act B: calibrator head and rebalanced losses from the warm checkpoint, then the same gates."""

    source_run: str = Field("", description="Flow run whose gates failed; a second Act B for it is refused.")
    checkpoint: str = Field("", description="The warm checkpoint that seeds Act B.")
    failed_gates: tuple[str, ...] = ()
    training: Training = Field(default_factory=Training)
    panel: Panel = Field(default_factory=Panel)
    gates: GateThresholds = Field(default_factory=GateThresholds)
    top_k: int = Field(5, ge=1, le=20)
    approval: Approval = Field(default_factory=Approval)


class CrossValidationPlan(Common):
    """The five-fold campaign of the runbook."""

    folds: tuple[int, ...] = Field((1, 2, 3, 4, 5), description="A subset runs only these.")
    skip_existing: bool = Field(True, description="Take a whole checkpoint of the same plan and manifests as done.")
    training: Training = Field(default_factory=Training)
    batch_size: int | None = Field(None, ge=1)
    grad_accum: int | None = Field(None, ge=1)
    epochs: int | None = Field(None, ge=1)
    patience: int | None = Field(None, ge=1)
    lr: float | None = Field(None, gt=0)
    lr_min: float | None = Field(None, ge=0)
    inference_batch_size: int = Field(64, ge=1)
    layout: Literal["packed", "files"] = Field("packed", description="One array a split, or one file a spectrum.")
    output_root: str | None = Field(None, description="Default: artifacts/.")
    gates: GateThresholds = Field(default_factory=GateThresholds)


class PanelQAPlan(Common):
    """Audit existing checkpoints on the panel."""

    checkpoints: tuple[str, ...] = Field((), description="Files, or folders of checkpoints.")
    training_manifest: str | None = Field(None, description="Default: the corpus's own manifest_train.csv.")
    reference: Literal["loo", "self"] = "loo"
    panel: Panel = Field(default_factory=Panel)
    gates: GateThresholds = Field(default_factory=GateThresholds)
    top_k: int = Field(5, ge=1, le=20)


class DenoisePlan(Common):
    """A whole manifest through one checkpoint."""

    checkpoint: str | None = Field(None, description="Default: the model in production.")
    manifest: str = Field("manifest", description="A CSV, or a name: manifest, manifest_full, staging …")
    layout: Literal["packed", "files"] = "packed"
    batch_size: int = Field(128, ge=1)
