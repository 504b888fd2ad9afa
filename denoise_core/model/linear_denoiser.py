"""A linear denoiser: fitted statistics and a recipe, applied to one capture at a time.

    y_fine    Wiener filter in reflectance
    y_smooth  Wiener filter in the logit domain (where the recipe has one)
    ŷ = y_fine + Gauss(6 nm) (y_smooth − y_fine)

The fine scale carries the instrument's fingerprint, additive and set by the treatment; the smooth scale is the
sample's own spectrum, multiplicative in nature: hence two domains. What each part is worth: `benchmarks/quality.md`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from denoise_core.model.linear_filters import (
    LEVEL_STEP,
    NOISE_LEVEL_EXPONENT,
    Array,
    FilterRecipe,
    GroupStatistics,
    Node,
    RobustNoise,
    from_domain,
    jump_posterior,
    log_level,
    solve_node,
    to_domain,
)
from study_core.errors import BadInput

if TYPE_CHECKING:
    from denoise_core.corpus.captures import Context

STATE_KIND = "linear"
STATE_VERSION = 1
UNKNOWN_TREATMENT = ""  # the prior without a treatment's own deviation
ERROR_LEVEL_STEP = 0.2  # nodes of the standard error: it moves more slowly with level than the filter


@dataclass(frozen=True)
class LinearRecipe:
    """A named denoiser: one filter, or a fine and a smooth one."""

    name: str
    fine: FilterRecipe
    smooth: FilterRecipe | None = None
    smooth_nm: float = 6.0


LMMSE = LinearRecipe("lmmse", FilterRecipe(ddof=1))
F = LinearRecipe(
    "f",
    fine=FilterRecipe(treatment_weight=0.8, level_bandwidth=0.4, noise_coupling=0.5, taper_nm=150.0),
    smooth=FilterRecipe("logit", treatment_weight=0.5, noise_coupling=0.5, taper_nm=150.0),
)
G = LinearRecipe(
    "g",
    fine=F.fine,
    smooth=FilterRecipe(
        "logit",
        treatment_weight=0.5,
        noise_coupling=0.5,
        taper_nm=150.0,
        jumps=((0.90, 0.0), (0.07, 0.1), (0.03, 1.0)),
        jump_scepticism=2.0,
    ),
)
RECIPES = {recipe.name: recipe for recipe in (LMMSE, F, G)}


@dataclass(frozen=True)
class LevelGrid:
    """Nodes `lowest`, `lowest + step`, … in log level; beyond the ends the end's node holds."""

    lowest: float
    step: float
    last: int

    @classmethod
    def over(cls, statistics: GroupStatistics, step: float, reach: float) -> LevelGrid:
        """From the darkest group's level − reach to the brightest one's + reach."""
        lowest, highest = float(statistics.log_level_G.min()) - reach, float(statistics.log_level_G.max()) + reach
        return cls(lowest, step, int(np.ceil((highest - lowest) / step)))

    def level(self, index: int) -> float:
        return self.lowest + index * self.step

    def shares(self, level_B: Array) -> Iterator[tuple[int, NDArray[np.int64], Array]]:
        """(node, rows, share of this node in each of the rows): the shares of a row sum to 1."""
        position_B = np.clip((level_B - self.lowest) / self.step, 0, self.last)
        lower_B = np.floor(position_B).astype(np.int64)
        upper_share_B = position_B - lower_B
        for side, share_B in ((0, 1 - upper_share_B), (1, upper_share_B)):
            for index in np.unique(lower_B[share_B > 0]):
                rows = np.flatnonzero((lower_B == index) & (share_B > 0))
                yield int(index) + side, rows, share_B[rows]


