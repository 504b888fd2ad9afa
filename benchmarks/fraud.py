"""What the gates make of fraud and honest work: `python -m benchmarks.fraud CORPUS [train] [table] [honest] [curve]`.

table   each forgery built as predictions from filter F and judged by the whole audit: the gates that refuse it
honest  every honest method on the panel and on the test groups of all five folds: how often the new gates refuse it
curve   the share of positions at which an added dip is refused, by depth and width; `--figure FILE.png` draws it
Honest and forged outputs are judged like any candidate's, beside the controls LMMSE and F. `--default FOLDER` reads
what `train` left there: the default model trained for the panel and for each fold (minutes of one core each).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from denoise_core.corpus.dose import dose_of
from denoise_core.corpus.folds import fold_manifests
from denoise_core.corpus.manifest import Manifest, manifest_of
from denoise_core.corpus.reference import loo_mean
from denoise_core.corpus.store import Corpus, corpus_of, open_corpus
from denoise_core.evaluation.audit import audit_predictions
from denoise_core.evaluation.controls import savgol
from denoise_core.evaluation.downstream import PanelLabels
from denoise_core.evaluation.honesty import honesty_measures
from denoise_core.evaluation.metrics import Floats, psnr_db
from denoise_core.evaluation.thresholds import GateThresholds, fidelity_rules, plausibility_rules
from denoise_core.evaluation.unseen import worth_record
from denoise_core.evaluation.worth import worth
from denoise_core.inference import denoise_rows
from denoise_core.model.linear import LMMSE, F, G, fit
from denoise_core.model.neural import load_denoiser
from denoise_core.recipes import named
from denoise_core.training import TrainingInputs, train
from study_core.gates import GateRecord, Measure, judge

SEED = 20251009
POSITIONS_NM = np.arange(310.0, 595.0, 10.0)
DEPTHS = (0.0005, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.01)
WIDTHS_NM = (0.5, 1.0, 2.5, 5.0, 20.0)
PANEL = "panel"


class Place:
    """Unique captures that are judged together, and what the methods made of them."""

    def __init__(self, corpus: Corpus, name: str, default: Path | None) -> None:
        self.name = name
        self.training, _, self.manifest = splits(corpus, name)
        self.rows = np.unique(corpus.rows(self.manifest))
        self.raw_ML = corpus.spectra_NL[self.rows].astype(np.float64)
        self.reference_ML = loo_mean(corpus, self.rows).astype(np.float64)
        treatment_M = corpus.captures["treatment"].to_numpy(str)[self.rows]
        self.labels = PanelLabels(corpus.groups(self.rows), treatment_M, np.zeros(len(self.rows)))
        context = corpus.context(self.rows)
        self.outputs: dict[str, Floats] = {"raw": self.raw_ML, "savgol": savgol(self.raw_ML)}
        for recipe in (LMMSE, F, G):
            fitted = fit(corpus, self.training.groups, recipe, calibrate=False)
            self.outputs[recipe.name] = fitted.denoise(corpus.spectra_NL[self.rows], context).astype(np.float64)
        if default is not None:
            self.outputs["default model"] = np.load(default / f"{name}.npy").astype(np.float64)

    def controls(self, *names: str) -> dict[str, Floats]:
        return {name: self.outputs[name] for name in names or ("lmmse", "f")}

    def measures(self, corpus: Corpus, values_ML: Floats, controls: Mapping[str, Floats]) -> list[Measure]:
        every = np.ones(len(self.rows), dtype=bool)
        return honesty_measures(
            values_ML, self.reference_ML, self.raw_ML, controls, self.labels, corpus.wavelength_nm, every
        )


def splits(corpus: Corpus, name: str) -> tuple[Manifest, Manifest, Manifest]:
    """Training, selection and test of the panel (which selects and tests, as the seed has it) or of `fold k`."""
    if name == PANEL:
        panel = corpus.manifest("validation_panel")
        return corpus.manifest("manifest_train"), panel, panel
    fold = fold_manifests(corpus, int(name.split()[-1]))
    return fold.train, fold.val, fold.test


def places(corpus: Corpus, default: Path | None) -> Iterator[Place]:
    for name in (PANEL, *(f"fold {k}" for k in range(1, 6))):
        yield Place(corpus, name, default)


def judged(place: Place, measures: list[Measure], *, controls: bool = True) -> tuple[GateRecord, ...]:
    limits = GateThresholds()
    treatments = len(np.unique(place.labels.treatment_M))
    rules = [
        *fidelity_rules(limits, controls=controls, treatments=treatments),
        *plausibility_rules(limits, controls=controls),
    ]
    return judge(measures, rules)


def dip(wavelength_nm: Floats, at_nm: float, width_nm: float) -> Floats:
    return np.asarray(np.exp(-0.5 * ((wavelength_nm - at_nm) / width_nm) ** 2))


def forgeries(place: Place, wavelength_nm: Floats) -> dict[str, Floats]:
    """Predictions of a forger who has filter F: depths relative to the spectrum unless they say otherwise."""
    f_ML, rng = place.outputs["f"], np.random.default_rng(SEED)
    treatment_M = place.labels.treatment_M
    dose_M = np.array([dose_of(treatment).uva_total for treatment in treatment_M])
    few_M = rng.random(len(f_ML)) < 0.09
    group_mean_ML = np.empty_like(f_ML)
    for group in np.unique(place.labels.group_M):
        here = place.labels.group_M == group
        group_mean_ML[here] = place.raw_ML[here].mean(axis=0)

    def with_dip(depth: float, at_nm: float, width_nm: float, where_M: NDArray[np.bool_] | None = None) -> Floats:
        kept_ML = 1.0 - depth * dip(wavelength_nm, at_nm, width_nm)[None, :]
        return np.asarray(f_ML * kept_ML if where_M is None else np.where(where_M[:, None], f_ML * kept_ML, f_ML))

    return {
        **{f"dip of {pct:g} % at 376 nm, σ 1 nm": with_dip(pct / 100, 376.0, 1.0) for pct in (0.2, 0.5, 1, 2)},
        "dip of 1 % at 376 nm, σ 5 nm": with_dip(0.01, 376.0, 5.0),
        "dip of 3 % at 400 nm, σ 20 nm": with_dip(0.03, 400.0, 20.0),
        "dip of depth .01 at 440 nm, σ 1 nm": f_ML - 0.01 * dip(wavelength_nm, 440.0, 1.0),
        "dip of 10 % at 310 nm, σ 1 nm (outside the ROI)": with_dip(0.1, 310.0, 1.0),
        "dip of 5 % at 430 nm in treatment 5 only": with_dip(0.05, 430.0, 1.0, treatment_M == "treatment_5"),
        "dip of 5 % at 430 nm in 9 % of captures": with_dip(0.05, 430.0, 1.0, few_M),
        "gain of 1 % at the highest dose, in proportion below": f_ML * (1 + 0.01 * dose_M / dose_M.max())[:, None],
        "the group's own mean for every capture": group_mean_ML,
        "half F, half the group's own mean": 0.5 * f_ML + 0.5 * group_mean_ML,
        "a third of the group's own mean in F": f_ML * 2 / 3 + group_mean_ML / 3,
    }  # fmt: skip


def table(corpus: Corpus, default: Path | None) -> Iterator[dict[str, Any]]:
    """The whole audit of honest outputs and of every forgery on the panel; last, the two leaks."""
    place = Place(corpus, PANEL, default)
    panel, training = place.manifest, place.training
    twin_M = np.searchsorted(place.rows, corpus.rows(panel))
    honest_names = [name for name in ("f", "g", "default model") if name in place.outputs]
    outputs = {name: place.outputs[name] for name in honest_names} | forgeries(place, corpus.wavelength_nm)
    controls = {name: values_ML[twin_M] for name, values_ML in place.controls().items()}
    for name, values_ML in outputs.items():
        audit = audit_predictions(corpus, panel, values_ML[twin_M], training=training, controls=controls)
        yield line(name, audit.gates, audit.metrics["psnr_mean"])
    for name, (leaky, train_on) in leaks(corpus, panel, training).items():
        audit = audit_predictions(leaky, panel, place.outputs["f"][twin_M], training=train_on, controls=controls)
        yield line(name, audit.gates, audit.metrics["psnr_mean"])


def line(name: str, gates: tuple[GateRecord, ...], psnr: float) -> dict[str, Any]:
    """A row of the table: the verdict, and each gate's worst failure in words."""
    failed = [record for record in gates if not record.passed]
    worst: dict[str, str] = {}
    for record in failed:
        worst.setdefault(f"{record.gate}: {record.metric}", f"{record.value:.3g} {record.where} {record.reason[:150]}")
    vacuous = sorted({record.metric for record in gates if record.vacuous})
    return {"output": name, "psnr": round(psnr, 2), "refused": bool(failed), "by": worst, "vacuous": vacuous}


