"""The linear denoisers' figures on the real corpus, as its documents state them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from denoise_core.corpus.reference import loo_mean
from denoise_core.corpus.store import Corpus, open_corpus
from denoise_core.evaluation.limits import roi
from denoise_core.evaluation.scores import recorded, score
from denoise_core.evaluation.thresholds import GateThresholds
from denoise_core.model.linear import LinearDenoiser, fit_f, fit_g, fit_lmmse
from denoise_core.model.linear_filters import smooth, solve_node


@pytest.fixture(scope="module")
def corpus(real_corpus_root: Path) -> Corpus:
    return open_corpus(real_corpus_root)


def panel_figures(corpus: Corpus, denoiser: LinearDenoiser) -> dict[str, float]:
    rows = corpus.rows(corpus.manifest("validation_panel"))
    y_ML = denoiser.denoise(corpus.spectra_NL[rows], corpus.context(rows))
    scores = score(y_ML, loo_mean(corpus, rows), corpus.wavelength_nm)
    record = recorded(scores, corpus.groups(rows))
    return record.figures | roi(record, GateThresholds())


@pytest.mark.parametrize(
    ("fit", "psnr", "spread", "sam", "area"),
    [(fit_lmmse, 52.69, 3.57, 0.313, 0.837), (fit_f, 53.75, 3.72, 0.282, 0.909), (fit_g, 54.06, 3.91, 0.271, 0.909)],
)
def test_panel_figures(
    corpus: Corpus,
    fit: Callable[..., LinearDenoiser],
    psnr: float,
    spread: float,
    sam: float,
    area: float,
) -> None:
    figures = panel_figures(corpus, fit(corpus, corpus.manifest("manifest_train").groups, calibrate=False))
    assert figures["psnr_mean"] == pytest.approx(psnr, abs=0.01)
    assert figures["psnr_std"] == pytest.approx(spread, abs=0.01)
    assert figures["sam_mean"] == pytest.approx(sam, abs=0.001)
    assert figures["area_within_10_pct_ratio"] == pytest.approx(area, abs=0.002)


def test_slope_of_the_logit_at_the_typical_spectrum_loses_nothing(corpus: Corpus) -> None:
    """F as first written takes the logit's slope at each capture's own smoothed spectrum: one solve a capture."""
    training = corpus.manifest("manifest_train")
    groups = training.groups
    held_out = groups[::10]
    f = fit_f(corpus, [group for group in groups if group not in held_out], calibrate=False)
    rows = np.concatenate([np.flatnonzero(corpus.captures["group_id"] == group)[::50] for group in held_out])
    context, x_BL = corpus.context(rows), corpus.spectra_NL[rows].astype(np.float64)
    fast_BL = f.denoise(x_BL, context)
    assert f.recipe.smooth is not None
    exact = []
    for x_L, treatment in zip(x_BL, context.treatment, strict=True):
        level = float(np.log(np.median(x_L)))
        fine = solve_node(f.statistics, f.recipe.fine, level)
        own = solve_node(f.statistics, f.recipe.smooth, level, linearised_at_L=smooth(x_L))
        fine_L = fine.offset(str(treatment)) + fine.gain_LL @ x_L
        z_L = own.offset(str(treatment)) + own.gain_LL @ np.log(x_L / (1 - x_L))
        exact.append(fine_L + f._smoothed(1 / (1 + np.exp(-z_L)) - fine_L))
    reference_BL = loo_mean(corpus, rows)
    fast_db, exact_db = (score(y, reference_BL, corpus.wavelength_nm).psnr_M.mean() for y in (fast_BL, np.stack(exact)))
    assert fast_db > exact_db - 0.1
