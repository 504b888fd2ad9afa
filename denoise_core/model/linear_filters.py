"""Wiener filters around a prior built from group means: the mathematics behind `linear.py`.

Legend: G training groups, L wavelengths, B captures, D jumped captures; μ group means, C_b their covariance (what
spectra look like), C_w the covariance of a capture around its group's mean (what noise looks like).

A filter estimates x̂ = m + C (C + C_w)⁻¹ (x − m). Prior mean m and covariance C may depend on the capture's
level (median reflectance) and treatment. Exactly evaluated that is one L×L solve a capture; here the affine
map (gain, offset) is solved at nodes of the log level and interpolated between them. The exact reference and the
tolerance stand in `tests/denoise_core/model/test_linear.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve, eigh
from scipy.signal import savgol_filter
from scipy.special import expit, logit, softmax

Array = NDArray[np.float64]

LOWEST_REFLECTANCE = 1e-4  # captures are clipped to [this, 1 − this] before a logit: noise reaches below zero
WEIGHT_FLOOR = 0.02  # weight of a group infinitely far in level: no capture is without a prior
NOISE_LEVEL_EXPONENT = 0.6  # noise variance ∝ level^0.6 over the 54 groups of the real corpus (correlation .96)
EIGENVALUE_FLOOR = 1e-8  # of the largest eigenvalue: far below the noise of any wavelength
JUMP_Z = 3.5  # robust sd from its group's offset that make a capture a jump
FEWEST_JUMPS = 5  # fewer say nothing of a direction
LEVEL_STEP = 0.1  # distance of the nodes in log level; a quarter of the bandwidth
JACOBIAN_WINDOW = 61  # Savitzky-Golay (61, 3): the smooth spectrum at which the logit is linearised


@dataclass(frozen=True)
class FilterRecipe:
    """One Wiener filter: where it works and what its prior knows."""

    domain: Literal["linear", "logit"] = "linear"
    treatment_weight: float = 0.0  # share of the treatment's own mean deviation that the prior mean follows
    level_bandwidth: float | None = None  # Gaussian weights of the groups in log level; None: all groups alike
    local_share: float = 0.9  # of the level-weighted covariance; the rest is the unweighted one
    noise_coupling: float = 1.0  # factor on the off-diagonals of C_w
    taper_nm: float | None = None  # C ← (1 − share) C + share C ∘ exp(−½ (Δλ / taper_nm)²)
    taper_share: float = 0.3
    ddof: int = 0  # of the covariance of the group means
    jumps: tuple[tuple[float, float], ...] | None = None  # noise mixture: (share, factor on the jumps' covariance)
    jump_scepticism: float = 1.0  # factor on C where a jump is told from an unusual group


@dataclass(frozen=True)
class RobustNoise:
    """Noise without the captures that jumped, and these captures apart: at level 1, if variance ∝ level^0.6."""

    core_scatter_LL: Array  # Σ of outer products around the means of each group's unjumped captures
    core_captures: int
    jump_DL: Array  # jumped captures minus their group's mean
    jump_group_D: tuple[int, ...]

    @classmethod
    def of(cls, residuals: Iterable[Array], log_levels: Iterable[float]) -> RobustNoise:
        """From every group's captures minus their mean, and its log level."""
        scatter_LL: Array | float = 0.0
        captures, jumps, groups = 0, [], []
        for group, (rest_NL, level) in enumerate(zip(residuals, log_levels, strict=True)):
            core_NL, jump_DL = split_jumps(rest_NL * np.exp(-0.5 * NOISE_LEVEL_EXPONENT * level))
            scatter_LL = scatter_LL + core_NL.T @ core_NL
            captures += len(core_NL)
            jumps.append(jump_DL)
            groups += [group] * len(jump_DL)
        return cls(np.asarray(scatter_LL), captures, np.concatenate(jumps), tuple(groups))

    @property
    def covariance_LL(self) -> Array:
        return self.core_scatter_LL / self.core_captures

    @cached_property
    def jump_L(self) -> Array:
        """What all jumps share: leading direction of their covariance beyond the core's, one sd long."""
        points = len(self.core_scatter_LL)
        if len(self.jump_DL) < FEWEST_JUMPS:
            return np.zeros(points)
        excess_LL = self.jump_DL.T @ self.jump_DL / len(self.jump_DL) - self.covariance_LL
        value, vector_L1 = eigh(excess_LL, subset_by_index=[points - 1, points - 1])
        direction_L = vector_L1[:, 0] * np.sign(vector_L1[:, 0].sum())
        return np.asarray(direction_L * np.sqrt(max(value[0], 0.0)))

    def without(self, group: int, rest_NL: Array, level: float) -> RobustNoise:
        own = RobustNoise.of([rest_NL], [level])
        keep = [place for place, other in enumerate(self.jump_group_D) if other != group]
        return RobustNoise(
            self.core_scatter_LL - own.core_scatter_LL,
            self.core_captures - own.core_captures,
            self.jump_DL[keep],
            tuple(self.jump_group_D[place] - (self.jump_group_D[place] > group) for place in keep),
        )


