"""Linear denoisers fitted in closed form on groups of a corpus: LMMSE (a control of every audit) and "F"."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from denoise_core.corpus.store import Corpus
from denoise_core.model.linear_denoiser import LMMSE, RECIPES, F, G, LinearDenoiser, LinearRecipe
from denoise_core.model.linear_filters import Array, GroupStatistics, RobustNoise, log_level
from study_core.errors import BadInput

__all__ = [
    "LMMSE",
    "RECIPES",
    "F",
    "G",
    "LinearDenoiser",
    "LinearRecipe",
    "fit",
    "fit_f",
    "fit_g",
    "fit_lmmse",
    "leave_one_group_out",
    "save_linear",
]

Rows = NDArray[np.int64]
HeldOut = tuple[Rows, NDArray[np.float32]]
CALIBRATION_CAPTURES = 30  # per group: more move no quantile
CALIBRATION_POINTS = 4.0  # Gaussian over the grid: one wavelength's quantile is itself noisy
ONE_SIGMA_COVERAGE = 0.6827


def fit_lmmse(corpus: Corpus, groups: Sequence[str], *, calibrate: bool = True) -> LinearDenoiser:
    """Linear MMSE filter around the training groups' mean; see `fit`."""
    return fit(corpus, groups, LMMSE, calibrate=calibrate)


def fit_f(corpus: Corpus, groups: Sequence[str], *, calibrate: bool = True) -> LinearDenoiser:
    """Filter F: level-local prior with the treatment's mean, smooth scale from the logit domain; see `fit`."""
    return fit(corpus, groups, F, calibrate=calibrate)


def fit_g(corpus: Corpus, groups: Sequence[str], *, calibrate: bool = True) -> LinearDenoiser:
    """Filter G: F with a noise model that knows of captures whose level jumped; see `fit`."""
    return fit(corpus, groups, G, calibrate=calibrate)


def fit(corpus: Corpus, groups: Sequence[str], recipe: LinearRecipe, *, calibrate: bool = True) -> LinearDenoiser:
    """Fit a recipe on all captures of these groups; deterministic, whatever the order of `groups`.

    `calibrate` scales the standard error by leave-one-group-out inside the groups (F: 0.2 s a group); without it the
    Gaussian model's own stands. BadInput for an unknown group, fewer than 3 groups, or a group of one capture.
    """
    rows_by_group = training_rows(corpus, groups)
    denoiser = LinearDenoiser(
        group_statistics(corpus, rows_by_group),
        recipe,
        groups=tuple(rows_by_group),
        corpus_sha256=corpus.sha256,
    )
    if calibrate:
        denoiser.error_scale_L = error_scale(corpus, denoiser)
    return denoiser


def training_rows(corpus: Corpus, groups: Sequence[str]) -> dict[str, Rows]:
    """group id → its rows of the corpus, sorted by id."""
    group_N = corpus.captures["group_id"].to_numpy(dtype=np.str_)
    known = {str(group): np.flatnonzero(group_N == group) for group in np.unique(group_N)}
    wanted = sorted(set(groups))
    if unknown := [group for group in wanted if group not in known]:
        raise BadInput(f"group {unknown[0]!r} is not in the corpus", file=corpus.root, remedy="name one of its groups")
    if len(wanted) < 3:
        raise BadInput(f"{len(wanted)} training groups", remedy="a covariance of group means needs 3 or more")
    if single := [group for group in wanted if len(known[group]) < 2]:
        raise BadInput(f"group {single[0]!r} has one capture", remedy="noise needs two captures of a spot; drop it")
    return {group: known[group] for group in wanted}


