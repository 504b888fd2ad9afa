"""The whole study as data: frozen pydantic models. A stage is given only the sections that decide its result.

A plan says *what* is computed. Where the rows, the models and the results lie is no part of it, so that moving to
another cluster renames nothing.
"""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from study_core.paths import Name, Words
from study_core.plan import Frozen

Stratum = Literal["pos", "rand", "hard", "shuf", "scr", "off"]
NEGATIVES: tuple[Stratum, ...] = ("rand", "hard", "shuf", "scr")
"""The strata of negatives that a verdict needs; `off` serves localisation in training alone."""


class ModelPlan(Frozen):
    """Which protein language model, and which of its relatives serve as controls."""

    name: Words = Field("house_esm2", title="Key in model_registry.yaml")
    layers: tuple[int, ...] | None = Field(None, description="Default: layers_to_extract of the registry.")
    untrained: bool = Field(True, description="The same architecture with fresh weights as a control.")
    concept_free: Words | None = Field(
        None, description="Registry key of the same network trained without the concept, as a control."
    )
    seed: int = Field(0, ge=0, description="Of the untrained control's weights.")

    @model_validator(mode="after")
    def _layers(self) -> ModelPlan:
        if self.layers is not None and not any(layer > 0 for layer in self.layers):
            raise ValueError("a plan needs a layer above 0: layer 0 is the embedding of single residues, a control")
        return self


class ConceptSpec(Frozen):
    """What the concept is. The pattern labels a FASTA file and is compared with; spans of a file win over it."""

    name: Name = "C2H2"
    pattern: Words | None = Field(
        r"C.{2,4}C.{3}[LIVMFYWC].{8}H.{3,5}H",
        description="Regular expression of one occurrence: two cysteines and two histidines around a zinc ion, with "
        "the hydrophobic residue of the core; spacing as published for the classical finger.",
    )
    ligand_residues: Words | None = Field(
        "CH",
        description="Letters that `scr` moves. Default: the four most enriched ones of the positives.",
    )

    @field_validator("ligand_residues")
    @classmethod
    def _residues(cls, letters: str | None) -> str | None:
        if letters is not None and not (letters and set(letters) <= set("ACDEFGHIKLMNPQRSTVWY")):
            raise ValueError(f"{letters!r} are not letters of the twenty residues, in upper case")
        return letters

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"{pattern!r} is no regular expression ({error})") from None
        return pattern


class DataPlan(Frozen):
    """From labelled proteins to windows. Lengths in residues."""

    concept: ConceptSpec = ConceptSpec()
    window: int = Field(41, ge=5, title="Window length")
    kmer: int = Field(9, ge=3, title="Homology: length of a word")
    shared_kmers: int = Field(8, ge=1, title="Homology: shared words that join two proteins")
    held_out: float = Field(0.2, ge=0, lt=1, title="Share of groups held out, untouched")
    folds: int = Field(5, ge=2)
    seed: int = Field(0, ge=0, title="Seed of decoys, split and folds")
    off_shift_min: int = Field(9, ge=1)
    off_shift_max: int = Field(19, ge=1)
    off_iou_max: float = Field(0.65, gt=0, le=1, description="IOU of an `off` window with any known span, less than")
    unknown_max: float = Field(0.10, ge=0, le=1, title="Share of letters outside the twenty, at most")
    dropped_max: float = Field(0.05, ge=0, le=1, title="Share of rows that the guardrail may drop, at most")
    min_positives: int = Field(20, ge=2)
    min_groups: int = Field(10, ge=2)

    @model_validator(mode="after")
    def _shifts(self) -> DataPlan:
        if self.off_shift_min > self.off_shift_max:
            raise ValueError(f"off_shift_min {self.off_shift_min} is above off_shift_max {self.off_shift_max}")
        return self


class EmbeddingPlan(Frozen):
    """How hidden states are computed and stored."""

    context: int | None = Field(
        None, ge=1, description="Residues around the window that the model sees. Default: the whole protein."
    )
    overlap: int = Field(128, ge=0, description="Of the chunks of a protein that is longer than the model's limit.")
    tokens_per_batch: int = Field(8192, ge=64, description="Halved after the device ran out of memory.")
    sequences_per_shard: int = Field(64, ge=1)
    dtype: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 on CUDA, fp32 on a CPU.")


class CavPlan(Frozen):
    """Probe and null of a layer."""

    pca: int = Field(128, ge=1, title="Components, at most")
    C: float = Field(1.0, gt=0, title="Inverse L2 strength of the logistic probe")
    class_weight: Literal["balanced"] | None = "balanced"
    random_cavs: int = Field(20, ge=0, title="Random CAVs stored a layer")
    random_mode: Literal["label_shuffle", "feature_permute", "gaussian_noise"] = "label_shuffle"
    null_refits: int = Field(199, ge=1, title="Refits behind the p-value")
    version: Name = "v1"
    seed: int = Field(0, ge=0)