class SolvedNode:
    """What applying a node needs: its gain in float32, and by treatment what depends on the prior's mean."""

    def __init__(self, node: Node, treatments: Sequence[str]) -> None:
        self.gain_LL = node.gain_LL.astype(np.float32)
        self.slope_L = node.slope_L
        self.probe_L, self.reply_L, self.evidence = node.jump_probe_L, node.jump_reply_L, node.jump_evidence
        names = (UNKNOWN_TREATMENT, *treatments)
        self._number = {name: number for number, name in enumerate(names)}
        self._offset_TL = np.stack([node.offset(name) for name in names])
        self._probed_mean_T = np.array([node.jump_probe_L @ node.prior.mean(name) for name in names])

    def apply(self, z_BL: NDArray[np.float32], treatment_B: NDArray[np.str_]) -> Array:
        return np.asarray(z_BL @ self.gain_LL.T + self._offset_TL[self._numbers(treatment_B)])

    def probe(self, z_BL: NDArray[np.float32], treatment_B: NDArray[np.str_]) -> Array:
        return np.asarray(z_BL @ self.probe_L - self._probed_mean_T[self._numbers(treatment_B)])

    def _numbers(self, treatment_B: NDArray[np.str_]) -> NDArray[np.int64]:
        return np.array([self._number.get(str(name), 0) for name in treatment_B], np.int64)


class LevelTable:
    """One filter at nodes of the log level, solved when first needed, interpolated linearly between them."""

    def __init__(self, statistics: GroupStatistics, recipe: FilterRecipe) -> None:
        self.statistics, self.recipe = statistics, recipe
        self.grid = LevelGrid.over(statistics, LEVEL_STEP, recipe.level_bandwidth or LEVEL_STEP)
        if recipe.level_bandwidth is None and recipe.domain == "linear":
            self.grid = LevelGrid(self.grid.lowest, LEVEL_STEP, 0)  # nothing in this filter depends on the level
        self._solved: dict[int, SolvedNode] = {}

    def apply(self, x_BL: Array, level_B: Array, treatment_B: NDArray[np.str_]) -> Array:
        """Filtered reflectance (B, L)."""
        z_BL = to_domain(x_BL, self.recipe.domain).astype(np.float32)
        out_BL = np.zeros(z_BL.shape)
        for index, rows, share_B in self.grid.shares(level_B):
            node = self._node(index)
            y_BL = node.apply(z_BL[rows], treatment_B[rows])
            if self.recipe.jumps is not None:
                jump_B, _ = jump_posterior(node.probe(z_BL[rows], treatment_B[rows]), node.evidence, self.recipe.jumps)
                y_BL -= jump_B[:, None] * node.reply_L
            out_BL[rows] += share_B[:, None] * y_BL
        return from_domain(out_BL, self.recipe.domain)

    def jump_error(self, x_BL: Array, level_B: Array, treatment_B: NDArray[np.str_]) -> Array:
        """Standard deviation (B, L), in reflectance, from not knowing how far each capture jumped."""
        z_BL = to_domain(x_BL, self.recipe.domain).astype(np.float32)
        out_BL = np.zeros(z_BL.shape)
        if self.recipe.jumps is None:
            return out_BL
        for index, rows, share_B in self.grid.shares(level_B):
            node = self._node(index)
            _, variance_B = jump_posterior(node.probe(z_BL[rows], treatment_B[rows]), node.evidence, self.recipe.jumps)
            out_BL[rows] += (share_B * np.sqrt(variance_B))[:, None] * np.abs(node.reply_L / node.slope_L)
        return out_BL

    def _node(self, index: int) -> SolvedNode:
        if index not in self._solved:
            node = solve_node(self.statistics, self.recipe, self.grid.level(index))
            self._solved[index] = SolvedNode(node, self.statistics.treatments)
        return self._solved[index]


