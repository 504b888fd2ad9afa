"""A fold's figures: the denoised validation and test splits as written, beside the controls fitted on its training.

Reference: the mean of the group's other captures. M captures of a split, L wavelengths.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from denoise_core.corpus.manifest import Manifest
from denoise_core.corpus.reference import loo_mean
from denoise_core.corpus.store import Corpus
from denoise_core.evaluation.controls import RAW, SAVGOL, control_predictions, fit_controls, savgol
from denoise_core.evaluation.limits import roi
from denoise_core.evaluation.predictions import read_predictions
from denoise_core.evaluation.scores import Scores, recorded, score
from denoise_core.evaluation.thresholds import GateThresholds
from study_core.files import replacing

MODEL = "model"


def evaluate_fold(
    corpus: Corpus,
    training: Manifest,
    splits: Mapping[str, Manifest],
    denoised: Mapping[str, Path],
    out: Path,
    thresholds: GateThresholds | None = None,
) -> list[dict[str, Any]]:
    """One row a split and method (model, raw, savgol_61_3, lmmse, f); the captures' figures in `captures.csv`.

    `denoised`: the folder of each split's output, either layout. BadInput when an output is missing or damaged.
    """
    limits = thresholds or GateThresholds()
    controls = fit_controls(corpus, training.groups)
    rows: list[dict[str, Any]] = []
    tables: list[pd.DataFrame] = []
    for split, manifest in splits.items():
        index = corpus.rows(manifest)
        raw_ML = corpus.spectra_NL[index].astype(np.float64)
        reference_ML = loo_mean(corpus, index).astype(np.float64)
        methods = {
            MODEL: read_predictions(denoised[split], manifest, points=corpus.spectra_NL.shape[1]),
            RAW: raw_ML,
            SAVGOL: savgol(raw_ML),
            **control_predictions(corpus, manifest, controls),
        }
        for name, values in methods.items():
            scores = score(values, reference_ML, corpus.wavelength_nm, roi_nm=corpus.study.roi_nm)
            record = recorded(scores, manifest.frame["group_id"].to_numpy(dtype=str))
            rows.append(
                {"split": split, "method": name, "captures": len(scores), **record.figures, **roi(record, limits)}
            )
            tables.append(_captures(manifest, split, name, scores))
    with replacing(out / "captures.csv") as temporary:
        pd.concat(tables).to_csv(temporary, index=False, float_format="%.6f", lineterminator="\n")
    return rows


def _captures(manifest: Manifest, split: str, method: str, scores: Scores) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "relative_path": manifest.frame["relative_path"].to_numpy(),
            "group_id": manifest.frame["group_id"].to_numpy(),
            "split": split,
            "method": method,
            "psnr_db": scores.psnr_M,
            "sam_deg": scores.sam_M,
            "roi_area_error_pct": scores.dips.area_error_pct_M,
            "roi_centroid_error_nm": scores.dips.centroid_error_nm_M,
            "roi_depth_mae": scores.dips.depth_error_M,
        }
    )