def leaks(corpus: Corpus, panel: Manifest, training: Manifest) -> dict[str, tuple[Corpus, Manifest]]:
    """The corpus with a panel group a second time under another sample's name, as it is and with new noise on it."""
    rng = np.random.default_rng(SEED)
    group = panel.groups[0]
    rows = np.flatnonzero(corpus.captures["group_id"].to_numpy() == group)
    treatment, sample, angle = group.split("/")
    frame = corpus.captures.iloc[rows].copy()
    frame["sample"], frame["group_id"] = "sample_Z", f"{treatment}/sample_Z/{angle}"
    frame["relative_path"] = frame["relative_path"].str.replace(f"/{sample}/", "/sample_Z/")
    noise_L = (corpus.spectra_NL[rows] - corpus.spectra_NL[rows].mean(axis=0)).std(axis=0)
    noisy_ML = corpus.spectra_NL[rows] + rng.normal(0, 0.7, (len(rows), len(noise_L))) * noise_L
    train_on = manifest_of(pd.concat([training.frame, frame], ignore_index=True))
    everything = pd.concat([corpus.captures, frame], ignore_index=True)
    return {
        f"{len(rows)} panel captures in training under another sample's name{how}": (
            corpus_of(everything, np.concatenate([corpus.spectra_NL, copy_ML]), corpus.wavelength_nm, corpus.root),
            train_on,
        )
        for how, copy_ML in (
            ("", corpus.spectra_NL[rows]),
            (", with .7 of their noise again", noisy_ML.clip(0, 1).astype(np.float32)),
        )
    }