class ControlsPlan(Frozen):
    """What the model is compared with."""

    bag: bool = True
    dipeptide: bool = True
    layer0: bool = True
    pssm: bool = Field(True, description="Reported beside, never a gate.")
    pattern: bool = Field(True, description="Reported beside, never a gate.")


class EvaluationPlan(Frozen):
    """Scores, uncertainty, thresholds, localisation."""

    bootstrap: int = Field(1000, ge=10, title="Group bootstrap resamples")
    confidence: float = Field(0.95, gt=0, lt=1)
    threshold_method: Literal["f1_max", "precision_at_recall_90", "fpr_0.05", "protein_fpr_0.05"] = "f1_max"
    heatmaps: int = Field(13, ge=0, description="5 best, 5 worst by IOU, the rest drawn at random.")
    seed: int = Field(0, ge=0)


class DetectionPlan(Frozen):
    """Scanning of whole proteins."""

    threshold_method: Literal["f1_max", "precision_at_recall_90", "fpr_0.05", "protein_fpr_0.05"] = "protein_fpr_0.05"
    refine: int = Field(14, ge=0, title="Residues around the coarse position that the centred CAV may move it")
    suppress: int = Field(21, ge=0, title="Non-maximum suppression distance")
    proteins_per_shard: int = Field(500, ge=1)
    longest: int = Field(900, ge=1, title="Longest protein of the detection test")


class SensitivityPlan(Frozen):
    """True TCAV: does the model use the direction? Reported, not gated."""

    on: bool = False
    random_cavs: int = Field(99, ge=1)
    steering_sd: tuple[float, ...] = (1.0, 2.0, 4.0)
    seed: int = Field(0, ge=0)


def _threshold(default: float, title: str, reason: str) -> float:
    field: float = Field(default, title=title, description=reason, allow_inf_nan=False)
    return field


class GatePlan(Frozen):
    """Thresholds of gates 0 to 7, each with its reason."""

    dropped_max: float = _threshold(0.05, "Rows dropped by the guardrail, at most", "More says the spans are wrong.")
    rand_auroc_min: float = _threshold(
        0.90, "AUROC against random negatives, held out", "As first asked for: necessary, proves nothing alone."
    )
    rand_ap_min: float = _threshold(
        0.85, "AP against random negatives, held out", "As first asked for: necessary, proves nothing alone."
    )
    p_max: float = _threshold(
        0.05, "Empirical p, times layers", "As first asked for, with a null that can be small enough."
    )
    null_refits_min: float = _threshold(199, "Null refits, at least", "Twenty can only give p of .048 or more.")
    null_bias_max: float = _threshold(0.05, "|mean of the null − .5|", "A null off one half is no null.")
    worst_oof_min: float = _threshold(0.95, "Worst stratum AUROC, out of fold", "Same composition, other order.")
    worst_held_out_min: float = _threshold(0.90, "Worst stratum AUROC, held out", "Same composition, other order.")
    skill_min: float = _threshold(
        0.0, "Lower bound of worst stratum over each control, above", "What the language model adds."
    )
    skill_concept_free_min: float = _threshold(
        0.05, "The same over the concept-free network, above", "What seeing the concept in training adds."
    )
    protein_natural_min: float = _threshold(0.90, "Protein AUROC, natural", "Whole proteins are what is scanned.")
    protein_decoy_min: float = _threshold(0.80, "Protein AUROC, decoys", "The same protein with its fingers shuffled.")
    protein_fpr_max: float = _threshold(
        0.10,
        "FPR of natural proteins at the threshold for 0.05",
        "The threshold must hold on proteins it has not seen.",
    )
    iou_median_min: float = _threshold(
        0.75, "Median top-1 IOU, above", "As first asked for; a bag of residues can meet it."
    )
    iou_share_min: float = _threshold(0.65, "Share of proteins with IOU > .75", "A median hides the lost half.")
    iou_skill_min: float = _threshold(
        0.0, "Lower bound of that share over the bag's, above", "A bag of residues meets the median by luck."
    )
    transfer_tpr_min: float = _threshold(
        0.60, "TPR of the carried threshold, held-out source", "A threshold must be usable where it was not set."
    )


class ConceptPlan(Frozen):
    """A whole study: data → embed → CAVs → evaluation → gates."""

    model: ModelPlan = ModelPlan()
    data: DataPlan = DataPlan()
    embedding: EmbeddingPlan = EmbeddingPlan()
    cav: CavPlan = CavPlan()
    controls: ControlsPlan = ControlsPlan()
    evaluation: EvaluationPlan = EvaluationPlan()
    detection: DetectionPlan = DetectionPlan()
    sensitivity: SensitivityPlan = SensitivityPlan()
    gates: GatePlan = GatePlan()
