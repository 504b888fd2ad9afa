"""The panel audit against the way published audits do it: a loop over captures and dips, SciPy and polyfit for each.

    OMP_NUM_THREADS=1 python -m benchmarks.evaluation [--corpus DIR] [--repeats 5] [--smoke] [--json FILE]

Prints one JSON object: seconds (best of the repeats, one core), the speed-up, and the largest
difference between the two results: a fast audit that judges otherwise is no audit. Without
`--corpus` the spectra are made up (the same counts; noise, dips, a filter's errors).
"""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.signal import find_peaks
from scipy.stats import spearmanr

from benchmarks.harness import best, parser, report
from denoise_core.corpus.manifest import Manifest, manifest_of
from denoise_core.corpus.store import Corpus, corpus_of, open_corpus
from denoise_core.evaluation.audit import audit_predictions
from denoise_core.evaluation.controls import savgol
from denoise_core.evaluation.scores import score

Floats = NDArray[np.float64]
ROI_NM, HALF_NM, DIPS = (320.0, 500.0), 2.0, 6


def rival_metrics(prediction_ML: Floats, reference_ML: Floats, wavelength_nm: Floats) -> dict[str, Floats]:
    """PSNR, SAM, dip errors and spurious dips, one capture and one dip at a time."""
    rows = [_rival_row(*pair, wavelength_nm) for pair in zip(prediction_ML, reference_ML, strict=True)]
    return {name: np.array([row[name] for row in rows], dtype=float) for name in rows[0]}


def _rival_row(prediction_L: Floats, reference_L: Floats, wavelength_nm: Floats) -> dict[str, float]:
    inside = np.flatnonzero((wavelength_nm >= ROI_NM[0]) & (wavelength_nm <= ROI_NM[1]))
    peaks, found = find_peaks(-reference_L[inside], prominence=0.002)
    records = [
        _rival_dip(prediction_L, reference_L, wavelength_nm, int(centre))
        for centre in inside[peaks[np.argsort(found["prominences"])[-DIPS:]]]
    ]
    own = wavelength_nm[inside[find_peaks(-prediction_L[inside], prominence=0.002)[0]]]
    known = wavelength_nm[inside[find_peaks(-reference_L[inside], prominence=0.001)[0]]]
    cosine = prediction_L @ reference_L / (np.linalg.norm(prediction_L) * np.linalg.norm(reference_L))
    area, centroid, depth = np.median(records, axis=0) if records else (np.nan, np.nan, np.nan)
    return {
        "psnr": -10 * np.log10(np.mean((prediction_L - reference_L) ** 2)),
        "sam": np.degrees(np.arccos(min(float(cosine), 1.0))),
        "area": area,
        "centroid": centroid,
        "depth": depth,
        "spurious": sum(1 for line in own if not len(known) or np.abs(known - line).min() > 2.0 + 1e-9),
    }


def _rival_dip(prediction_L: Floats, reference_L: Floats, wavelength_nm: Floats, centre: int) -> tuple[float, ...]:
    half = round(HALF_NM / (wavelength_nm[1] - wavelength_nm[0]))
    window = np.arange(centre - half, centre + half + 1)
    lam = wavelength_nm[window]
    absorption = []
    for spectrum in (prediction_L, reference_L):
        baseline = np.polyval(np.polyfit(lam - lam[half], spectrum[window], 2), lam - lam[half])
        absorption.append(np.maximum(baseline - spectrum[window], 0.0))
    areas = [float(np.trapezoid(a, lam)) for a in absorption]
    centroids = [float((a * lam).sum() / a.sum()) if a.sum() > 0 else np.inf for a in absorption]
    return (
        100 * abs(areas[0] - areas[1]) / areas[1],
        abs(centroids[0] - centroids[1]),
        float(np.abs(absorption[0] - absorption[1]).mean()),
    )


def rival_downstream(raw_ML: Floats, denoised_ML: Floats, panel: Manifest, wavelength_nm: Floats) -> dict[str, float]:
    """Within-group variance, separability and dose correlation with Python's own loops over rows and pairs."""
    groups = panel.frame["group_id"].tolist()
    treatments = panel.frame["treatment"].tolist()
    found: dict[str, float] = {}
    for name, spectra_ML in (("raw", raw_ML), ("denoised", denoised_ML)):
        members = {g: np.array([s for s, own in zip(spectra_ML, groups, strict=True) if own == g]) for g in set(groups)}
        found[f"variance_{name}"] = float(np.mean([m.var(axis=0, ddof=1).mean() for m in members.values()]))
        classes = {
            t: np.array([s for s, own in zip(spectra_ML, treatments, strict=True) if own == t]) for t in set(treatments)
        }
        centroids = {t: m.mean(axis=0) for t, m in classes.items()}
        within = [np.linalg.norm(s - centroids[t]) for t, m in classes.items() for s in m]
        names = sorted(centroids)
        between = [np.linalg.norm(centroids[a] - centroids[b]) for i, a in enumerate(names) for b in names[i + 1 :]]
        found[f"separability_{name}"] = float(np.mean(between) / np.mean(within))
        inside = (wavelength_nm >= ROI_NM[0]) & (wavelength_nm <= ROI_NM[1])
        areas = [float(np.trapezoid(s[inside], wavelength_nm[inside])) for s in spectra_ML]
        found[f"rho_{name}"] = float(spearmanr(range(len(areas)), areas).statistic)
    return found


