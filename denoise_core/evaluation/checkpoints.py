"""Measuring checkpoints on a panel, on the node: denoise the panel through each, measure each, write what was found.

A folder a checkpoint: `measurement.json`, and `denoised.npz`, the panel's spectra as it makes them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from denoise_core.corpus.manifest import Manifest, read_manifest
from denoise_core.corpus.store import Corpus
from denoise_core.evaluation.controls import fitted_control_predictions
from denoise_core.evaluation.measurement import MEASUREMENT, Reference
from denoise_core.evaluation.measuring import measure_predictions
from denoise_core.evaluation.metrics import Floats
from denoise_core.evaluation.origin import fold_behind, fold_hashes
from denoise_core.evaluation.predictions import PACKED, write_packed
from denoise_core.evaluation.selection import Unseen, unseen_figures
from study_core.files import sha256_of

Progress = Callable[[int, int, str], None]


def measure_checkpoints(
    corpus: Corpus,
    panel: Manifest,
    training: Manifest | None,
    checkpoints: Sequence[Path],
    *,
    out: Path,
    reference: Reference = "loo",
    unseen: Sequence[Mapping[str, Path]] = (),
    unseen_what: str = "",
    leave_sample_out: bool = True,
    batch_size: int = 256,
    device: str = "cpu",
    progress: Progress = lambda done, total, what: None,
) -> list[Path]:
    """Measure every checkpoint on one panel; a folder below `out` for each, in the order given.

    Rows of the panel that stand twice are denoised once. `unseen`: checkpoints, each with its test, train and
    val manifests, for figures on groups that no choice has seen; `unseen_what` says in words which.
    """
    controls = {}
    if training is not None:
        controls = fitted_control_predictions(corpus, panel, training, leave_sample_out=leave_sample_out)
    never_seen = None
    if unseen:
        models = []
        for number, fold in enumerate(unseen):
            progress(number, len(unseen), "measure on groups that no choice has seen")
            models.append(_unseen(corpus, fold, batch_size, device))
        never_seen = unseen_figures(corpus, models, unseen_what)
    folds, folders = fold_hashes(corpus), []
    for number, path in enumerate(checkpoints):
        progress(number, len(checkpoints), f"measure {path.name}")
        values, error = denoised_panel(corpus, panel, path, batch_size, device)
        found = measure_predictions(
            corpus,
            panel,
            values,
            reference=reference,
            training=training,
            controls=controls,
            standard_error_ML=error,
            unseen=never_seen,
            checkpoint=str(path),
        )
        origin = {"checkpoint_sha256": sha256_of(path), "fold": fold_behind(path, folds), "device": device}
        folder = out / f"{number + 1:02d}"
        write_packed(folder / PACKED, panel, values)
        found.model_copy(update=origin).write(folder / MEASUREMENT)
        folders.append(folder)
    return folders


def _unseen(corpus: Corpus, fold: Mapping[str, Path], batch_size: int, device: str) -> Unseen:
    """A model on its test groups, which nothing was chosen on."""
    from denoise_core.inference import denoise_rows
    from denoise_core.model.neural import load_denoiser

    test = read_manifest(fold["test"])
    denoiser = load_denoiser(fold["checkpoint"], device=device)
    rows = corpus.rows(test)
    values = denoise_rows(denoiser, corpus, rows, batch_size)
    base = getattr(denoiser, "base", None)  # a model that corrects no filter has none to be worth more than
    return Unseen(
        test,
        values,
        training=read_manifest(fold["train"]),
        selected_on=read_manifest(fold["val"]).groups,
        base_ML=None if base is None else denoise_rows(base, corpus, rows, batch_size),
        base="" if base is None else base.name,
    )


def denoised_panel(
    corpus: Corpus, panel: Manifest, path: Path, batch_size: int, device: str
) -> tuple[Floats, Floats | None]:
    """The panel through a checkpoint, float64 (M, L) in the panel's order; its standard errors where it has some."""
    from denoise_core.inference import denoise_rows
    from denoise_core.model.neural import load_denoiser

    denoiser = load_denoiser(path, device=device)
    unique, twin_M = np.unique(corpus.rows(panel), return_inverse=True)
    values = np.asarray(denoise_rows(denoiser, corpus, unique, batch_size), np.float64)
    error = np.asarray(denoiser.standard_error(corpus.spectra_NL[unique], corpus.context(unique)), np.float64)
    return values[twin_M], error[twin_M] if np.isfinite(error).all() else None
