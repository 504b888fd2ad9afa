"""What a person fills in to probe a model for a concept, and to scan proteins with a probe that shipped."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from concept_core.plans import GatePlan
from study_core.paths import Name, Words
from tasks.parameters import APPROVAL, PRODUCTION, Approval, Common, OneName, Production, Text

CONFIG = "data/concept/config.yaml"
Method = Literal["", "f1_max", "precision_at_recall_90", "fpr_0.05", "protein_fpr_0.05"]


class ProbePlan(Common):
    """The study: rows and options from a file, the model, gates."""

    config: Words = Field(
        CONFIG, title="Study file", description="Rows, model registry, options. Relative paths start at the project."
    )
    model: Text = Field(
        "", title="Model", description="A key of the study's model registry, or an ESM-2's folder. Empty: the file's."
    )
    concept_free: Text = Field(
        "", title="Concept-free twin",
        description="Registry key of the same network trained without the concept, a control. Empty: the file's.",
    )  # fmt: skip
    sensitivity: bool = Field(
        False, title="True TCAV", description="Also measure whether the model uses the direction; reported, not gated."
    )
    changes: dict[str, Any] = Field(
        default_factory=dict,
        title="Changes to the study",
        description='By section, as in the file: `{"data": {"seed": 1}, "cav": {"null_refits": 999}}`.',
    )
    production: Production = PRODUCTION
    approval: Approval = APPROVAL
    gates: GatePlan = Field(
        default_factory=GatePlan, title="Gates", description="A threshold changed here wins over the study file's."
    )


class ScanPlan(Common):
    """Which proteins, by which probe, at which threshold."""

    fasta: Text = Field("", title="FASTA file", description="Plain or .gz; every protein of it is scanned.")
    concept: Name = Field("C2H2", title="Concept", description="Whose probe in production; unused with a folder.")
    model: Words = Field(
        "house_esm2", title="Model",
        description="Registry key, or an ESM-2's folder of a registered size; its probe in production is taken.",
    )  # fmt: skip
    channel: OneName = Field(
        "", title="Channel", description="Whose probe in production is taken. Empty: the one in use, if there is one."
    )
    probe: Text = Field(
        "", title="Probe's folder", description="`candidate` of a run, whether it shipped or not. Empty: production."
    )
    method: Method = Field(
        "", title="Threshold", description="As set for this probe. Empty: the study file's (5 % of proteins in error)."
    )
    config: Words = Field(
        CONFIG, title="Study file", description="Where its model registry lies; a probe of your own needs your own."
    )
    per_job: int = Field(500, ge=1, title="Proteins a job", description="Jobs of a scan run as one array.")
