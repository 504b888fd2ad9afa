"""The controls that stand beside every audited model: raw, Savitzky-Golay(61, 3), LMMSE and F.

Raw and Savitzky-Golay need no fit. LMMSE and F are fitted on the training groups only
(`denoise_core.model.linear`). Shapes: M rows of the panel, L wavelengths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from scipy.signal import savgol_filter

from denoise_core.corpus.manifest import Manifest
from denoise_core.evaluation.metrics import Floats
from denoise_core.evaluation.selection import sister_groups

if TYPE_CHECKING:
    from denoise_core.corpus.store import Corpus
    from denoise_core.model.denoiser import Denoiser

SAVGOL_WINDOW, SAVGOL_ORDER = 61, 3
LEFT_OUT = "_sample_left_out"
RAW, SAVGOL = "raw", "savgol_61_3"
UNFITTED = (RAW, SAVGOL)
"""Controls that say nothing of what an honest estimate does: one leaves the noise, the other takes the dips."""


def is_fitted(control: str) -> bool:
    """Whether a control's name is that of a filter fitted on the whole of training."""
    return control not in UNFITTED and not control.endswith(LEFT_OUT)


def savgol(spectra_ML: ArrayLike) -> Floats:
    """Savitzky-Golay filter of 61 points (30 nm) and order 3, the bar that a trained model must clear.

    A grid of fewer points has the widest odd window that it allows.
    """
    values_ML = np.asarray(spectra_ML, np.float64)
    window = min(SAVGOL_WINDOW, values_ML.shape[1] - 1 + values_ML.shape[1] % 2)
    return np.asarray(savgol_filter(values_ML, window, SAVGOL_ORDER, axis=1))


def fit_controls(corpus: Corpus, training_groups: Sequence[str]) -> dict[str, Denoiser]:
    """`lmmse` and `f`, fitted on these groups' captures (spectra only: standard errors stay uncalibrated)."""
    from denoise_core.model.linear import fit_f, fit_lmmse  # here: only an audit with controls pays for the model room

    return {name: fit(corpus, training_groups, calibrate=False) for name, fit in (("lmmse", fit_lmmse), ("f", fit_f))}


def control_predictions(corpus: Corpus, panel: Manifest, denoisers: Mapping[str, Denoiser]) -> dict[str, Floats]:
    """Each denoiser's spectra for the panel's rows, (M, L); twin rows are computed once."""
    unique, twin_M = np.unique(corpus.rows(panel), return_inverse=True)
    spectra, context = corpus.spectra_NL[unique], corpus.context(unique)
    return {
        name: np.asarray(denoiser.denoise(spectra, context), np.float64)[twin_M] for name, denoiser in denoisers.items()
    }


def fitted_control_predictions(
    corpus: Corpus, panel: Manifest, training: Manifest, *, leave_sample_out: bool = False
) -> dict[str, Floats]:
    """LMMSE and F for the panel; with `leave_sample_out` also refitted without the panel samples' other angle.

    The refit answers what the panel cannot: how much a filter gains from having seen the same
    sample from the other side. It doubles the cost of the fit.
    """
    found = control_predictions(corpus, panel, fit_controls(corpus, training.groups))
    if leave_sample_out:
        strangers = sorted(set(training.groups) - set(sister_groups(panel, training)))
        refitted = control_predictions(corpus, panel, fit_controls(corpus, strangers))
        found |= {name + LEFT_OUT: prediction for name, prediction in refitted.items()}
    return found
