"""Forgeries that the gates were not made for: `python -m benchmarks.fraud_variants CORPUS [outputs] [leaks]`.

outputs  predictions built from filter F, judged by the whole audit: the gates that refuse each, or the gain that passes
leaks    panel captures in training under another name, changed so that no value is equal: whether they are found
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.signal import savgol_filter

from benchmarks.fraud import PANEL, SEED, Place, dip, line
from denoise_core.corpus.manifest import Manifest, manifest_of
from denoise_core.corpus.store import Corpus, corpus_of, open_corpus
from denoise_core.evaluation.audit import audit_predictions
from denoise_core.evaluation.controls import savgol
from denoise_core.evaluation.metrics import Floats


def outputs(corpus: Corpus, place: Place) -> dict[str, Floats]:
    """Predictions by their name; σ in nm, depths relative to the spectrum unless they say otherwise."""
    f_ML, rng, grid = place.outputs["f"], np.random.default_rng(SEED), corpus.wavelength_nm
    treatment_M, group_M = place.labels.treatment_M, place.labels.group_M
    mean_ML = by_group(place, place.raw_ML)
    one_M = np.arange(len(f_ML)) == 17
    roi_L = (grid >= 320) & (grid <= 480)
    angle_ML, treatment_mean_ML = _other_angle(corpus, place), _treatment_mean(corpus, place)
    residual_ML = f_ML - mean_ML
    permuted_ML = residual_ML.copy()
    for group in np.unique(group_M):
        here = np.flatnonzero(group_M == group)
        permuted_ML[here] = residual_ML[np.roll(here, 1)]

    def added(depth: float, at_nm: float, width_nm: float) -> Floats:
        return np.asarray(f_ML * (1.0 + depth * dip(grid, at_nm, width_nm)[None, :]))

    def where(rows_M: Floats, values_ML: Floats) -> Floats:
        return np.where(rows_M[:, None], values_ML, f_ML)

    return {
        "hump of 1 %, σ 2, at 430": added(0.01, 430, 2),
        "hump of 1 %, σ 10, at 450": added(0.01, 450, 10),
        "hump of 1 %, σ 40, at 450": added(0.01, 450, 40),
        "dip of 5 %, σ 1, at 301": added(-0.05, 301, 1),
        "dip of 5 %, σ 1, at 598": added(-0.05, 598, 1),
        "level of the last 5 nm 2 % higher": f_ML * np.where(grid > 595, 1.02, 1.0),
        "dip of 20 %, σ 1, at 430 in one capture": where(one_M, added(-0.2, 430, 1)),
        "dip of 5 %, σ 1, at 430 in one capture": where(one_M, added(-0.05, 430, 1)),
        "dip of 2 %, σ 1, at 430 in one capture": where(one_M, added(-0.02, 430, 1)),
        "scaled by 1.005": f_ML * 1.005,
        "scaled by 1.002": f_ML * 1.002,
        "scaled by 1.005 in treatment 5": where(treatment_M == "treatment_5", f_ML * 1.005),
        "a constant of .001": f_ML + 0.001,
        "a tilt of 1 % from end to end": f_ML * np.linspace(0.995, 1.005, len(grid)),
        "shifted by one grid point": np.roll(f_ML, 1, axis=1),
        "smoothed in 320 to 480 nm alone": np.where(roi_L, savgol(f_ML), f_ML),
        "the group's mean at the sample's other angle": angle_ML,
        "the same, at each capture's own level": angle_ML * (f_ML.mean(1) / angle_ML.mean(1))[:, None],
        "the treatment's mean in training": treatment_mean_ML,
        "the treatment's mean in training, at each capture's own level": treatment_mean_ML
        * (f_ML.mean(1) / treatment_mean_ML.mean(1))[:, None],
        "the group's mean, and another capture's error": mean_ML + permuted_ML,
        "the group's mean, and .85 of another capture's error": mean_ML + 0.85 * permuted_ML,
        "the group's mean, and .85 of the own error": mean_ML + 0.85 * residual_ML,
        "the group's mean, and white noise of F's error": mean_ML
        + rng.normal(0, 1, f_ML.shape) * np.sqrt((residual_ML**2).mean()),
    }


def by_group(place: Place, values_ML: Floats) -> Floats:
    """Each row as its group's mean."""
    mean_ML = np.empty_like(values_ML)
    for group in np.unique(place.labels.group_M):
        here = place.labels.group_M == group
        mean_ML[here] = values_ML[here].mean(axis=0)
    return mean_ML


