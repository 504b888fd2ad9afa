"""What the residual head corrects: for every capture, the base filter's spectrum.

A filter fitted on a group knows that group's mean, so its error on the group's own captures is not the error
that it makes on a new one. A network trained on such bases learns that there is nothing to correct. Training
captures therefore get the filter fitted *without their group*; all others the filter fitted on every training group.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from denoise_core.corpus.manifest import Manifest
from denoise_core.corpus.store import Corpus
from denoise_core.model.denoiser import Denoiser


@dataclass(frozen=True)
class Base:
    """The fitted filter and its spectra: `spectra_NL` as a network in use meets it, `held_out_NL` for training."""

    filter: Denoiser | None
    spectra_NL: NDArray[np.float32]
    held_out_NL: NDArray[np.float32]

    @property
    def state(self) -> dict[str, Any] | None:
        """What a checkpoint keeps, so that loading it wants no corpus."""
        return None if self.filter is None else self.filter.state()  # type: ignore[attr-defined]


def fit_base(kind: str, corpus: Corpus, training: Manifest) -> Base:
    """Fit base `kind` on the training groups: "capture", or a linear recipe ("lmmse", "f", "g"; F 0.3 s a group)."""
    from denoise_core.model.linear import RECIPES, fit_held_out

    if kind == "capture":
        return Base(None, corpus.spectra_NL, corpus.spectra_NL)
    fitted, (rows, spectra_ML) = fit_held_out(corpus, training.groups, RECIPES[kind])
    everything = np.arange(len(corpus.spectra_NL))
    spectra_NL = fitted.denoise(corpus.spectra_NL, corpus.context(everything))
    held_out_NL = spectra_NL.copy()
    held_out_NL[rows] = spectra_ML
    return Base(fitted, spectra_NL, held_out_NL)
