"""What a network adds to its filter on groups that no choice saw: one training an arm, changes of one plan.

    OMP_NUM_THREADS=1 python -m benchmarks.learned CORPUS [--arms NAME ...] [--out FOLDER]

Trained on 39 of the panel's 51 training groups, scored on every fifth capture of the other 12 (a sample a treatment,
both angles) after the *last* epoch, so that nothing is chosen on them. Arms change `act_of_god_mini`. One line of JSON
an arm: plan hash, seed, PSNR of the filter, of the network, the gain (dB), SAM. A kept arm that was stopped goes on.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from denoise_core.corpus.manifest import Manifest, manifest_of
from denoise_core.corpus.store import Corpus, open_corpus
from denoise_core.plans import TrainingPlan, identity
from denoise_core.recipes import named
from denoise_core.training import TrainingInputs, train

HELD_OUT = ("1/sample_E", "2/sample_D", "3/sample_G", "4/sample_I", "5/sample_C", "6/sample_G")
EVERY = 5
STEPS = 15  # an epoch
Changes = dict[str, dict[str, Any]]

CHARBONNIER: Changes = {"loss": {"charbonnier_weight": 1.0, "log_mse_weight": 0.0}}
ARMS: dict[str, Changes] = {
    "recommended": {},
    "second seed": {"optimiser": {"seed": 1}},
    "no mixing": {"data": {"mixing": False}},
    "pair targets": {"data": {"noise2noise_pairwise": True}},
    "jitter": {"data": {"jitter": True}},
    "cutout": {"data": {"cutout": True}},
    "no centring and scaling": {"data": {"centre_baseline": False, "scale": False}},
    "Charbonnier for log-MSE": CHARBONNIER,
    "log-MSE + 0.3 dip": {"loss": {"dip_loss": True, "dip_weight": 0.3}},
    "base G": {"model": {"base": "g"}},
    "base G, second seed": {"model": {"base": "g"}, "optimiser": {"seed": 1}},
    "rate 3e-4": {"optimiser": {"lr": 3e-4, "lr_min": 3e-5}},
    "480 steps": {"optimiser": {"epochs": 32}},
    "480 steps, rate 3e-4": {"optimiser": {"epochs": 32, "lr": 3e-4, "lr_min": 3e-5}},
    "480 steps, no mixing": {"optimiser": {"epochs": 32}, "data": {"mixing": False}},
    "480 steps, width 64, 4 blocks": {"optimiser": {"epochs": 32}, "model": {"d_model": 64, "n_layers": 4}},
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
    with open(receipt.metrics_csv, encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    first, last = rows[0], rows[-1]
    return {
        "arm": name,
        "plan": identity(plan)[:12],
        "seed": plan.optimiser.seed,
        "filter_db": round(float(first["val_psnr_mean"]), 4),
        "network_db": round(float(last["val_psnr_mean"]), 4),
        "gain_db": round(float(last["val_psnr_mean"]) - float(first["val_psnr_mean"]), 4),
        "filter_sam": round(float(first["val_sam_deg"]), 5),
        "network_sam": round(float(last["val_sam_deg"]), 5),
        "minutes": round((time.perf_counter() - started) / 60, 1),
    }


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
