"""The guard of every move: a few steps of a named plan give the recorded numbers, on a CPU, to five digits and more.

A refactor that changes one of them changed the training. Record anew only for a change that is meant, and say so in
the change log: `python -m pytest tests/denoise_core/test_identical_loss.py -q -s` prints the new figures.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from denoise_core import recipes
from denoise_core.corpus.manifest import manifest_of
from denoise_core.corpus.store import open_corpus
from denoise_core.training import TrainingInputs, train
from study_core.plan import changed

RECORDED: dict[str, dict[str, list[float]]] = {
    "track_h_mini": {
        "val_sam_deg": [0.983080, 0.981803, 0.981274],
        "val_psnr_mean": [44.089689, 44.103468, 44.105581],
        "train_loss": [6.204558, 6.265989],
        "train_dip": [2.346217, 2.337912],
    },
    "act_of_god_mini": {
        "val_sam_deg": [0.468086, 0.466378, 0.465203],
        "val_psnr_mean": [50.061080, 50.079149, 50.088680],
        "train_loss": [-12.352864, -12.567739],
    },
    "act_of_god_seed_mini": {
        "val_sam_deg": [17.334675, 12.995733, 11.722260],
        "val_psnr_mean": [18.153487, 20.538719, 21.916356],
        "train_loss": [33.394466, 26.361719],
        "train_dip": [6.432684, 5.592091],
    },
}


@pytest.mark.parametrize("name", ["track_h_mini", "act_of_god_mini", "act_of_god_seed_mini"])
def test_a_few_steps_of_a_named_plan_give_the_recorded_numbers(
    name: str, mini_corpus_root: Path, tmp_path: Path
) -> None:
    plan = changed(
        recipes.named(name),
        {"optimiser": {"epochs": 2, "steps_per_epoch": 3, "bs": 16, "early_stop_patience": 9, "amp": False}},
    )
    corpus = open_corpus(mini_corpus_root)
    frame = corpus.manifest("manifest").frame
    groups = sorted(frame["group_id"].unique())[:8]
    parts = (groups[:6], groups[6:])
    train_rows, val_rows = (frame[frame["group_id"].isin(part)].reset_index(drop=True) for part in parts)
    log = tmp_path / plan.files.audit_log
    log.parent.mkdir(parents=True)
    log.touch()
    receipt = train(plan, TrainingInputs(corpus, manifest_of(train_rows), manifest_of(val_rows)), tmp_path)
    table = pd.read_csv(receipt.metrics_csv)
    for column, values in RECORDED[name].items():
        found = table[column].dropna().tolist()
        print(name, column, found)
        assert found == pytest.approx(values, rel=1e-5), column
