"""What every denoiser offers, learned or linear: the one noun that audits and flows know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from denoise_core.corpus.captures import Context

FloatArray = NDArray[np.float32]


@runtime_checkable
class Denoiser(Protocol):
    """Turns captures into spectra, each capture on its own: no result depends on the others in its batch."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    def denoise(self, x_BL: FloatArray, context: Context) -> FloatArray:
        """Reflectance estimates, float32 (B, L), of the captures `x_BL` (reflectance, clipped to [0, 1])."""
        ...

    def standard_error(self, x_BL: FloatArray, context: Context) -> FloatArray:
        """Standard error of `denoise`'s estimates, float32 (B, L), in reflectance; NaN where none is known."""
        ...
