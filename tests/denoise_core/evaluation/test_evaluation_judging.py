"""Measured on a node, judged in a flow: the record between them, and what a judge may look at."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from denoise_core.corpus.manifest import Manifest
from denoise_core.corpus.store import Corpus
from denoise_core.evaluation.judging import judge_measurement
from denoise_core.evaluation.measurement import MEASUREMENT, Measurement, read_measurement
from denoise_core.evaluation.measuring import measure_predictions
from denoise_core.evaluation.panel import judge_checkpoints
from denoise_core.evaluation.predictions import PACKED, write_packed
from denoise_core.evaluation.selection import Unseen, unseen_figures
from denoise_core.evaluation.thresholds import GateThresholds
from study_core.errors import BadInput
from tasks.slurm.reach import reach


@pytest.fixture(scope="module")
def found(tiny: Corpus, tiny_panel: Manifest, tiny_training: Manifest, tiny_truth: np.ndarray) -> Measurement:
    broken = tiny_truth + np.random.default_rng(11).normal(0, 2e-4, tiny_truth.shape)
    broken[3, 100] = np.nan
    raw_ML = tiny.spectra_NL[tiny.rows(tiny_panel)].astype(np.float64)
    unseen = unseen_figures(tiny, [Unseen(tiny_panel, tiny_truth, tiny_training, [], raw_ML, "f")])
    return measure_predictions(
        tiny, tiny_panel, broken, training=tiny_training, controls={"f": tiny_truth}, unseen=unseen,
        standard_error_ML=np.full_like(tiny_truth, np.nan),
    )  # fmt: skip


def test_a_record_read_back_is_judged_as_the_one_written(
    found: Measurement, tiny_panel: Manifest, tmp_path: Path
) -> None:
    again = read_measurement(found.write(tmp_path / "measurement.json"))
    json.loads((tmp_path / "measurement.json").read_text(), parse_constant=pytest.fail)  # strict: no NaN in it
    assert math.isnan(again.own.psnr_M[3])
    assert again.own.psnr_M[4:] == found.own.psnr_M[4:]
    one, other = (judge_measurement(x, tiny_panel, selected_on=tiny_panel.groups) for x in (found, again))
    assert one.gates == other.gates
    assert one.summary == other.summary
    assert not one.passed


@pytest.mark.parametrize("content", ["", "{}", '{"checkpoint": 3}', "[1"])
def test_a_record_that_is_none_is_bad_input(content: str, tmp_path: Path) -> None:
    (tmp_path / "measurement.json").write_text(content)
    with pytest.raises(BadInput, match="no measurement"):
        read_measurement(tmp_path / "measurement.json")


def test_another_panel_is_not_judged(found: Measurement, tiny_training: Manifest) -> None:
    with pytest.raises(BadInput, match="another panel"):
        judge_measurement(found, tiny_training)


PER_CAPTURE = {"tail_psnr_min": 200.0, "tail_sam_max": 0.0, "roi_area_error_max_pct": 0.0, "worth_gain_low_db": 99.0}


@pytest.mark.parametrize("field", PER_CAPTURE)
def test_limits_of_a_capture_and_of_worth_need_no_other_measurement(
    field: str, found: Measurement, tiny_panel: Manifest
) -> None:
    usual = judge_measurement(found, tiny_panel)
    strict = judge_measurement(found, tiny_panel, GateThresholds().model_copy(update={field: PER_CAPTURE[field]}))
    if field == "worth_gain_low_db":
        assert any(notice.startswith("Ship the model") for notice in usual.notices)
        assert any(notice.startswith("Ship the filter") for notice in strict.notices)
    elif field == "roi_area_error_max_pct":
        assert strict.controls["raw"]["area_within_10_pct_ratio"] == 0.0
        assert usual.metrics["area_within_10_pct_ratio"] > strict.metrics["area_within_10_pct_ratio"] == 0.0
    else:
        assert usual.metrics["joint_pass_ratio"] > strict.metrics["joint_pass_ratio"] == 0.0


@pytest.fixture
def model_and_filter(found: Measurement, tiny_panel: Manifest, tiny_truth: np.ndarray, tmp_path: Path) -> list[Path]:
    """Folders as a job leaves them: a model, and next to it the filter that it corrects, 1 dB below."""
    worse = {**found.own.figures, "composite_score": found.own.figures["composite_score"] - 1.0}
    lower = found.own.model_copy(update={"figures": worse})
    folders = []
    for name, own in (("model", found.own), ("filter", lower)):
        folder = tmp_path / "measured" / name
        write_packed(folder / PACKED, tiny_panel, tiny_truth)
        found.model_copy(update={"checkpoint": f"{name}.pt", "own": own}).write(folder / MEASUREMENT)
        folders.append(folder)
    return folders


@pytest.mark.parametrize(("low_db", "first"), [(0.0, "model"), (99.0, "filter")])
def test_the_filter_is_the_candidate_where_the_models_gain_is_not_resolved(
    low_db: float, first: str, model_and_filter: list[Path], tiny_panel: Manifest, tmp_path: Path
) -> None:
    thresholds = GateThresholds(worth_gain_low_db=low_db)
    judged = judge_checkpoints(
        model_and_filter, tiny_panel, thresholds, tmp_path / "out", own_filter=model_and_filter[1]
    )
    assert judged[0].verdict.candidate == f"{first}.pt"
    assert json.loads((tmp_path / "out/panel_eval_summary.json").read_text())["best_checkpoint"] == f"{first}.pt"
    assert (tmp_path / f"out/{first}_panel_preds").is_dir()
    said = "Ship the model" if first == "model" else "Ship the filter"
    assert judged[0].verdict.facts["notices"][0].startswith(said)
    (alone, _) = judge_checkpoints(model_and_filter, tiny_panel, thresholds, tmp_path / "alone")
    assert alone.verdict.candidate == "model.pt"  # ranked by score where nobody said which one is the filter


def test_a_gain_that_was_not_measured_is_not_resolved(
    model_and_filter: list[Path], tiny_panel: Manifest, tmp_path: Path
) -> None:
    for folder in model_and_filter:
        found = read_measurement(folder / MEASUREMENT)
        found.model_copy(update={"unseen": None}).write(folder / MEASUREMENT)
    judged = judge_checkpoints(
        model_and_filter, tiny_panel, GateThresholds(), tmp_path / "out", own_filter=model_and_filter[1]
    )
    assert judged[0].verdict.candidate == "filter.pt"


def test_no_job_that_measures_reaches_a_threshold() -> None:
    """So an edit of a threshold, its reason, a rule or a notice renames no measurement."""
    sources = reach("denoise_core.jobs.audit:measure_panel").sources
    assert "denoise_core/evaluation/measuring.py" in sources
    judges = ("thresholds", "judging", "limits", "notices", "report", "panel", "outputs", "unseen")
    assert not {f"denoise_core/evaluation/{name}.py" for name in judges} & set(sources)
