"""Features of a spectrum: how deep a dip of a given width it has at each wavelength, and its level.

The comparisons of `fidelity` are made on these, not on single wavelengths: a dip of 5 nm is a small departure at each
of its wavelengths and a plain one as a whole. Shapes: (…, L), L wavelengths.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import gaussian_filter1d

from denoise_core.evaluation.metrics import Floats


@dataclass(frozen=True)
class Feature:
    """A Gaussian dip of standard deviation `width_nm`, or (`level`) the mean under a Gaussian of that width."""

    width_nm: float
    level: bool = False

    @property
    def name(self) -> str:
        """`dip 2.5 nm`, `level 25 nm`."""
        return f"{'level' if self.level else 'dip'} {self.width_nm:g} nm"

    def of(self, spectra: ArrayLike, step_nm: float) -> Floats:
        """The feature at every wavelength, in reflectance: depth of the dip (a bump is negative), or the level.

        A dip's depth is the Laplacian of Gaussian of its own width, scaled so that a lone Gaussian dip of that width
        gives its depth; away from the ends of the grid straight lines give 0.
        """
        values = np.asarray(spectra, np.float64)
        return np.asarray(values @ _matrix(self, values.shape[-1], step_nm).T)


@lru_cache(maxsize=32)
def _matrix(feature: Feature, points: int, step_nm: float) -> Floats:
    """The feature as a matrix (L, L): a product is ten times faster than a filter of hundreds of taps."""
    sigma, identity_LL = feature.width_nm / step_nm, np.eye(points)
    if feature.level:
        return np.asarray(gaussian_filter1d(identity_LL, sigma, axis=0, mode="nearest"))
    curved_LL = gaussian_filter1d(identity_LL, sigma, axis=0, order=2, mode="nearest")
    curved_LL -= curved_LL.sum(axis=1, keepdims=True) * identity_LL  # SciPy's cut-off tails leave a trace of the level
    return np.asarray(2.0 * np.sqrt(2.0) * sigma**2 * curved_LL)


NARROW = (Feature(1.0), Feature(2.5), Feature(5.0))
"""The widths of the fingerprint's own dips."""
EVERY = (Feature(0.5), *NARROW, Feature(12.0), Feature(30.0), Feature(25.0, level=True))
BROAD = (Feature(5.0), Feature(30.0), Feature(25.0, level=True))
"""What a treatment does to a spectrum is broad."""
