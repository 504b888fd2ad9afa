"""The linear probe of a layer: scaler, PCA and L2 logistic regression, fitted inside each fold.

A probe remembers the groups that it was fitted on and refuses to score them: a score is of rows that the probe has
not seen, or there is none. (Fitted and scored on the same rows, pure noise has an AUROC of 1.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from concept_core.cav.rows import Bools, Floats, Rows
from concept_core.plans import NEGATIVES, CavPlan
from study_core.errors import BadInput

NO_DIRECTION = 1e-9
"""A weight vector shorter than this points nowhere."""
PLAIN = ("pos", *NEGATIVES)
CENTRED = (*PLAIN, "off")
Part = Literal["oof", "held_out"]


@dataclass(frozen=True)
class Projection:
    """z = V'((x − μ) / σ): μ and σ of d features, V' of k × d; a constant feature has σ = 1."""

    mean_d: Floats
    scale_d: Floats
    components_kd: Floats

    def __call__(self, x_nd: Floats) -> Floats:
        scaled: Floats = ((np.asarray(x_nd, dtype=float) - self.mean_d) / self.scale_d) @ self.components_kd.T
        return scaled


def fit_projection(x_nd: Floats, dim: int) -> Projection:
    """Scaler and PCA of at most `dim` components (fewer where rows or features are). Labels are not seen."""
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    x_nd = np.asarray(x_nd, dtype=float)
    scaler = StandardScaler().fit(x_nd)
    rank = max(1, min(dim, x_nd.shape[0] - 1, x_nd.shape[1]))
    pca = PCA(n_components=rank, svd_solver="full").fit(scaler.transform(x_nd))
    return Projection(np.array(scaler.mean_), np.array(scaler.scale_), np.array(pca.components_))


@dataclass(frozen=True)
class Probe:
    """A fitted probe: logit = w·z + b. `groups` are the homology groups that it was fitted on."""

    projection: Projection
    weights_k: Floats
    bias: float
    groups: frozenset[str]

    @property
    def has_direction(self) -> bool:
        """Whether the weights point anywhere; without a direction every score is 0."""
        return bool(np.linalg.norm(self.weights_k) >= NO_DIRECTION)

    @cached_property
    def affine(self) -> tuple[Floats, float]:
        """The probe in the model's own space: logit = a·x + c, a of d features; zero where there is no direction."""
        if not self.has_direction:
            return np.zeros_like(self.projection.mean_d), 0.0
        a_d = (self.weights_k @ self.projection.components_kd) / self.projection.scale_d
        return a_d, float(self.bias - a_d @ self.projection.mean_d)

    def logits(self, x_nd: Floats, groups: Sequence[str]) -> Floats:
        """Scores of n rows whose groups the probe has not seen.

        Raises:
            BadInput: a row's group was in the training rows.
        """
        seen = self.groups & set(groups)
        if seen:
            what = f"{len(seen)} homology groups were fitted on (first: {min(seen)})"
            raise BadInput(what, remedy="score rows of other groups: out of fold, or held out")
        a_d, c = self.affine
        scores: Floats = np.asarray(x_nd, dtype=float) @ a_d + c
        return scores


@dataclass(frozen=True)
class Unseen:
    """Scores of rows by probes that have not seen their groups. Made by `train` and `Probe.logits`, nowhere else."""

    rows: Rows
    scores: Floats
    part: Part


@dataclass(frozen=True)
class Training:
    """One set of features, cross-validated: a probe a fold, the final one on the whole training part, unseen scores."""

    folds: dict[int, Probe]
    final: Probe
    oof: Unseen
    held_out: Unseen | None