def _other_angle(corpus: Corpus, place: Place) -> Floats:
    """The mean of the sample's captures at its other angle, in place of each capture."""
    every = corpus.captures["group_id"].to_numpy(str)
    found = np.empty_like(place.raw_ML)
    for group in np.unique(place.labels.group_M):
        sample = group.rsplit("/", 1)[0]
        sister = [one for one in np.unique(every) if one.startswith(f"{sample}/") and one != group]
        found[place.labels.group_M == group] = corpus.spectra_NL[every == sister[0]].mean(axis=0)
    return found


def _treatment_mean(corpus: Corpus, place: Place) -> Floats:
    """The mean of the treatment's training captures, in place of each capture."""
    frame = corpus.captures
    trained = frame["group_id"].isin(place.training.groups).to_numpy()
    found = np.empty_like(place.raw_ML)
    for treatment in np.unique(place.labels.treatment_M):
        rows = trained & (frame["treatment"].to_numpy(str) == treatment)
        found[place.labels.treatment_M == treatment] = corpus.spectra_NL[rows].mean(axis=0)
    return found


CHANGED: dict[str, Callable[[Floats, np.random.Generator], Floats]] = {
    "a constant of .01 more": lambda raw_ML, _: raw_ML + 0.01,
    "scaled by 1.02": lambda raw_ML, _: raw_ML * 1.02,
    "scaled by .9 and .02 more": lambda raw_ML, _: raw_ML * 0.9 + 0.02,
    "a tilt of 2 %": lambda raw_ML, _: raw_ML * np.linspace(0.99, 1.01, raw_ML.shape[1]),
    "shifted by one grid point": lambda raw_ML, _: np.roll(raw_ML, 1, axis=1),
    "shifted by five grid points": lambda raw_ML, _: np.roll(raw_ML, 5, axis=1),
    "rows in another order": lambda raw_ML, rng: rng.permutation(raw_ML),
    "mean of two captures": lambda raw_ML, _: (raw_ML + np.roll(raw_ML, 1, axis=0)) / 2,
    "mean of five captures": lambda raw_ML, _: np.mean([np.roll(raw_ML, k, axis=0) for k in range(5)], axis=0),
    "mean of all captures": lambda raw_ML, _: np.repeat(raw_ML.mean(axis=0, keepdims=True), len(raw_ML), axis=0),
    "mean of all captures, and white noise": lambda raw_ML, rng: (
        raw_ML.mean(axis=0) + rng.normal(0, 1, raw_ML.shape) * raw_ML.std(axis=0)
    ),
    "mean of all captures, and .5 of other noise": lambda raw_ML, rng: (
        raw_ML.mean(axis=0) + 0.5 * rng.permutation(raw_ML - raw_ML.mean(axis=0))
    ),
    "rounded to .001": lambda raw_ML, _: raw_ML.round(3),
    "smoothed over 5 points": lambda raw_ML, _: savgol_filter(raw_ML, 5, 2),
    "as much noise again": lambda raw_ML, rng: raw_ML + rng.normal(0, 1, raw_ML.shape) * raw_ML.std(axis=0),
    "reversed": lambda raw_ML, _: raw_ML[:, ::-1],
    "mean of all captures, and white noise, reversed": lambda raw_ML, rng: (
        raw_ML.mean(axis=0) + rng.normal(0, 1, raw_ML.shape) * raw_ML.std(axis=0)
    )[:, ::-1],
    "noise with the other sign": lambda raw_ML, _: 2 * raw_ML.mean(axis=0) - raw_ML,
    "a tenth of the noise": lambda raw_ML, _: 0.9 * raw_ML.mean(axis=0) + 0.1 * raw_ML,
    "one less the reflectance": lambda raw_ML, _: 1 - raw_ML,
    "square root": lambda raw_ML, _: np.sqrt(raw_ML.clip(0)),
    "to a grid of 2 nm and back": lambda raw_ML, _: _resampled(raw_ML, 4),
    "stretched by 1 %": lambda raw_ML, _: _resampled(raw_ML, 1, 1.01),
    "the last two thirds of the range another's": lambda raw_ML, _: _joined(raw_ML, 1 / 3),
    "the last four fifths another's": lambda raw_ML, _: _joined(raw_ML, 0.2),
    "two captures point by point in turn": lambda raw_ML, _: np.where(
        np.arange(raw_ML.shape[1]) % 2, raw_ML, np.roll(raw_ML, 1, axis=0)
    ),
    "mean of eight captures": lambda raw_ML, _: np.mean([np.roll(raw_ML, k, axis=0) for k in range(8)], axis=0),
}


