"""The whole recipe as data: frozen pydantic models, and the hashed identity of a run.

A plan says *what* is computed. Where it runs (the Slurm profile, folders of this machine) is
no part of it, so that moving to another cluster renames nothing. Field names equal the option
names of the two training recipes in the seed documents.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from study_core.paths import Inside, Name, Words
from study_core.plan import Frozen

FILM_FEATURES = (
    "cos_theta",
    "UVA_total",
    "UVB_total",
    "UVA_over_UVB",
    "P_UVA_mW_cm2",
    "P_UVB_mW_cm2",
    "UVA_norm",
    "UVB_norm",
)


class ModelPlan(Frozen):
    """Architecture of `mamba_tiny_uv`."""

    model: Literal["mamba_tiny_uv"] = "mamba_tiny_uv"
    sequence_length: int = Field(601, ge=8, title="Wavelength points")
    d_model: int = Field(384, ge=4, title="Width of the model")
    n_layers: int = Field(8, ge=1, title="Mamba blocks")
    d_state: int = Field(16, ge=1, title="States of a channel's scan")
    d_conv: int = Field(4, ge=1, title="Taps of a block's causal convolution")
    expand: int = Field(2, ge=1, title="Inner width / width")
    geometry_film: bool = Field(True, title="Condition on geometry and dose (FiLM)")
    film_hidden_dim: int = Field(64, ge=1)
    film_features: tuple[Name, ...] = FILM_FEATURES
    head: Literal["sigmoid", "residual"] = Field(
        "residual",
        description="`residual` starts at its base and learns a correction; `sigmoid` is the published head.",
    )
    base: Literal["capture", "lmmse", "f", "g"] = Field(
        "f", description="What the residual head corrects: the capture, the LMMSE filter, filter F, or filter G."
    )
    residual_sigma_nm: float = Field(
        0.0,
        ge=0,
        title="Finest scale of the correction (nm)",
        description="The residual head's output is smoothed by a Gaussian of this width: finer scales stay the base's. "
        "0: not smoothed.",
    )
    calibrator: bool = Field(False, title="Calibrator head (Act B)")


class LossPlan(Frozen):
    """Weights and constants of the training loss; nm unless the name says otherwise."""

    charbonnier_weight: float = Field(1.0, ge=0)
    charbonnier_eps: float = Field(1e-3, gt=0)
    lambda_weighted: bool = Field(True, title="Weight by precision per wavelength (lambda_stats.npz)")
    derivative_weight: float = Field(0.3, ge=0)
    deriv_weight_roi: float = Field(0.6, ge=0)
    deriv_roi_min: float = 320.0
    deriv_roi_max: float = 500.0
    curvature_weight_roi: float = Field(0.3, ge=0)
    dip_loss: bool = True
    dip_weight: float = Field(1.0, ge=0)
    dip_m: int = Field(6, ge=1)
    dip_window_half_nm: float = Field(7.0, gt=0)
    dip_min_area: float = Field(5e-4, ge=0)
    dip_w_area: float = Field(2.5, ge=0)
    dip_w_equivalent_width: float = Field(1.5, ge=0)
    dip_w_centroid: float = Field(2.0, ge=0)
    dip_w_depth: float = Field(0.3, ge=0)
    dip_underfill_factor: float = Field(2.0, ge=1)
    dip_detect_sigma_nm: float = Field(1.0, gt=0)
    baseline: Literal["local"] = "local"
    baseline_guard_nm: float = Field(10.0, ge=0)
    log_mse_weight: float = Field(0.0, ge=0, description="Weight of mean log(MSE): dB is what it optimises.")
    consistency_weight: float = Field(
        0.0, ge=0, description="Replicates of one group denoised alike (Act B, downstream)."
    )


class DataPlan(Frozen):
    """How training examples are made from captures."""

    noise2noise: bool = True
    noise2noise_pairwise: bool = Field(
        True, description="Target: another capture of the group; off: the mean of all its other captures."
    )
    val_noise2noise: bool = False
    centre_baseline: bool = Field(True, description="Subtract the capture's own median; inverted before any metric.")
    scale: bool = Field(True, description="Divide by one corpus constant; inverted before any metric.")
    jitter: bool = True
    jitter_gain: float = Field(0.01, ge=0)
    jitter_shift_nm: float = Field(0.1, ge=0)
    jitter_noise: float = Field(1.0, ge=0, description="Additive noise in units of the corpus's own sd(lambda).")
    cutout: bool = True
    cutout_min_nm: float = Field(5.0, gt=0)
    cutout_max_nm: float = Field(15.0, gt=0)
    mixing: bool = Field(False, description="Simulate groups: convex mixtures of group means + resampled residuals.")
    group_weights: Literal["dose", "own_error"] = Field(
        "dose", description="Sampling weights: dose bins (the seed's), or the group's own error (Act B, tail)."
    )


class OptimiserPlan(Frozen):
    """AdamW with warm-up and cosine, EMA, early stop."""

    epochs: int = Field(200, ge=1)
    early_stop_patience: int = Field(21, ge=1)
    min_improvement_deg: float = Field(0.05, ge=0, description="SAM must fall by more than this to count.")
    bs: int = Field(600, ge=1, title="Batch size")
    grad_accum: int = Field(1, ge=1)
    steps_per_epoch: int | None = Field(None, ge=1, description="Default: every row of the manifest once.")
    lr: float = Field(3e-4, gt=0)
    lr_min: float = Field(3e-5, ge=0)
    warmup_epochs: int = Field(5, ge=0)
    weight_decay: float = Field(1e-4, ge=0)
    grad_clip: float | None = Field(None, gt=0)
    amp: bool = True
    amp_dtype: Literal["bf16", "fp16", "fp32"] = "bf16"
    ema: bool = True
    ema_decay: float = Field(0.999, gt=0, lt=1)
    tta_reverse: bool = Field(False, description="Average with the reversed-wavelength pass at validation.")
    cudnn_benchmark: bool = True
    seed: int = 20251009
    freeze_backbone: bool = Field(False, description="Train only the calibrator head (Act B, stage 1).")


class FilePlan(Frozen):
    """The seed's file options, relative to the corpus (inputs) or the run's folder (outputs)."""

    train_dir: Words = "spectra_for_fold"
    val_dir: Words = "spectra_for_fold"
    train_manifest: Words = "spectra_for_fold/manifest_train.csv"
    val_manifest: Words = "validation_panel.csv"
    dose_features_csv: Words = "metadata/dose_features.csv"
    dose_sampling_weights_csv: Words = "metadata/dose_sampling_weights.csv"
    dose_stats_json: Words = "metadata/dose_stats.json"
    lambda_weights: Words = "spectra_for_fold/lambda_stats.npz"
    init_checkpoint: Words | None = None
    log_dir: Inside = "logs/god_run"
    checkpoint_dir: Inside = "checkpoints/god_run"
    audit_log: Inside = "logs/god_run/auditing_manifest.log"
    speed_log_json: Inside | None = None


class TrainingPlan(Frozen):
    """One training: model, loss, data, optimiser, files. Two runs of equal plans are one run."""

    name: Name = Field("track_h", description="Named plan this one started from.")
    model: ModelPlan = ModelPlan()
    loss: LossPlan = LossPlan()
    data: DataPlan = DataPlan()
    optimiser: OptimiserPlan = OptimiserPlan()
    files: FilePlan = FilePlan()
