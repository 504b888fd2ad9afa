"""What a network adds to its filter on groups that no choice saw: one training an arm, changes of one plan.

    OMP_NUM_THREADS=1 python -m benchmarks.learned CORPUS [--arms NAME ...] [--out FOLDER]

Trained on 39 of the panel's 51 training groups, scored on every fifth capture of the other 12 (a sample a treatment,
both angles) after the *last* epoch, so that nothing is chosen on them. Arms change `act_of_god_mini`. One line of JSON
an arm: plan hash, seed; PSNR (dB), SAM (degrees) and ROI (share of captures with dip areas within 10 %) of the filter
and of the network; the gain in PSNR, and the least one of a group. A kept arm that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from denoise_core.corpus.manifest import Manifest, manifest_of
from denoise_core.corpus.reference import loo_mean
from denoise_core.corpus.store import Corpus, open_corpus
from denoise_core.evaluation.scores import Scores, score
from denoise_core.evaluation.thresholds import GateThresholds
from denoise_core.inference import denoise_rows
from denoise_core.model.checkpoints import load_model, read_checkpoint
from denoise_core.model.neural import NeuralDenoiser
from denoise_core.model.weights import load_weights
from denoise_core.plans import TrainingPlan
from denoise_core.recipes import named
from denoise_core.training import TrainingInputs, train
from study_core.plan import identity

HELD_OUT = ("1/sample_E", "2/sample_D", "3/sample_G", "4/sample_I", "5/sample_C", "6/sample_G")
EVERY = 5
STEPS = 15  # an epoch
Changes = dict[str, dict[str, Any]]

CHARBONNIER: Changes = {"loss": {"charbonnier_weight": 1.0, "log_mse_weight": 0.0}}
LONG: Changes = {"optimiser": {"epochs": 32}}
ARMS: dict[str, Changes] = {
    "recommended": {},
    "second seed": {"optimiser": {"seed": 1}},
    "third seed": {"optimiser": {"seed": 2}},
    "every scale": {"model": {"residual_sigma_nm": 0.0}},
    "every scale, second seed": {"model": {"residual_sigma_nm": 0.0}, "optimiser": {"seed": 1}},
    "above 3 nm": {"model": {"residual_sigma_nm": 3.0}},
    "above 12 nm": {"model": {"residual_sigma_nm": 12.0}},
    "above 12 nm, second seed": {"model": {"residual_sigma_nm": 12.0}, "optimiser": {"seed": 1}},
    "above 25 nm": {"model": {"residual_sigma_nm": 25.0}},
    "no mixing": {"data": {"mixing": False}},
    "pair targets": {"data": {"noise2noise_pairwise": True}},
    "jitter": {"data": {"jitter": True}},
    "cutout": {"data": {"cutout": True}},
    "no centring and scaling": {"data": {"centre_baseline": False, "scale": False}},
    "Charbonnier for log-MSE": CHARBONNIER,
    "log-MSE + 0.3 dip": {"loss": {"dip_loss": True, "dip_weight": 0.3}},
    "base G, every scale": {"model": {"base": "g", "residual_sigma_nm": 0.0}},
    "base G": {"model": {"base": "g"}},
    "rate 3e-4": {"optimiser": {"lr": 3e-4, "lr_min": 3e-5}},
    "rate 3e-3": {"optimiser": {"lr": 3e-3, "lr_min": 3e-4}},
    "480 steps": LONG,
    "480 steps, every scale": {**LONG, "model": {"residual_sigma_nm": 0.0}},
}


def plan_of(changes: Changes) -> TrainingPlan:
    """The arm's plan: eight epochs of 15 steps unless it says otherwise, and no early stop."""
    content = named("act_of_god_mini").model_dump()
    content["optimiser"] |= {"epochs": 8, "steps_per_epoch": STEPS, "early_stop_patience": 10_000}
    for section, options in changes.items():
        content[section] |= options
    return TrainingPlan.model_validate(content)


def parts(corpus: Corpus) -> tuple[Manifest, Manifest]:
    """Training and held-out manifests, without the panel's groups in either."""
    frame = corpus.manifest("manifest_train").frame
    held = frame["group_id"].str.contains("|".join(f"treatment_{name}/" for name in HELD_OUT))
    unique = frame[held].drop_duplicates("relative_path").sort_values("relative_path").iloc[::EVERY]
    return manifest_of(frame[~held].reset_index(drop=True)), manifest_of(unique.reset_index(drop=True))


def measured(corpus: Corpus, name: str, folder: Path) -> dict[str, Any]:
    """Train an arm; its figures at the start (the filter alone) and at the last epoch."""
    plan = plan_of(ARMS[name])
    training, held_out = parts(corpus)
    place = folder / name.replace(" ", "_").replace(",", "")
    audit_log = place / plan.files.audit_log
    audit_log.parent.mkdir(parents=True, exist_ok=True)
    audit_log.touch()
    started = time.perf_counter()
    receipt = train(plan, TrainingInputs(corpus, training, held_out), place)
    minutes = (time.perf_counter() - started) / 60
    network = last_epoch(Path(receipt.checkpoint))
    rows = corpus.rows(held_out)
    reference_ML = loo_mean(corpus, rows)
    filtered = score(denoise_rows(network.base, corpus, rows), reference_ML, corpus.wavelength_nm)
    learned = score(denoise_rows(network, corpus, rows), reference_ML, corpus.wavelength_nm)
    gain_M = learned.psnr_M - filtered.psnr_M
    return {
        "arm": name,
        "plan": identity(plan)[:12],
        "seed": plan.optimiser.seed,
        "filter": figures(filtered),
        "network": figures(learned),
        "gain_db": round(float(gain_M.mean()), 4),
        "least_gain_db_of_a_group": round(float(pd.Series(gain_M).groupby(corpus.groups(rows)).mean().min()), 4),
        "minutes": round(minutes, 1),
    }


def last_epoch(checkpoint: Path) -> NeuralDenoiser:
    """The average of the weights after the last epoch: best or not, as no epoch is chosen here."""
    loaded = load_model(checkpoint)
    state = checkpoint.parent / "state.pt"
    load_weights(loaded.model, read_checkpoint(state)["average"], state)
    return NeuralDenoiser(loaded)


def figures(scores: Scores) -> dict[str, float]:
    """PSNR in dB, SAM in degrees, ROI as a share of captures."""
    within_M = scores.dips.area_error_pct_M <= GateThresholds().roi_area_error_max_pct
    means = {"psnr": scores.psnr_M.mean(), "sam": scores.sam_M.mean(), "roi": within_M.mean()}
    return {name: round(float(value), 5) for name, value in means.items()}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--arms", nargs="*", choices=tuple(ARMS), default=tuple(ARMS))
    parser.add_argument("--out", type=Path, help="keep the trainings here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    corpus = open_corpus(options.corpus)
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.arms:
            print(json.dumps(measured(corpus, name, options.out or Path(scratch))), flush=True)


if __name__ == "__main__":
    sys.exit(main())