def _resampled(raw_ML: Floats, every: int, stretch: float = 1.0) -> Floats:
    """By straight lines through every so many points, read at stretched places."""
    points = np.arange(raw_ML.shape[1], dtype=np.float64)
    return np.array([np.interp(points / stretch, points[::every], raw_L[::every]) for raw_L in raw_ML])


def _joined(raw_ML: Floats, share: float) -> Floats:
    """The first share of the range; then a line with noise of the group's size, of nobody."""
    first = round(share * raw_ML.shape[1])
    rest_ML = np.random.default_rng(1).normal(0, 1, raw_ML.shape) * raw_ML.std(axis=0) + raw_ML[:, first].mean()
    return np.where(np.arange(raw_ML.shape[1]) < first, raw_ML, rest_ML)


def leaks(corpus: Corpus, panel: Manifest, training: Manifest) -> Iterator[tuple[str, Corpus, Manifest]]:
    """The corpus with a panel group a second time under another sample's name, changed."""
    rows = np.flatnonzero(corpus.captures["group_id"].to_numpy() == panel.groups[0])
    treatment, sample, angle = panel.groups[0].split("/")
    frame = corpus.captures.iloc[rows].copy()
    frame["sample"], frame["group_id"] = "sample_Z", f"{treatment}/sample_Z/{angle}"
    frame["relative_path"] = frame["relative_path"].str.replace(f"/{sample}/", "/sample_Z/")
    train_on = manifest_of(pd.concat([training.frame, frame], ignore_index=True))
    everything = pd.concat([corpus.captures, frame], ignore_index=True)
    for name, change in CHANGED.items():
        changed_ML = change(corpus.spectra_NL[rows].astype(np.float64), np.random.default_rng(SEED))
        spectra = np.concatenate([corpus.spectra_NL, changed_ML.clip(0, 1).astype(np.float32)])
        yield name, corpus_of(everything, spectra, corpus.wavelength_nm, corpus.root), train_on


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("what", nargs="*", default=["outputs", "leaks"])
    options = parser.parse_args()
    corpus = open_corpus(options.corpus)
    place = Place(corpus, PANEL, None)
    twin_M = np.searchsorted(place.rows, corpus.rows(place.manifest))
    controls = {name: values_ML[twin_M] for name, values_ML in place.controls().items()}
    if "outputs" in options.what:
        for name, values_ML in outputs(corpus, place).items():
            audit = audit_predictions(
                corpus, place.manifest, values_ML[twin_M], training=place.training, controls=controls
            )
            print(json.dumps(line(name, audit.gates, audit.metrics["psnr_mean"]), ensure_ascii=False), flush=True)
    if "leaks" in options.what:
        for name, leaky, train_on in leaks(corpus, place.manifest, place.training):
            audit = audit_predictions(
                leaky, place.manifest, place.outputs["f"][twin_M], training=train_on, controls=controls
            )
            print(json.dumps(line(name, audit.gates, audit.metrics["psnr_mean"]), ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