def split_jumps(rest_NL: Array) -> tuple[Array, Array]:
    """Captures around the mean of those that did not jump, and the jumped ones: offset beyond 3.5 robust sd."""
    offset_N = rest_NL.mean(axis=1)
    distance_N = np.abs(offset_N - np.median(offset_N))
    jumped_N = distance_N > JUMP_Z * max(1.4826 * float(np.median(distance_N)), 1e-12)
    core_NL = rest_NL[~jumped_N]
    return core_NL - core_NL.mean(axis=0), rest_NL[jumped_N]


@dataclass(frozen=True)
class GroupStatistics:
    """What a fit keeps of its training captures (float64)."""

    wavelength_nm: Array  # (L,)
    mean_GL: Array
    treatment_G: tuple[str, ...]
    noise_covariance_LL: Array  # C_w, pooled over groups: scatter around the group means / number of captures
    captures_G: tuple[int, ...]
    noise: RobustNoise

    @cached_property
    def log_level_G(self) -> Array:
        return log_level(self.mean_GL)

    @cached_property
    def treatments(self) -> tuple[str, ...]:
        return tuple(sorted(set(self.treatment_G)))

    def without(self, group: int, captures_NL: NDArray[np.floating]) -> GroupStatistics:
        """The same statistics, had this group (given by all its captures) never been seen."""
        keep = [index for index in range(len(self.treatment_G)) if index != group]
        rest_NL = np.asarray(captures_NL, np.float64) - self.mean_GL[group]
        noise = self.noise.without(group, rest_NL, float(self.log_level_G[group]))
        total = sum(self.captures_G)
        scatter_LL = self.noise_covariance_LL * total - rest_NL.T @ rest_NL
        return GroupStatistics(
            self.wavelength_nm,
            self.mean_GL[keep],
            tuple(self.treatment_G[index] for index in keep),
            scatter_LL / (total - self.captures_G[group]),
            tuple(self.captures_G[index] for index in keep),
            noise,
        )


def log_level(x_BL: NDArray[np.floating]) -> Array:
    """Log of each spectrum's median over the grid: (B, L) → (B,)."""
    return np.log(np.clip(np.median(np.asarray(x_BL, np.float64), axis=-1), LOWEST_REFLECTANCE, None))


def to_domain(x: NDArray[np.floating], domain: str) -> Array:
    x64 = np.asarray(x, np.float64)
    return logit(np.clip(x64, LOWEST_REFLECTANCE, 1 - LOWEST_REFLECTANCE)) if domain == "logit" else x64


def from_domain(z: Array, domain: str) -> Array:
    return expit(z) if domain == "logit" else z


def group_weights(statistics: GroupStatistics, bandwidth: float | None, level: float) -> Array:
    """Weight of every group for a capture of this log level, sum 1: (G,)."""
    log_level_G = statistics.log_level_G
    if bandwidth is None:
        return np.full(len(log_level_G), 1 / len(log_level_G))
    weight_G = np.exp(-0.5 * ((level - log_level_G) / bandwidth) ** 2) + WEIGHT_FLOOR
    return np.asarray(weight_G / weight_G.sum())


def treatment_deviations(
    statistics: GroupStatistics, mean_GL: Array, weight_G: Array
) -> tuple[Array, dict[str, Array]]:
    """Weighted mean of all groups (L,), and each treatment's own weighted mean minus it."""
    centre_L = weight_G @ mean_GL
    treatment_G = np.array(statistics.treatment_G)
    deviations = {
        str(name): np.average(mean_GL[treatment_G == name], axis=0, weights=weight_G[treatment_G == name]) - centre_L
        for name in np.unique(treatment_G)
    }
    return centre_L, deviations