class LinearDenoiser:
    """A fitted linear filter; each capture is denoised on its own, from its spectrum and its treatment.

    A treatment that no training group had falls back to the prior of all groups. Implements `Denoiser`.
    """

    def __init__(
        self,
        statistics: GroupStatistics,
        recipe: LinearRecipe,
        *,
        groups: Sequence[str],
        corpus_sha256: str,
        error_scale_L: Array | None = None,
    ) -> None:
        self.statistics, self.recipe = statistics, recipe
        self.groups, self.corpus_sha256 = tuple(groups), corpus_sha256
        self.error_scale_L = np.ones(len(statistics.wavelength_nm)) if error_scale_L is None else error_scale_L
        self._fine = LevelTable(statistics, recipe.fine)
        self._smooth = None if recipe.smooth is None else LevelTable(statistics, recipe.smooth)
        self._error_grid = LevelGrid.over(statistics, ERROR_LEVEL_STEP, 0.0)
        self._errors: dict[int, Array] = {}

    @property
    def name(self) -> str:
        return self.recipe.name

    def denoise(self, x_BL: NDArray[np.floating[Any]], context: Context) -> NDArray[np.float32]:
        """Reflectance (B, L) → denoised reflectance (B, L)."""
        x64_BL, treatment_B = self._checked(x_BL, context)
        level_B = log_level(x64_BL)
        y_BL = self._fine.apply(x64_BL, level_B, treatment_B)
        if self._smooth is not None:
            y_BL = y_BL + self._smoothed(self._smooth.apply(x64_BL, level_B, treatment_B) - y_BL)
        return y_BL.astype(np.float32)

    def standard_error(self, x_BL: NDArray[np.floating[Any]], context: Context) -> NDArray[np.float32]:
        """Standard deviation of the denoised spectrum around the group's true one (B, L).

        From the linearised filter A: diag((I − A) C (I − A)ᵀ + A C_w Aᵀ)^½, times the factor per wavelength that
        makes the 68 % interval hold 68 % of held-out training captures.
        """
        x64_BL, treatment_B = self._checked(x_BL, context)
        level_B = log_level(x64_BL)
        error_BL = np.zeros(x64_BL.shape)
        for index, rows, share_B in self._error_grid.shares(level_B):
            if index not in self._errors:
                self._errors[index] = self._error_at(self._error_grid.level(index))
            error_BL[rows] += share_B[:, None] * self._errors[index]
        if self._smooth is not None:
            error_BL = np.hypot(error_BL, self._smoothed(self._smooth.jump_error(x64_BL, level_B, treatment_B)))
        return np.asarray(error_BL * self.error_scale_L, np.float32)

    def _error_at(self, level: float) -> Array:
        fine = solve_node(self.statistics, self.recipe.fine, level)
        gain_LL, covariance_LL = fine.gain_LL, fine.prior.covariance_LL
        if self.recipe.smooth is not None:
            smooth = solve_node(self.statistics, self.recipe.smooth, level).reflectance_gain_LL
            gain_LL = gain_LL + self._smoothed((smooth - gain_LL).T).T
        if self.recipe.smooth is not None and self.recipe.smooth.jumps is not None:
            noise_LL = self.statistics.noise.covariance_LL * np.exp(NOISE_LEVEL_EXPONENT * level)
        else:
            relative_level = level - float(np.mean(self.statistics.log_level_G))
            noise_LL = self.statistics.noise_covariance_LL * np.exp(NOISE_LEVEL_EXPONENT * relative_level)
        miss_LL = np.eye(len(gain_LL)) - gain_LL
        variance_L = np.einsum("ij,ij->i", miss_LL @ covariance_LL, miss_LL)
        variance_L += np.einsum("ij,ij->i", gain_LL @ noise_LL, gain_LL)
        return np.asarray(np.sqrt(variance_L))

    def _smoothed(self, y_BL: Array) -> Array:
        step_nm = float(np.mean(np.diff(self.statistics.wavelength_nm)))
        return np.asarray(gaussian_filter1d(y_BL, self.recipe.smooth_nm / step_nm, axis=-1))

    def _checked(self, x_BL: NDArray[np.floating[Any]], context: Context) -> tuple[Array, NDArray[np.str_]]:
        points = len(self.statistics.wavelength_nm)
        if x_BL.ndim != 2 or x_BL.shape[1] != points:
            raise BadInput(
                f"spectra of shape {x_BL.shape}, this {self.name} filter was fitted on (captures, {points})",
                remedy="denoise spectra on the corpus's wavelength grid, or fit the filter on theirs",
            )
        finite_B = np.isfinite(x_BL).all(axis=1)
        if not finite_B.all():
            raise BadInput("NaN or infinite reflectance", row=int(np.argmin(finite_B)), remedy="drop the capture")
        if len(context.treatment) != len(x_BL):
            raise BadInput(f"{len(context.treatment)} treatments for {len(x_BL)} spectra", remedy="pass one a spectrum")
        return x_BL.astype(np.float64), np.asarray(context.treatment)

    def state(self) -> dict[str, Any]:
        """Everything `from_state` needs, as tensors and plain values: for `torch.load(weights_only=True)`."""
        import torch  # nothing else of a filter needs it, and it takes longer to load than a fold to score

        statistics = self.statistics
        return {
            "kind": STATE_KIND,
            "version": STATE_VERSION,
            "recipe": asdict(self.recipe),
            "groups": list(self.groups),
            "treatments": list(statistics.treatment_G),
            "captures": list(statistics.captures_G),
            "corpus_sha256": self.corpus_sha256,
            "wavelength_nm": torch.from_numpy(statistics.wavelength_nm.copy()),
            "group_means": torch.from_numpy(statistics.mean_GL.copy()),
            "core_scatter": torch.from_numpy(statistics.noise.core_scatter_LL.copy()),
            "core_captures": statistics.noise.core_captures,
            "jumps": torch.from_numpy(statistics.noise.jump_DL.copy()),
            "jump_groups": list(statistics.noise.jump_group_D),
            "noise_covariance": torch.from_numpy(statistics.noise_covariance_LL.copy()),
            "error_scale": torch.from_numpy(self.error_scale_L.copy()),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> LinearDenoiser:
        """Inverse of `state`. BadInput for another kind or version, or for missing parts."""
        if state.get("kind") != STATE_KIND or state.get("version") != STATE_VERSION:
            raise BadInput(
                f"kind {state.get('kind')!r}, version {state.get('version')!r}: not a linear denoiser's state",
                remedy=f"expected kind {STATE_KIND!r}, version {STATE_VERSION}; fit the filter again",
            )
        try:
            recipe = dict(state["recipe"])
            smooth = recipe.pop("smooth")
            return cls(
                GroupStatistics(
                    wavelength_nm=state["wavelength_nm"].numpy(),
                    mean_GL=state["group_means"].numpy(),
                    treatment_G=tuple(state["treatments"]),
                    noise_covariance_LL=state["noise_covariance"].numpy(),
                    captures_G=tuple(state["captures"]),
                    noise=RobustNoise(
                        core_scatter_LL=state["core_scatter"].numpy(),
                        core_captures=state["core_captures"],
                        jump_DL=state["jumps"].numpy(),
                        jump_group_D=tuple(state["jump_groups"]),
                    ),
                ),
                LinearRecipe(
                    **{**recipe, "fine": _filter_recipe(recipe["fine"])},
                    smooth=None if smooth is None else _filter_recipe(smooth),
                ),
                groups=state["groups"],
                corpus_sha256=state["corpus_sha256"],
                error_scale_L=state["error_scale"].numpy(),
            )
        except (KeyError, TypeError, AttributeError) as missing:
            raise BadInput(f"a linear denoiser's state without {missing}", remedy="fit the filter again") from missing


def _filter_recipe(values: Mapping[str, Any]) -> FilterRecipe:
    jumps = values["jumps"]
    return FilterRecipe(**{**values, "jumps": None if jumps is None else tuple(map(tuple, jumps))})