def rival_reference(corpus: Corpus, panel: Manifest) -> Floats:
    """Leave-one-out means, each summed anew from the group's other captures."""
    group_N = corpus.captures["group_id"].to_numpy()
    spectra_NL = corpus.spectra_NL.astype(np.float64)
    every = np.arange(len(spectra_NL))
    return np.stack([spectra_NL[(group_N == group_N[row]) & (every != row)].mean(axis=0) for row in corpus.rows(panel)])


def made_up_corpus(replicates: int, seed: int = 0) -> tuple[Corpus, Manifest, Manifest]:
    """Four groups of fixed dips and white noise; corpus, panel (first group's rows twice, three groups), training."""
    rng = np.random.default_rng(seed)
    wavelength_nm = 300.0 + 0.5 * np.arange(601)
    groups = ("treatment_3/sample_J/12Oclock", "treatment_5/sample_H/6Oclock", "treatment_6/sample_I/6Oclock")
    every = (*groups, "treatment_1/sample_A/6Oclock")
    rows = [(f"{g}/rep_{r:03d}.npy", *g.split("/"), g) for g in every for r in range(replicates)]
    captures = pd.DataFrame(rows, columns=["relative_path", "treatment", "sample", "angle", "group_id"])
    centres = rng.uniform(322, 498, 40)
    dips_L = 0.01 * np.exp(-0.5 * ((wavelength_nm - centres[:, None]) / 0.7) ** 2).sum(axis=0)
    truth_NL = np.repeat([0.2 + 0.05 * k - dips_L for k in range(len(every))], replicates, axis=0)
    spectra_NL = np.clip(truth_NL + rng.normal(0, 0.004, truth_NL.shape), 0, 1).astype(np.float32)
    held_out = captures[captures["group_id"].isin(groups)]
    twice = captures[captures["group_id"].isin(groups[:2])]
    training = captures[~captures["group_id"].isin(groups)]
    corpus = corpus_of(captures, spectra_NL, wavelength_nm)
    return corpus, manifest_of(pd.concat([held_out, twice])), manifest_of(training)


def measure(corpus: Corpus, panel: Manifest, training: Manifest, repeats: int) -> dict[str, Any]:
    """Both ways on the same predictions: half a capture's noise removed, so that every metric has something to do."""
    wavelength_nm = corpus.wavelength_nm
    raw_ML = corpus.spectra_NL[corpus.rows(panel)].astype(np.float64)
    controls = {"raw": raw_ML, "savgol": savgol(raw_ML)}

    reference_ML = rival_reference(corpus, panel)
    prediction_ML = 0.8 * reference_ML + 0.2 * raw_ML

    def ours() -> object:
        return audit_predictions(corpus, panel, prediction_ML, training=training)

    def rival() -> object:
        again_ML = rival_reference(corpus, panel)
        for spectra_ML in (prediction_ML, *controls.values()):
            rival_metrics(spectra_ML, again_ML, wavelength_nm)
        return rival_downstream(raw_ML, prediction_ML, panel, wavelength_nm)

    ours_s, rival_s = best(ours, repeats), best(rival, max(1, repeats // 3))
    return {
        "benchmark": "evaluation",
        "what": "panel audit with gates 0-5 and the controls raw and Savitzky-Golay, one core",
        "rows": len(panel),
        "audit_s": ours_s,
        "rival_s": rival_s,
        "speedup": rival_s / ours_s,
        "largest_difference": _differences(prediction_ML, reference_ML, wavelength_nm),
        "machine": {"cpu": platform.processor() or platform.machine(), "python": platform.python_version()},
    }


def _differences(prediction_ML: Floats, reference_ML: Floats, wavelength_nm: Floats) -> dict[str, float]:
    ours, theirs = (
        score(prediction_ML, reference_ML, wavelength_nm),
        rival_metrics(prediction_ML, reference_ML, wavelength_nm),
    )
    pairs = {
        "psnr": ours.psnr_M,
        "sam": ours.sam_M,
        "area": ours.dips.area_error_pct_M,
        "centroid": ours.dips.centroid_error_nm_M,
        "depth": ours.dips.depth_error_M,
        "spurious": ours.spurious_M,
    }
    return {name: float(np.max(np.abs(mine - theirs[name]))) for name, mine in pairs.items()}


def main() -> None:
    """Command line."""
    line = parser(__doc__, "seconds: few rows, one repeat")
    line.add_argument("--corpus", type=Path, help="a corpus with a validation panel; default: made-up spectra")
    line.add_argument("--repeats", type=int, default=5)
    options = line.parse_args()
    if options.corpus:
        corpus = open_corpus(options.corpus)
        panel, training = corpus.manifest("validation_panel"), corpus.manifest("manifest_train")
    else:
        corpus, panel, training = made_up_corpus(replicates=10 if options.smoke else 150)
    result = measure(corpus, panel, training, 1 if options.smoke else options.repeats)
    report(result, options)


if __name__ == "__main__":
    main()
