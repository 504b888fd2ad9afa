"""Calibrator head (Act B): y = σ(a(λ; c) · logit ŷ + b(λ; c)), smooth in λ, the identity at the start.

B batch, L wavelengths, K = 8 spline coefficients, F FiLM features. c: the FiLM features and the capture's own pooled
features, so that each capture is still calibrated on its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import BSpline
from torch import Tensor, nn

COEFFICIENTS = 8
EDGE = 1e-6  # reflectance this close to 0 or 1 is clamped: the logit must stay finite
REMOVED_UNIT = 0.01  # reflectance; brings what the backbone took off to order one


def cubic_basis(wavelength_nm: NDArray[np.floating[Any]], count: int = COEFFICIENTS) -> NDArray[np.float64]:
    """(L, K) clamped cubic B-splines on equidistant knots; every row sums to one."""
    position = np.asarray(wavelength_nm, dtype=np.float64)
    position = (position - position[0]) / np.ptp(position)
    inner = np.linspace(0.0, 1.0, count - 2)
    knots = np.concatenate([[0.0] * 3, inner, [1.0] * 3])
    dense: NDArray[np.float64] = BSpline.design_matrix(np.clip(position, 0.0, 1.0), knots, 3).toarray()
    return dense


class Calibrator(nn.Module):
    """a = exp(spline) > 0 and b = spline, their coefficients predicted by one hidden layer, zero at init."""

    def __init__(self, wavelength_nm: NDArray[np.floating[Any]], n_features: int, hidden: int = 32) -> None:
        super().__init__()
        basis = cubic_basis(wavelength_nm)
        self.register_buffer("basis_LK", torch.from_numpy(basis.astype(np.float32)), persistent=False)
        pool = (basis / basis.sum(axis=0)).astype(np.float32)
        self.register_buffer("pool_LK", torch.from_numpy(pool), persistent=False)
        self.head = nn.Sequential(
            nn.Linear(n_features + 2 * COEFFICIENTS, hidden), nn.SiLU(), nn.Linear(hidden, 2 * COEFFICIENTS)
        )
        for parameter in self.head[2].parameters():
            nn.init.zeros_(parameter)

    def forward(self, y_BL: Tensor, x_BL: Tensor, features_BF: Tensor) -> Tensor:
        """Calibrated reflectance (B, L) from the backbone's y, the capture x and standardised features."""
        with torch.autocast(y_BL.device.type, enabled=False):  # a logit near an edge needs float32
            y_BL, x_BL, features_BF = y_BL.float(), x_BL.float(), features_BF.float()
            logit_BL = torch.logit(y_BL, eps=EDGE)
            a_BL, b_BL = self.curves(logit_BL, y_BL, x_BL, features_BF)
            return torch.sigmoid(a_BL * logit_BL + b_BL)

    def curves(self, logit_BL: Tensor, y_BL: Tensor, x_BL: Tensor, features_BF: Tensor) -> tuple[Tensor, Tensor]:
        """a(λ; c) and b(λ; c), each (B, L). Pooled: the local means of logit ŷ and of what the backbone took off."""
        pool: Tensor = self.pool_LK  # type: ignore[assignment]
        basis: Tensor = self.basis_LK  # type: ignore[assignment]
        pooled = [logit_BL @ pool, (x_BL - y_BL) / REMOVED_UNIT @ pool]
        coefficients_B2K = self.head(torch.cat([features_BF, *pooled], dim=-1)).view(len(y_BL), 2, COEFFICIENTS)
        curves_B2L = coefficients_B2K @ basis.t()
        return curves_B2L[:, 0].exp(), curves_B2L[:, 1]
