"""PSNR and SAM of a capture. Shapes: M captures (rows of a manifest), L wavelengths; all float64."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from study_core.errors import BadInput

Floats = NDArray[np.float64]


def psnr_db(prediction_ML: ArrayLike, reference_ML: ArrayLike) -> Floats:
    """Peak signal-to-noise ratio of each capture in dB, data range 1: −10·log10(mean over λ of (ŷ − r)²).

    Equal spectra give +inf (which no gate accepts), a NaN gives NaN.
    """
    prediction_ML, reference_ML = same_shape(prediction_ML, reference_ML)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(-10.0 * np.log10(np.mean((prediction_ML - reference_ML) ** 2, axis=1)))


def sam_deg(prediction_ML: ArrayLike, reference_ML: ArrayLike) -> Floats:
    """Spectral angle of each capture in degrees: arccos(ŷ·r / (|ŷ||r|)). A spectrum of zeros has none: NaN.

    Computed from the distance of the unit vectors, 2·arcsin(|u − v| / 2): arccos itself loses
    half of its digits near 0, where denoised spectra lie.
    """
    prediction_ML, reference_ML = same_shape(prediction_ML, reference_ML)
    with np.errstate(divide="ignore", invalid="ignore"):
        unit_ML = prediction_ML / np.linalg.norm(prediction_ML, axis=1, keepdims=True)
        other_ML = reference_ML / np.linalg.norm(reference_ML, axis=1, keepdims=True)
        half_chord_M = np.linalg.norm(unit_ML - other_ML, axis=1) / 2.0
        return np.asarray(np.degrees(2.0 * np.arcsin(np.minimum(half_chord_M, 1.0))))


def published_sam_deg(prediction_ML: ArrayLike, reference_ML: ArrayLike) -> Floats:
    """SAM as the published audit computed it, in float32, (M,): for the reference `self` only.

    The arc cosine of a float32 near 1 is off by up to 1e-3 degrees; the published figures carry that error.
    """
    prediction, reference = same_shape(prediction_ML, reference_ML)
    p_ML, r_ML = prediction.astype(np.float32), reference.astype(np.float32)
    norm_M = np.linalg.norm(p_ML, axis=1) * np.linalg.norm(r_ML, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine_M = np.clip((p_ML * r_ML).sum(axis=1) / norm_M, np.float32(-1), np.float32(1))
        return np.asarray(np.degrees(np.arccos(cosine_M)), np.float64)


def composite_score(psnr_mean: float, psnr_std: float) -> float:
    """PSNR mean − PSNR standard deviation: ranks checkpoints."""
    return psnr_mean - psnr_std


def same_shape(prediction_ML: ArrayLike, reference_ML: ArrayLike) -> tuple[Floats, Floats]:
    """Both as float64 matrices of one shape. Raises BadInput naming both shapes."""
    prediction, reference = np.asarray(prediction_ML, np.float64), np.asarray(reference_ML, np.float64)
    if prediction.ndim != 2 or prediction.shape != reference.shape:
        raise BadInput(
            f"predictions have the shape {prediction.shape}, their references {reference.shape}",
            remedy="give one prediction for each row of the manifest, on the corpus's wavelength grid",
        )
    return prediction, reference