@dataclass(frozen=True)
class Prior:
    """Prior of one log level: mean by treatment (unknown treatment: `centre_L`) and covariance."""

    centre_L: Array
    shift_TL: dict[str, Array]
    covariance_LL: Array

    def mean(self, treatment: str) -> Array:
        shift_L = self.shift_TL.get(treatment)
        return self.centre_L if shift_L is None else self.centre_L + shift_L


def prior_at(statistics: GroupStatistics, recipe: FilterRecipe, level: float) -> Prior:
    """Prior of a capture with this log level, in the recipe's domain."""
    mean_GL = to_domain(statistics.mean_GL, recipe.domain)
    weight_G = group_weights(statistics, recipe.level_bandwidth, level)
    centre_L, deviations = treatment_deviations(statistics, mean_GL, weight_G)
    shift_TL = {name: recipe.treatment_weight * deviation for name, deviation in deviations.items()}
    rest_GL = mean_GL - centre_L
    if recipe.treatment_weight:
        rest_GL = rest_GL - np.stack([shift_TL[name] for name in statistics.treatment_G])
    count = len(rest_GL)
    covariance_LL = (rest_GL * weight_G[:, None]).T @ rest_GL * (count / (count - recipe.ddof))
    if recipe.level_bandwidth is not None:
        uniform_LL = rest_GL.T @ rest_GL / (count - recipe.ddof)
        covariance_LL = recipe.local_share * covariance_LL + (1 - recipe.local_share) * uniform_LL
    if recipe.taper_nm is not None:
        distance_LL = statistics.wavelength_nm[:, None] - statistics.wavelength_nm
        taper_LL = np.exp(-0.5 * (distance_LL / recipe.taper_nm) ** 2)
        covariance_LL = covariance_LL * (1 - recipe.taper_share + recipe.taper_share * taper_LL)
    return Prior(centre_L, shift_TL, covariance_LL)


def filter_noise(statistics: GroupStatistics, recipe: FilterRecipe, level: float) -> Array:
    """Noise covariance that the filter believes in: its off-diagonals times the recipe's coupling.

    Weaker than measured, because the prior of a few dozen groups is surer of smooth shapes than a new group allows.
    From fewer captures than 2 L the covariance is ill-conditioned or singular: the off-diagonals weaken in proportion.
    """
    points = len(statistics.wavelength_nm)
    free = sum(statistics.captures_G) - len(statistics.captures_G)
    kept = recipe.noise_coupling * min(1.0, free / (2 * points))
    noise_LL = statistics.noise_covariance_LL
    if recipe.jumps is not None:
        noise_LL = statistics.noise.covariance_LL * np.exp(NOISE_LEVEL_EXPONENT * level)
    return np.asarray(kept * noise_LL + (1 - kept) * np.diag(np.diag(noise_LL)))


def typical_spectrum(statistics: GroupStatistics, level: float) -> Array:
    """Smooth spectrum that groups of this log level have: (L,); regression of log μ on log level, smoothed."""
    x_G = statistics.log_level_G
    log_mean_GL = np.log(np.clip(statistics.mean_GL, LOWEST_REFLECTANCE, 1 - LOWEST_REFLECTANCE))
    centred_G = x_G - x_G.mean()
    slope_L = centred_G @ log_mean_GL / max(float(centred_G @ centred_G), 1e-12)
    spectrum_L = np.exp(log_mean_GL.mean(axis=0) + (level - x_G.mean()) * slope_L)
    return smooth(np.clip(spectrum_L, LOWEST_REFLECTANCE, 1 - LOWEST_REFLECTANCE))


def smooth(x_L: Array) -> Array:
    """Savitzky-Golay (61, 3), narrower on short grids; never outside the logit's domain."""
    window = min(JACOBIAN_WINDOW, len(x_L) - 1 + len(x_L) % 2)
    smoothed = savgol_filter(x_L, window, min(3, window - 1))
    return np.asarray(np.clip(smoothed, LOWEST_REFLECTANCE, 1 - LOWEST_REFLECTANCE), np.float64)