def group_statistics(corpus: Corpus, rows_by_group: Mapping[str, Rows]) -> GroupStatistics:
    """Group means, the pooled covariance of captures around them, and their jumps apart."""
    treatment_N = corpus.captures["treatment"].to_numpy()
    mean_GL = np.stack([corpus.spectra_NL[rows].mean(axis=0, dtype=np.float64) for rows in rows_by_group.values()])
    residuals = [corpus.spectra_NL[rows] - mean_L for rows, mean_L in zip(rows_by_group.values(), mean_GL, strict=True)]
    captures_G = tuple(len(rows) for rows in rows_by_group.values())
    return GroupStatistics(
        wavelength_nm=np.asarray(corpus.wavelength_nm, np.float64),
        mean_GL=mean_GL,
        treatment_G=tuple(str(treatment_N[rows[0]]) for rows in rows_by_group.values()),
        noise_covariance_LL=sum((rest_NL.T @ rest_NL for rest_NL in residuals), np.zeros(())) / sum(captures_G),
        captures_G=captures_G,
        noise=RobustNoise.of(residuals, log_level(mean_GL)),
    )


def leave_one_group_out(corpus: Corpus, denoiser: LinearDenoiser) -> Iterator[tuple[str, Rows, LinearDenoiser]]:
    """(group, its rows, the denoiser fitted without it) for every training group of `denoiser`.

    For choices that no test group may see, and for bases that a network trains on as it will meet them.
    """
    rows_by_group = training_rows(corpus, denoiser.groups)
    for index, (group, rows) in enumerate(rows_by_group.items()):
        rest = LinearDenoiser(
            denoiser.statistics.without(index, corpus.spectra_NL[rows]),
            denoiser.recipe,
            groups=[other for other in rows_by_group if other != group],
            corpus_sha256=denoiser.corpus_sha256,
            error_scale_L=denoiser.error_scale_L,
        )
        yield group, rows, rest


def fit_held_out(corpus: Corpus, groups: Sequence[str], recipe: LinearRecipe) -> tuple[LinearDenoiser, HeldOut]:
    """`fit`, and every capture of these groups denoised without its group: (rows, spectra (M, L)).

    One leaving out serves the standard error and the spectra: to solve a filter takes longer than to apply it.
    """
    denoiser = fit(corpus, groups, recipe, calibrate=False)
    rows_by_group, spectra, ratios = [], [], []
    for _, rows, held_out in leave_one_group_out(corpus, denoiser):
        ratios.append(_miss_ratio(corpus, rows, held_out))
        rows_by_group.append(rows)
        spectra.append(held_out.denoise(corpus.spectra_NL[rows], corpus.context(rows)))
    denoiser.error_scale_L = _covering(denoiser, ratios)
    return denoiser, (np.concatenate(rows_by_group), np.concatenate(spectra))


def error_scale(corpus: Corpus, denoiser: LinearDenoiser) -> Array:
    """Factor (L,) on `denoiser`'s standard error that makes it cover 68 % of held-out training captures.

    Quantile of |ŷ − mean of the group's other captures| / standard error, over captures of groups left out in turn.
    """
    left_out = leave_one_group_out(corpus, denoiser)
    return _covering(denoiser, [_miss_ratio(corpus, rows, held_out) for _, rows, held_out in left_out])


def _miss_ratio(corpus: Corpus, rows: Rows, held_out: LinearDenoiser) -> Array:
    """Error over standard error (captures, L) of a filter that has not seen this group."""
    spectra_NL = corpus.spectra_NL[rows].astype(np.float64)
    chosen = np.unique(np.linspace(0, len(rows) - 1, CALIBRATION_CAPTURES).astype(np.int64))
    reference_BL = (spectra_NL.sum(axis=0) - spectra_NL[chosen]) / (len(rows) - 1)
    context = corpus.context(rows[chosen])
    miss_BL = np.abs(held_out.denoise(spectra_NL[chosen], context) - reference_BL)
    return np.asarray(miss_BL / held_out.standard_error(spectra_NL[chosen], context))


def _covering(denoiser: LinearDenoiser, ratios: Sequence[Array]) -> Array:
    factor_L = np.quantile(np.concatenate(ratios), ONE_SIGMA_COVERAGE, axis=0)
    return np.asarray(denoiser.error_scale_L * gaussian_filter1d(factor_L, CALIBRATION_POINTS, mode="nearest"))


def save_linear(path: Path, denoiser: LinearDenoiser) -> str:
    """Write the fitted filter as a checkpoint of its own (`load_denoiser` reads it); returns the file's SHA-256."""
    from denoise_core.model import checkpoints  # loads torch, which fitting does without

    return checkpoints.save_linear(path, denoiser.state())