def honest(corpus: Corpus, default: Path | None) -> Iterator[dict[str, Any]]:
    """Refusals by the new gates, and the largest figure of each metric, of every honest method in every place.

    LMMSE and F are controls themselves; the lines `… beside … alone` judge each with only the other to go by.
    """
    gains: dict[str, list[Floats]] = {"model": [], "base": []}
    groups: list[NDArray[np.str_]] = []
    for place in places(corpus, default):
        cases: dict[str, tuple[Floats, dict[str, Floats]]] = {
            name: (values_ML, place.controls()) for name, values_ML in place.outputs.items() if name != "raw"
        }
        cases["f beside lmmse alone"] = place.outputs["f"], place.controls("lmmse")
        cases["lmmse beside f alone"] = place.outputs["lmmse"], place.controls("f")
        for name, (values_ML, controls) in cases.items():
            measures = place.measures(corpus, values_ML, controls)
            records = judged(place, measures)
            yield {
                "place": place.name,
                "method": name,
                "refused": any(not record.passed for record in records),
                "groups": len(np.unique(place.labels.group_M)),
                "groups_refused": len({r.slice["group"] for r in records if not r.passed and "group" in r.slice}),
                "worst": {
                    metric: round(pick(r.value for r in records if r.metric == metric and r.value is not None), 3)
                    for metric, pick in worst_of(records).items()
                },
            }
        if place.name != PANEL and "default model" in place.outputs:
            for key, name in (("model", "default model"), ("base", "f")):
                gains[key].append(psnr_db(place.outputs[name], place.reference_ML))
            groups.append(place.labels.group_M)
    if groups:
        found = worth(np.concatenate(gains["model"]), np.concatenate(gains["base"]), np.concatenate(groups), "f")
        yield {"place": "folds", "worth": worth_record(found, GateThresholds())}