def fit_weights(z_nk: Floats, positive_n: Bools, plan: CavPlan) -> tuple[Floats, float]:
    """Weights (k) and bias of the logistic regression on projected rows."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(
        C=plan.C, class_weight=plan.class_weight, solver="newton-cholesky", tol=1e-6, max_iter=200
    )
    model.fit(z_nk, positive_n)
    return np.array(model.coef_[0]), float(model.intercept_[0])


def fit_probe(x_nd: Floats, rows: Rows, plan: CavPlan) -> Probe:
    """Projection and weights on these rows."""
    projection = fit_projection(x_nd, plan.pca)
    weights, bias = fit_weights(projection(x_nd), rows.positive, plan)
    return Probe(projection, weights, bias, frozenset(rows.groups.tolist()))


def train(x_nd: Floats, rows: Rows, plan: CavPlan, *, strata: Sequence[str] = PLAIN) -> Training:
    """Cross-validate the probe over the folds of the rows.

    Args:
        x_nd: pooled features, a row a window.
        rows: the same rows; strata outside `strata` are neither trained on nor scored.

    Raises:
        BadInput: a value that is not finite, fewer than two folds, or a fold without both classes.
    """
    x_nd, rows = chosen(x_nd, rows, strata)
    if len(rows.fold_numbers) < 2:
        raise BadInput(f"{len(rows.fold_numbers)} fold in the training part", remedy="at least 2; see data.folds")
    scores = np.zeros(len(rows))
    folds: dict[int, Probe] = {}
    for fold in rows.fold_numbers:
        inside, outside = (rows.folds >= 0) & (rows.folds != fold), rows.folds == fold
        if len(np.unique(rows.positive[inside])) < 2:
            raise BadInput(f"without fold {fold} one class is left", remedy="fewer folds, or more homology groups")
        folds[fold] = fit_probe(x_nd[inside], rows[inside], plan)
        scores[outside] = folds[fold].logits(x_nd[outside], rows.groups[outside].tolist())
    within = rows.folds >= 0
    final = fit_probe(x_nd[within], rows[within], plan)
    return Training(
        folds, final, Unseen(rows[within], scores[within], "oof"), held_out_scores(final, x_nd, rows, strata)
    )


def held_out_scores(probe: Probe, x_nd: Floats, rows: Rows, strata: Sequence[str] = PLAIN) -> Unseen | None:
    """Scores of the held-out part; None where nothing was held out."""
    x_nd, rows = chosen(x_nd, rows, strata)
    out = rows.held_out
    if not out.any():
        return None
    return Unseen(rows[out], probe.logits(x_nd[out], rows.groups[out].tolist()), "held_out")


def chosen(x_nd: Floats, rows: Rows, strata: Sequence[str]) -> tuple[Floats, Rows]:
    """The rows of some strata. Raises BadInput where rows and matrix differ in number or a value is not finite."""
    if len(x_nd) != len(rows):
        raise BadInput(f"{len(x_nd)} feature rows for {len(rows)} windows", remedy="run the embedding again")
    mask = rows.among(strata)
    x_nd = np.asarray(x_nd, dtype=float)[mask]
    bad = np.flatnonzero(~np.isfinite(x_nd).all(axis=1))
    if len(bad):
        raise BadInput("features are not finite", row=str(rows.keys[mask][bad[0]]), remedy="run the embedding again")
    return x_nd, rows[mask]


LEARNED_SHARES = (0.25, 0.5, 0.75, 1.0)


def learning_curve(x_nd: Floats, rows: Rows, plan: CavPlan) -> list[tuple[int, Unseen]]:
    """Out-of-fold scores of probes that were given a share of the training groups: (groups given, scores).

    Each fold is scored whole; only what is fitted shrinks. A share that leaves a fold without both classes is left out.
    """
    x_nd, rows = chosen(x_nd, rows, PLAIN)
    within = rows.folds >= 0
    x_nd, rows = x_nd[within], rows[within]
    names = np.unique(rows.groups)
    order = np.random.default_rng(plan.seed).permutation(names)
    found = []
    for share in LEARNED_SHARES:
        given = set(order[: max(2, round(share * len(names)))].tolist())
        kept = np.isin(rows.groups, list(given))
        scores = np.zeros(len(rows))
        for fold in rows.fold_numbers:
            inside, outside = kept & (rows.folds != fold), rows.folds == fold
            if len(np.unique(rows.positive[inside])) < 2:
                break
            probe = fit_probe(x_nd[inside], rows[inside], plan)
            scores[outside] = probe.logits(x_nd[outside], rows.groups[outside].tolist())
        else:
            found.append((len(given), Unseen(rows, scores, "oof")))
    return found