def logit_slope(x_L: Array) -> Array:
    """Derivative of the logit: what turns noise of x into noise of logit x."""
    return np.asarray(1 / (x_L * (1 - x_L)))


@dataclass(frozen=True)
class Node:
    """A filter solved at one log level: z → offset(treatment) + gain z, both in the recipe's domain.

    Where the recipe knows of jumps, captures are also searched for them: `jump_probe_L`ᵀ(z − mean) says how far a
    capture jumped in units of `jump_reply_L`, what the gain alone makes of a jump of one sd.
    """

    prior: Prior
    gain_LL: Array
    slope_L: Array  # d domain / d reflectance at the node
    jump_probe_L: Array
    jump_reply_L: Array
    jump_evidence: float  # variance of the probe's answer where nothing jumped

    def offset(self, treatment: str) -> Array:
        mean_L = self.prior.mean(treatment)
        return mean_L - self.gain_LL @ mean_L

    @property
    def reflectance_gain_LL(self) -> Array:
        """The gain linearised in reflectance."""
        return self.gain_LL * self.slope_L / self.slope_L[:, None]


def _factor(covariance_LL: Array) -> tuple[Array, bool]:
    """Cholesky factor of prior + noise; where few captures leave it indefinite, its eigenvalues are floored first."""
    try:
        lower_LL, lower = cho_factor(covariance_LL, check_finite=False)
    except LinAlgError:
        value_L, vector_LL = eigh(covariance_LL)
        floored_LL = (vector_LL * np.maximum(value_L, value_L[-1] * EIGENVALUE_FLOOR)) @ vector_LL.T
        lower_LL, lower = cho_factor(floored_LL, check_finite=False)
    return np.asarray(lower_LL), bool(lower)


def solve_node(
    statistics: GroupStatistics, recipe: FilterRecipe, level: float, linearised_at_L: Array | None = None
) -> Node:
    """Solve the filter for one log level; slope of the logit at `linearised_at_L` (default: typical spectrum)."""
    prior = prior_at(statistics, recipe, level)
    noise_LL = filter_noise(statistics, recipe, level)
    slope_L = np.ones(len(statistics.wavelength_nm))
    if recipe.domain == "logit":
        slope_L = logit_slope(typical_spectrum(statistics, level) if linearised_at_L is None else linearised_at_L)
        noise_LL = noise_LL * slope_L * slope_L[:, None]
    factor = _factor(prior.covariance_LL + noise_LL)
    gain_LL = np.asarray(cho_solve(factor, prior.covariance_LL, check_finite=False).T)
    jump_L = np.zeros_like(slope_L)
    if recipe.jumps is not None:
        jump_L = statistics.noise.jump_L * slope_L * np.exp(0.5 * NOISE_LEVEL_EXPONENT * level)
        if recipe.jump_scepticism != 1:
            sceptical_LL = recipe.jump_scepticism * prior.covariance_LL + noise_LL
            factor = _factor(sceptical_LL)
    probe_L = np.asarray(cho_solve(factor, jump_L, check_finite=False))
    return Node(prior, gain_LL, slope_L, probe_L, gain_LL @ jump_L, float(jump_L @ probe_L))


def jump_posterior(probe_B: Array, evidence: float, mixture: tuple[tuple[float, float], ...]) -> tuple[Array, Array]:
    """Posterior mean and variance (B,) of how far each capture jumped, in sd of the known jumps.

    The noise is a Gaussian scale mixture: with probability `share` its covariance has `factor` times the jumps' own
    added. Each component is a rank-one update of the filter, so one dot product a capture decides between them.
    """
    share_K, factor_K = np.array(mixture).T
    loss_K = 1 + factor_K * evidence
    ratio_K = factor_K / loss_K
    log_weight_BK = np.log(share_K) - 0.5 * np.log(loss_K) + 0.5 * ratio_K * probe_B[:, None] ** 2
    weight_BK = softmax(log_weight_BK, axis=1)
    mean_BK = ratio_K * probe_B[:, None]
    mean_B = (weight_BK * mean_BK).sum(axis=1)
    return mean_B, (weight_BK * (ratio_K + mean_BK**2)).sum(axis=1) - mean_B**2
