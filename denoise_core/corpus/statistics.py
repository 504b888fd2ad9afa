"""Per-wavelength statistics of a corpus: the weights of the training loss (`lambda_stats.npz`)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from denoise_core.corpus.study import PUBLISHED
from study_core.bundles import bounded
from study_core.errors import UNREADABLE, BadInput
from study_core.files import replacing

ROI_ALPHA = 3.0
CLIP_PERCENTILES = (5.0, 95.0)


@dataclass(frozen=True, eq=False)
class LambdaStats:
    """The arrays of `lambda_stats.npz`, each float32 (L,).

    `variance` over all captures (ddof 1); `variance_clipped` to its own 5th and 95th percentiles;
    `precision` = 1 / clipped; `alpha` = 3 inside the study's ROI, else 1; `weights` = precision · alpha.
    """

    wavelength: NDArray[np.float32]
    variance: NDArray[np.float32]
    variance_clipped: NDArray[np.float32]
    precision: NDArray[np.float32]
    alpha: NDArray[np.float32]
    weights: NDArray[np.float32]


def lambda_stats(
    spectra_NL: NDArray[np.float32],
    wavelength_nm: NDArray[np.float64],
    roi_nm: tuple[float, float] = PUBLISHED.roi_nm,
) -> LambdaStats:
    """Compute the statistics; BadInput with fewer than two captures or a wavelength that never varies."""
    if len(spectra_NL) < 2:
        raise BadInput("variance needs two captures or more", remedy="give a larger corpus")
    variance = spectra_NL.var(axis=0, ddof=1, dtype=np.float64)
    clipped = np.clip(variance, *np.percentile(variance, CLIP_PERCENTILES))
    if not (clipped > 0).all():
        raise BadInput("a wavelength has variance 0", remedy="remove constant wavelengths or duplicate captures")
    inside = (wavelength_nm >= roi_nm[0]) & (wavelength_nm <= roi_nm[1])
    alpha = np.where(inside, ROI_ALPHA, 1.0)
    arrays = (wavelength_nm, variance, clipped, 1 / clipped, alpha, alpha / clipped)
    return LambdaStats(*(array.astype(np.float32) for array in arrays))


def write_lambda_stats(stats: LambdaStats, path: Path) -> Path:
    """Write `lambda_stats.npz` by temporary name and rename."""
    with replacing(Path(path)) as temporary:
        np.savez(temporary, allow_pickle=False, **asdict(stats))
    return Path(path)


def read_lambda_stats(path: Path, wavelength_nm: NDArray[np.float64]) -> LambdaStats:
    """Read `lambda_stats.npz`; BadInput when an array is missing, has another length or grid, or is not positive."""
    try:
        with np.load(path, allow_pickle=False) as file:
            bounded(file.zip, path)
            stats = LambdaStats(**{name: file[name].astype(np.float32) for name in LambdaStats.__annotations__})
    except UNREADABLE as error:
        raise BadInput(f"cannot read the statistics ({error})", file=path, remedy="let them be computed") from error
    for name, array in asdict(stats).items():
        if array.shape != wavelength_nm.shape or not np.isfinite(array).all() or not (array > 0).all():
            raise BadInput(
                f"{name} of shape {array.shape} is not positive on the grid {wavelength_nm.shape}",
                file=path,
                remedy="let the statistics be computed from the spectra",
            )
    if not np.allclose(stats.wavelength, wavelength_nm, atol=1e-3):
        raise BadInput("wavelengths are not the corpus's", file=path, remedy="let the statistics be computed")
    return stats
