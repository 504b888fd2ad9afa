"""Quality of the linear denoisers on a corpus: `python -m benchmarks.quality CORPUS [panel] [folds] [logo] [search]`.

panel   trained on everything but the panel's groups
folds   trained on each fold's training groups, scored on its test groups
logo    leave one group out inside the panel's training groups: every choice was made on this or on `search`
search  the experiments behind G, three folds by sample inside the same groups, twice: two thirds train
Figures: PSNR mean ± sd over captures (dB), SAM (degrees), share of captures with dip areas within 10 % (ROI).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from denoise_core.corpus.folds import fold_manifests
from denoise_core.corpus.reference import loo_mean
from denoise_core.corpus.store import Corpus, open_corpus
from denoise_core.evaluation.controls import savgol
from denoise_core.evaluation.scores import Scores, score
from denoise_core.evaluation.thresholds import GateThresholds
from denoise_core.evaluation.uncertainty import coverage
from denoise_core.model.linear import LMMSE, F, G, LinearRecipe, fit, leave_one_group_out

Rows = NDArray[np.int64]
SEED = 0
EVERY = 15  # logo, search: every 15th capture of a group, from the 8th
KEPT = (LMMSE, F, G)


def variants() -> dict[str, LinearRecipe]:
    """G and its neighbours: what one change is worth."""

    def of(base: LinearRecipe, scale: str, **changes: Any) -> LinearRecipe:
        part = getattr(base, scale)
        return replace(base, **{scale: replace(part, **changes)})

    return {
        "F": F,
        "F without its smooth scale": replace(F, smooth=None),
        "F, fine taper share .5": of(F, "fine", taper_share=0.5),
        "F, fine bandwidth .6, local share .7": of(F, "fine", level_bandwidth=0.6, local_share=0.7),
        "F, fine treatment weight .7": of(F, "fine", treatment_weight=0.7),
        "F, fine treatment weight .9": of(F, "fine", treatment_weight=0.9),
        "F, smooth coupling .3": of(F, "smooth", noise_coupling=0.3),
        "F, smooth bandwidth .6": of(F, "smooth", level_bandwidth=0.6),
        "G": G,
        "G, no jumps in the noise": of(G, "smooth", jumps=((1.0, 0.0),)),
        "G, one size of jump": of(G, "smooth", jumps=((0.97, 0.0), (0.03, 1.0))),
        "G, scepticism 1": of(G, "smooth", jump_scepticism=1.0),
        "G, scepticism 4": of(G, "smooth", jump_scepticism=4.0),
        "G, scepticism 10": of(G, "smooth", jump_scepticism=10.0),
        "G, coupling .3": of(G, "smooth", noise_coupling=0.3),
        "G, bandwidth .35": of(G, "smooth", level_bandwidth=0.35),
        "G, bandwidth .6": of(G, "smooth", level_bandwidth=0.6),
        "G, treatment weight .8": of(G, "smooth", treatment_weight=0.8),
        "G, taper share .5": of(G, "smooth", taper_share=0.5),
        "G, smooth scale in reflectance": of(G, "smooth", domain="linear"),
    }


@dataclass(frozen=True)
class Line:
    """Figures of one denoiser on some rows."""

    name: str
    scores: Scores
    group_M: NDArray[np.str_]

    def psnr_by_group(self) -> NDArray[np.float64]:
        return np.array([self.scores.psnr_M[self.group_M == group].mean() for group in np.unique(self.group_M)])

    def area_within(self) -> float:
        return float((self.scores.dips.area_error_pct_M <= GateThresholds().roi_area_error_max_pct).mean())

    def figures(self, against: Line | None = None) -> dict[str, float]:
        psnr_M = self.scores.psnr_M
        figures = {
            "psnr": float(psnr_M.mean()),
            "sd": float(psnr_M.std()),
            "sam": float(self.scores.sam_M.mean()),
            "roi": self.area_within(),
            "spurious": float(self.scores.spurious_M.mean()),
        }
        if against is not None:
            gain_G = self.psnr_by_group() - against.psnr_by_group()
            figures["gain"] = float(gain_G.mean())
            figures["gain_error"] = float(gain_G.std(ddof=1) / len(gain_G) ** 0.5)
            figures["groups_worse"] = float((gain_G < 0).sum())
            figures["worst_gain"] = float(gain_G.min())
        return figures


def line(corpus: Corpus, name: str, y_ML: NDArray[Any], rows: Rows) -> Line:
    return Line(name, score(y_ML, loo_mean(corpus, rows), corpus.wavelength_nm), corpus.groups(rows))


def all_denoisers(corpus: Corpus, groups: tuple[str, ...], rows: Rows) -> Iterator[Line]:
    """Raw, Savitzky-Golay and every kept filter on these rows."""
    x_ML, context = corpus.spectra_NL[rows], corpus.context(rows)
    yield line(corpus, "raw", x_ML, rows)
    yield line(corpus, "savgol", savgol(x_ML), rows)
    for recipe in KEPT:
        denoiser = fit(corpus, groups, recipe, calibrate=False)
        yield line(corpus, recipe.name, denoiser.denoise(x_ML, context), rows)


def training_groups(corpus: Corpus) -> tuple[str, ...]:
    return corpus.manifest("manifest_train").groups


def panel(corpus: Corpus) -> dict[str, Any]:
    rows = corpus.rows(corpus.manifest("validation_panel"))
    lines = list(all_denoisers(corpus, training_groups(corpus), rows))
    names = np.unique(corpus.groups(rows))
    return {one.name: one.figures() | dict(zip(names, one.psnr_by_group(), strict=True)) for one in lines}


def folds(corpus: Corpus) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for k in range(1, 6):
        fold = fold_manifests(corpus, k)
        for one in all_denoisers(corpus, fold.train.groups, corpus.rows(fold.test)):
            table.setdefault(one.name, {})[f"fold {k}"] = one.figures()
    for by_fold in table.values():
        keys = by_fold["fold 1"].keys()
        values = {key: np.array([figures[key] for figures in by_fold.values()]) for key in keys}
        by_fold["mean over folds"] = {key: float(value.mean()) for key, value in values.items()}
        by_fold["sd over folds"] = {key: float(value.std(ddof=1)) for key, value in values.items()}
    return table


def logo(corpus: Corpus) -> dict[str, Any]:
    table, reference = {}, None
    for recipe in (F, LMMSE, G):
        denoiser = fit(corpus, training_groups(corpus), recipe)
        outputs, errors, all_rows = [], [], []
        for _, group_rows, held_out in leave_one_group_out(corpus, denoiser):
            rows = group_rows[EVERY // 2 :: EVERY]
            outputs.append(held_out.denoise(corpus.spectra_NL[rows], corpus.context(rows)))
            errors.append(held_out.standard_error(corpus.spectra_NL[rows], corpus.context(rows)))
            all_rows.append(rows)
        rows = np.concatenate(all_rows)
        one = line(corpus, recipe.name, np.concatenate(outputs), rows)
        reference = reference or one
        covered = coverage(np.concatenate(outputs), np.concatenate(errors), loo_mean(corpus, rows), corpus.groups(rows))
        table[recipe.name] = one.figures(reference) | {key: covered[key] for key in ("coverage_68", "coverage_95")}
    return table


def search(corpus: Corpus) -> dict[str, Any]:
    groups = training_groups(corpus)
    table, reference = {}, None
    for name, recipe in variants().items():
        outputs, all_rows = [], []
        for held_out in by_sample(groups):
            rows = np.concatenate(
                [np.flatnonzero(corpus.captures["group_id"] == group)[EVERY // 2 :: EVERY] for group in held_out]
            )
            denoiser = fit(corpus, [group for group in groups if group not in held_out], recipe, calibrate=False)
            outputs.append(denoiser.denoise(corpus.spectra_NL[rows], corpus.context(rows)))
            all_rows.append(rows)
        one = line(corpus, name, np.concatenate(outputs), np.concatenate(all_rows))
        reference = reference or one
        table[name] = one.figures(reference)
    return table


def by_sample(groups: tuple[str, ...]) -> Iterator[list[str]]:
    """Held-out groups of three folds, twice; both angles of a sample stand in one fold."""
    rng = np.random.default_rng(SEED)
    samples = sorted({group.rsplit("/", 1)[0] for group in groups})
    for _ in range(2):
        order = rng.permutation(len(samples))
        for k in range(3):
            chosen = {samples[place] for place in order[k::3]}
            yield [group for group in groups if group.rsplit("/", 1)[0] in chosen]


TABLES: dict[str, Callable[[Corpus], dict[str, Any]]] = {"panel": panel, "folds": folds, "logo": logo, "search": search}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("tables", nargs="*", default=list(TABLES), help=f"of {', '.join(TABLES)}; default: all")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    if unknown := set(arguments.tables) - set(TABLES):
        parser.error(f"no table {sorted(unknown)[0]!r}: choose from {', '.join(TABLES)}")
    corpus = open_corpus(arguments.corpus)
    content: dict[str, Any] = {"corpus_sha256": corpus.sha256, "seed": SEED}
    for name in arguments.tables:
        content[name] = TABLES[name](corpus)
        print(name, json.dumps(content[name], indent=1, default=float), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(content, indent=1, default=float) + "\n")


if __name__ == "__main__":
    main()
