"""A run's folder as the flows leave it: the mini corpus, the LMMSE filter as candidate, judged for real."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from denoise_core.corpus.manifest import Manifest
from denoise_core.corpus.store import Corpus, open_corpus
from denoise_core.evaluation.checkpoints import measure_checkpoints
from denoise_core.evaluation.controls import control_predictions, fit_controls
from denoise_core.evaluation.panel import judge_checkpoints
from denoise_core.evaluation.thresholds import GateThresholds
from denoise_core.model.linear import save_linear
from denoise_core.recipes import named
from denoise_core.report.record import write_inputs

METRICS = """epoch,lr,val_sam_deg,val_psnr_mean,val_psnr_std,val_composite,best_epoch,train_loss
0,1e-06,0.4600,52.70,2.60,50.10,0,
1,0.001,0.4540,52.79,2.61,50.18,1,-12.08
2,0.0005,0.4528,52.85,2.57,50.28,2,-12.14
3,0.0001,0.4530,52.84,2.58,50.26,2,-12.15
"""
JOBS = [
    {"job": "train-god_run", "stage": "train", "state": "done", "attempts": 1, "slurm_ids": "4711", "nodes": "node-1",
     "queue_wait_s": 12.5, "elapsed_s": 360.2, "cpu_efficiency": 0.93, "memory_efficiency": 0.41,
     "gpu_utilisation": 0.87, "gpu_hours": 0.1, "gpu_energy_wh": 30.5, "remedies": ""},
    {"job": "audit-panel", "stage": "evaluate", "state": "done", "attempts": 2, "slurm_ids": "4712 4713",
     "nodes": "node-2", "queue_wait_s": 3.0, "elapsed_s": 40.0, "cpu_efficiency": 0.99, "memory_efficiency": 0.2,
     "gpu_utilisation": None, "gpu_hours": 0.025, "gpu_energy_wh": None, "remedies": "oom: half the batch"},
]  # fmt: skip


@dataclass(frozen=True)
class Ran:
    """A run on disk, and what it was judged on."""

    folder: Path
    corpus: Corpus
    panel: Manifest
    training: Manifest


@pytest.fixture(scope="session")
def ran_once(mini_corpus_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Made once and never changed; tests that write take `ran`."""
    corpus = open_corpus(mini_corpus_root)
    panel, training = corpus.manifest("validation_panel"), corpus.manifest("manifest_train")
    folder = tmp_path_factory.mktemp("runs") / "warm-start-2026-11-21-0473400e"
    models = tmp_path_factory.mktemp("models")
    controls = fit_controls(corpus, training.groups)
    predictions = control_predictions(corpus, panel, controls)
    checkpoints = [models / "mamba_tiny_uv_best.pt", models / "mamba_tiny_uv_epoch_0003.pt"]
    for path in checkpoints:
        save_linear(path, controls["lmmse"])
    with pytest.MonkeyPatch.context() as patch:  # the audit would fit the same controls once more, for seconds
        patch.setattr("denoise_core.evaluation.checkpoints.fitted_control_predictions", lambda *_, **__: predictions)
        measured = measure_checkpoints(corpus, panel, training, checkpoints, out=models / "measured")
    out = folder / "final_analytics" / "panel_eval"
    judge_checkpoints(measured, panel, GateThresholds(), out, expected_hash=panel.rows_sha256, selected_on=panel.groups)
    shutil.copy(out / "verdict_01.json", folder / "verdict.json")
    plan = {
        "gates": GateThresholds().model_dump(mode="json"),
        "panel": {"manifest": None, "expected_hash": panel.rows_sha256},
        "start": {"checkpoint": None, "fold": 2},
    }
    (folder / "plan.json").write_text(json.dumps(plan))
    (folder / "training_plan.json").write_text(named("act_of_god_mini").model_dump_json())
    provenance = {"git_hash": "0" * 40, "code_sha256": "1" * 64, "lock_sha256": "2" * 64, "python": "3.11",
                  "platform": "Linux", "versions": {"numpy": "2"}}  # fmt: skip
    (folder / "provenance.json").write_text(json.dumps(provenance))
    pd.DataFrame(JOBS).to_csv(folder / "jobs.csv", index=False)
    (folder / "logs" / "god_run").mkdir(parents=True)
    (folder / "logs" / "god_run" / "metrics.csv").write_text(METRICS)
    write_inputs(folder, corpus, panel, training)
    return Ran(folder, corpus, panel, training)


@pytest.fixture
def ran(ran_once: Ran, tmp_path: Path) -> Ran:
    """A copy of the run that a test may spoil."""
    folder = tmp_path / ran_once.folder.name
    shutil.copytree(ran_once.folder, folder)
    return Ran(folder, ran_once.corpus, ran_once.panel, ran_once.training)


Edit = Callable[[dict[str, object]], object]


@pytest.fixture
def edit_verdict(ran: Ran) -> Callable[[Edit], None]:
    """Change the copy's verdict.json in place."""

    def change(edit: Edit) -> None:
        path = ran.folder / "verdict.json"
        content = json.loads(path.read_text())
        edit(content)
        path.write_text(json.dumps(content))

    return change