def worst_of(records: tuple[GateRecord, ...]) -> dict[str, Callable[..., float]]:
    """The metrics judged, and whether their worst is the largest or the least."""
    return {record.metric: min if record.comparison == ">=" else max for record in records}


def curve(corpus: Corpus, points: Path) -> dict[str, dict[str, float]]:
    """Share of 29 positions at which an added dip (reflectance, in every capture of the panel) is refused.

    A line a point in `points`; those that stand there already are kept.
    """
    place = Place(corpus, PANEL, None)
    f_ML, controls = place.outputs["f"], place.controls()
    known = [json.loads(text) for text in points.read_text().splitlines()] if points.exists() else []
    refused = {(point["width_nm"], point["depth"]): point["refused"] for point in known}
    for width_nm, depth in product(WIDTHS_NM, DEPTHS):
        if (width_nm, depth) in refused:
            continue
        passed_nm = []
        for at_nm in POSITIONS_NM:
            added_ML = f_ML - depth * dip(corpus.wavelength_nm, float(at_nm), width_nm)
            records = judged(place, place.measures(corpus, added_ML, controls))
            if all(record.passed for record in records):
                passed_nm.append(float(at_nm))
        refused[width_nm, depth] = 1.0 - len(passed_nm) / len(POSITIONS_NM)
        point = {"width_nm": width_nm, "depth": depth, "refused": refused[width_nm, depth], "passed_nm": passed_nm}
        with points.open("a") as lines:
            lines.write(json.dumps(point) + "\n")
    return {f"{width:g}": {f"{depth:g}": refused[width, depth] for depth in DEPTHS} for width in WIDTHS_NM}


def draw(refused: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """Detection against depth, a line a width."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
    for (width_nm, by_depth), marker in zip(refused.items(), "ovsDx^", strict=False):  # lines may cover each other
        depths = [float(depth) for depth in by_depth]
        axes.plot(depths, list(by_depth.values()), marker=marker, alpha=0.7, label=f"σ {width_nm} nm")
    axes.set(xscale="log", xlabel="depth of the added dip (reflectance)", ylabel="share of 29 positions refused")
    axes.set_ylim(-0.02, 1.02)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=150)


def trained(corpus: Corpus, out: Path) -> None:
    """The default model of every place (recipe `act_of_god_mini`), its outputs in `out`; a finished one is kept."""
    for name in (PANEL, *(f"fold {k}" for k in range(1, 6))):
        if (out / f"{name}.npy").exists():
            continue
        training, selection, test = splits(corpus, name)
        plan, folder = named("act_of_god_mini"), out / name
        (folder / plan.files.audit_log).parent.mkdir(parents=True, exist_ok=True)
        (folder / plan.files.audit_log).touch()
        receipt = train(plan, TrainingInputs(corpus, training, selection), folder)
        rows = np.unique(corpus.rows(test))
        np.save(out / f"{name}.npy", denoise_rows(load_denoiser(Path(receipt.checkpoint)), corpus, rows))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("what", nargs="*", default=["table", "honest", "curve"])
    parser.add_argument("--default", type=Path, help="folder of the default model's outputs; filled by `train`")
    parser.add_argument("--points", type=Path, default=Path("fraud_curve.jsonl"), help="the curve's points, kept here")
    parser.add_argument("--figure", type=Path, help="draw the curve here")
    options = parser.parse_args()
    corpus = open_corpus(options.corpus)
    if "train" in options.what:
        trained(corpus, options.default)
    for part, rows in (("table", table), ("honest", honest)):
        if part in options.what:
            for row in rows(corpus, options.default):
                print(json.dumps(row, ensure_ascii=False), flush=True)
    if "curve" in options.what:
        found = curve(corpus, options.points)
        print(json.dumps(found))
        if options.figure:
            draw(found, options.figure)


if __name__ == "__main__":
    main()
