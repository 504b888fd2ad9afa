"""The panel's spectra side by side: raw, denoised (from the archive), reference. What most figures draw.

Shapes: M unique captures of the panel (twin rows count once), L wavelengths, G groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from denoise_core.corpus.manifest import Manifest
from denoise_core.corpus.reference import loo_mean
from denoise_core.corpus.store import Corpus
from denoise_core.evaluation.dips import ROI_NM, DipErrors, Roi, dip_errors
from denoise_core.evaluation.metrics import psnr_db, sam_deg
from denoise_core.report.labels import capture_label
from denoise_core.report.record import RunRecord

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Capture:
    """One capture for an overlay: three spectra (L,) on one grid, and what it is called."""

    title: str
    wavelength_nm: Floats
    raw_L: Floats
    denoised_L: Floats
    reference_L: Floats
    roi_nm: Roi = ROI_NM

    @property
    def spectra(self) -> dict[str, Floats]:
        """All three by name."""
        return {"raw": self.raw_L, "denoised": self.denoised_L, "reference": self.reference_L}


@dataclass(frozen=True, eq=False)
class PanelSpectra:
    """All captures of a panel, float64 (M, L), in the panel's order."""

    wavelength_nm: Floats
    path_M: NDArray[np.str_]
    group_M: NDArray[np.str_]
    raw_ML: Floats
    denoised_ML: Floats
    reference_ML: Floats
    roi_nm: Roi = ROI_NM

    @property
    def groups(self) -> list[str]:
        """Groups in the panel's order."""
        return list(dict.fromkeys(self.group_M.tolist()))

    @cached_property
    def psnr(self) -> Floats:
        """PSNR of the denoised captures in dB, (M,)."""
        return psnr_db(self.denoised_ML, self.reference_ML)

    @cached_property
    def sam(self) -> Floats:
        """Spectral angle of the denoised captures in degrees, (M,)."""
        return sam_deg(self.denoised_ML, self.reference_ML)

    @cached_property
    def dips(self) -> DipErrors:
        """Dip errors of the denoised captures, as gate 3 measures them."""
        return dip_errors(self.denoised_ML, self.reference_ML, self.wavelength_nm, self.roi_nm)

    def capture(self, row: int, what: str) -> Capture:
        """One capture with its title: what it stands for, its name, its PSNR."""
        title = f"{what}: {capture_label(str(self.path_M[row]))}"
        spectra = self.raw_ML[row], self.denoised_ML[row], self.reference_ML[row]
        return Capture(title, self.wavelength_nm, *spectra, self.roi_nm)

    def best_median_worst(self) -> dict[str, int]:
        """Row of the capture with the highest, the middle and the lowest PSNR."""
        order = np.argsort(-np.nan_to_num(self.psnr, nan=-np.inf), kind="stable")
        return {"Best": int(order[0]), "Median": int(order[len(order) // 2]), "Worst": int(order[-1])}


def panel_spectra(record: RunRecord, corpus: Corpus, panel: Manifest) -> PanelSpectra:
    """Read the archive for this panel; BadInput (file, row) when a spectrum is missing, damaged or not finite."""
    unique = panel.unique()
    rows = corpus.rows(unique)
    raw_ML = corpus.spectra_NL[rows].astype(np.float64)
    scored_against_itself = record.facts.get("reference") == "self"
    return PanelSpectra(
        wavelength_nm=corpus.wavelength_nm,
        path_M=unique.frame["relative_path"].to_numpy(dtype=str),
        group_M=unique.frame["group_id"].to_numpy(dtype=str),
        raw_ML=raw_ML,
        denoised_ML=record.predictions(unique, corpus.spectra_NL.shape[1]),
        reference_ML=raw_ML if scored_against_itself else loo_mean(corpus, rows).astype(np.float64),
        roi_nm=corpus.study.roi_nm,
    )
