"""A small study from end to end with the committed model: what is kept, what is refused, what can be done again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from concept_core.__main__ import main
from concept_core.cav.artifacts import read_cav
from concept_core.corpus.rows import Protein, write_fasta
from concept_core.corpus.windows import read_windows
from concept_core.evaluation.proteins import matches, test_proteins
from concept_core.evaluation.tables import read_tables, write_tables
from concept_core.jobs.train_cav import TrainCav, train_cav
from concept_core.layout import CavFiles, DetectionFiles, EvaluationFiles
from concept_core.local import Study
from concept_core.replay import judged, replay
from study_core.errors import BadInput, TrainingInterrupted
from study_core.files import sha256_of
from study_core.job import Content
from study_core.plan import changed

pytestmark = pytest.mark.concept
Out = pytest.CaptureFixture[str]


@pytest.fixture
def copied(small_study: Any, tmp_path: Path) -> Path:
    """The evaluation's folder, to be damaged."""
    folder = tmp_path / "evaluation"
    shutil.copytree(small_study.study.layout.evaluation("house_esm2").root, folder)
    return folder


def test_a_study_leaves_the_files_that_the_layout_names_and_no_pickle(small_study: Any) -> None:
    layout = small_study.study.layout
    for layer in (0, 2, 4):
        files = layout.cavs("house_esm2")
        assert files.concept(layer).exists()
        assert files.manifest(layer).exists()
        assert [files.random(layer, number).exists() for number in range(4)] == [True, True, True, False]
    evaluation = layout.evaluation("house_esm2")
    for path in (
        evaluation.projection,
        evaluation.thresholds,
        evaluation.controls,
        evaluation.nulls,
        evaluation.scores,
    ):
        assert path.exists()
    written = [path for path in layout.root.rglob("*") if path.is_file()]
    assert not [path for path in written if path.suffix in (".pkl", ".pt", ".bin", ".joblib")]
    for path in written:
        if path.suffix == ".npy":
            np.load(path, allow_pickle=False)


def test_the_model_beats_letters_and_every_row_was_scored_by_a_probe_that_had_not_seen_it(small_study: Any) -> None:
    layout = small_study.study.layout
    tables = read_tables(layout.evaluation("house_esm2"))
    values = {(one.metric, *one.slice.values()): one.value for one in small_study.evaluated.measures}
    assert values["worst_auroc", "model", "oof"] > 0.75
    assert 0.4 < values["worst_auroc", "L0", "oof"] < 0.6
    assert 0.4 < values["worst_auroc", "untrained", "oof"] < 0.6
    assert values["skill_low", "bag20"] > 0
    part = {window.key: window.part for window in read_windows(layout.windows)}
    assert all(
        part[key] == ("train" if one == "oof" else "held_out")
        for key, one in zip(tables.scores.key, tables.scores.part, strict=True)
    )
    assert not (tables.scores.stratum == "off").any()


def test_what_is_done_is_not_done_again_and_what_is_stale_is(small_study: Any) -> None:
    told: list[str] = []
    study = small_study.study
    again = Study(study.plan, study.layout, study.registry, study.device, tell=told.append)
    assert again.evaluate(dropped_share=0.0, smoke_passed=6) == small_study.evaluated
    assert told == []
    other = changed(study.plan, {"cav": {"null_refits": 9}})
    Study(other, study.layout, study.registry, study.device, tell=told.append).train(layer=4)
    assert [one for one in told if one.startswith("embed")] == []
    assert "train_cav-house_esm2-L4" in told
    Study(study.plan, study.layout, study.registry, study.device).evaluate(dropped_share=0.0, smoke_passed=6)


def test_an_archived_evaluation_gives_the_same_verdict_from_its_tables(small_study: Any, copied: Path) -> None:
    found, records = replay(copied, small_study.study.plan)
    assert found.measures == small_study.evaluated.measures
    assert records == judged(small_study.evaluated.measures, small_study.study.plan)
    tables = read_tables(EvaluationFiles(copied))
    write_tables(EvaluationFiles(copied), tables)
    assert read_tables(EvaluationFiles(copied)).scores.equals(tables.scores)


def test_a_score_that_somebody_improved_changes_the_replayed_figures(small_study: Any, copied: Path) -> None:
    files = EvaluationFiles(copied)
    tables = read_tables(files)
    table = tables.scores.copy()
    table.loc[(table.role == "model") & (table.stratum == "pos"), "score"] -= 100
    table.to_csv(files.scores, index=False)
    found, records = replay(copied, small_study.study.plan)
    assert found.measures != small_study.evaluated.measures
    assert not all(record.passed for record in records if record.gate == "3 strata")


@pytest.mark.parametrize("name", ["oof_scores.csv", "nulls.npz", "facts.json", "proteins.csv"])
def test_a_table_that_is_missing_or_no_table_is_one_line(small_study: Any, copied: Path, name: str) -> None:
    (copied / name).write_bytes(b"\x00\xff no table")
    with pytest.raises((BadInput, KeyError, AttributeError)) as told:
        replay(copied, small_study.study.plan)
    assert told.type is BadInput
    (copied / name).unlink()
    with pytest.raises(BadInput, match=name):
        replay(copied, small_study.study.plan)


def test_a_changed_cav_file_is_named(small_study: Any, tmp_path: Path) -> None:
    folder = tmp_path / "cav"
    shutil.copytree(small_study.study.layout.cavs("house_esm2").root, folder)
    files = CavFiles(folder)
    assert read_cav(files, 4).layer == 4
    np.save(files.concept(4), np.zeros(64))
    with pytest.raises(BadInput, match=r"L4_concept_v1\.npy: missing, or not as the manifest says"):
        read_cav(files, 4)
    with pytest.raises(BadInput, match="no CAV of layer 3"):
        read_cav(files, 3)


class Stopping:
    """A job's context that asks to stop once progress was told so often."""

    adjustments: dict[str, int] = {}  # noqa: RUF012 (the protocol's own name)

    def __init__(self, folder: Path, after: int) -> None:
        self.folder, self.left = folder, after

    def should_stop(self) -> bool:
        return self.left <= 0

    def progress(self, **fields: object) -> None:
        self.left -= 1


def test_a_stopped_training_goes_on_to_the_same_files(small_study: Any, tmp_path: Path) -> None:
    """T13, training: refits are saved in blocks of twenty."""
    plan = changed(small_study.study.plan.cav, {"null_refits": 30})
    request = TrainCav(
        plan=plan, source="bag20", features="bag20", windows=Content.of(small_study.study.layout.windows)
    )
    whole = train_cav(request, Stopping(tmp_path / "whole", 99))
    with pytest.raises(TrainingInterrupted, match="stopped after 20 of 30"):
        train_cav(request, Stopping(tmp_path / "halves", 1))
    halves = train_cav(request, Stopping(tmp_path / "halves", 99))
    assert halves.cav.sha256 == whole.cav.sha256
    assert halves.null is not None
    assert whole.null is not None
    assert halves.null.sha256 == whole.null.sha256
    assert halves.scores.sha256 == whole.scores.sha256


def fasta(study: Study, path: Path) -> Path:
    proteins = test_proteins(
        read_windows(study.layout.windows), pattern=study.plan.data.concept.pattern, longest=300, seed=0
    )
    return write_fasta(path, [Protein(f"{one.accession}|{one.kind}", one.sequence) for one in proteins])


def scanned(study: Study, source: Path, out: Path, size: int) -> DetectionFiles:
    files = DetectionFiles(out)
    plan = study.plan.model_copy(
        update={"detection": study.plan.detection.model_copy(update={"proteins_per_shard": size})}
    )
    own = study.layout
    Study(plan, own, study.registry, "cpu").detect(
        source, files, cav=own.cavs("house_esm2").root, thresholds=own.evaluation("house_esm2").thresholds
    )
    return files


def test_shards_change_nothing_and_positives_rank_first(small_study: Any, tmp_path: Path) -> None:
    source = fasta(small_study.study, tmp_path / "a.fasta")
    one = scanned(small_study.study, source, tmp_path / "one", 500)
    many = scanned(small_study.study, source, tmp_path / "many", 7)
    first, second = (pd.DataFrame(json.loads(files.predictions.read_text())) for files in (one, many))
    assert first.accession.tolist() == second.accession.tolist()
    np.testing.assert_allclose(first.score, second.score, atol=1e-4)
    assert first.score.is_monotonic_decreasing
    positive = first.accession.str.endswith("|positive")
    assert first[positive].positive.mean() > 0.6
    assert first[first.accession.str.endswith("|negative")].positive.mean() < 0.25
    summary = json.loads(one.summary.read_text())
    assert summary["proteins"] == len(first)
    assert len(one.hits.read_text().splitlines()) == summary["hits"] + 1
    assert summary["hits_on_pattern"] <= summary["hits"]


def test_decoys_keep_composition_and_lose_the_pattern(small_study: Any) -> None:
    study = small_study.study
    pattern = study.plan.data.concept.pattern
    proteins = test_proteins(read_windows(study.layout.windows), pattern=pattern, longest=300, seed=0)
    positives = {one.accession: one for one in proteins if one.kind == "positive"}
    decoys = [one for one in proteins if one.kind == "decoy"]
    assert len(decoys) == len(positives) > 5
    for decoy in decoys:
        natural = positives[decoy.accession]
        assert sorted(decoy.sequence) == sorted(natural.sequence)
        assert matches(natural.sequence, pattern)
        assert not matches(decoy.sequence, pattern)
        assert (decoy.group, decoy.fold) == (natural.group, natural.fold)


def test_thresholds_of_another_cav_are_refused_before_anything_is_scanned(
    small_study: Any, tmp_path: Path, capsys: Out
) -> None:
    """T15."""
    layout = small_study.study.layout
    registry = json.loads(layout.evaluation("house_esm2").thresholds.read_text())
    foreign = tmp_path / "thresholds.json"
    foreign.write_text(json.dumps({**registry, "cav_sha256": "0" * 64}))
    source = fasta(small_study.study, tmp_path / "a.fasta")
    arguments = [
        "detect",
        "--config",
        str(small_study.config),
        "--input",
        str(source),
        "--output",
        str(tmp_path / "out"),
    ]
    assert main([*arguments, "--thresholds", str(foreign)]) == 2
    error = capsys.readouterr().err
    assert "thresholds of CAV 000000000000" in error
    assert registry["cav_sha256"][:12] in error
    foreign.write_text(json.dumps({**registry, "model": "another"}))
    assert main([*arguments, "--thresholds", str(foreign)]) == 2
    assert "thresholds were set for model another, asked is house_esm2" in capsys.readouterr().err
    assert not (tmp_path / "out" / "predictions.json").exists()
    assert main([*arguments, "--method", "no_such"]) == 2
    assert main([*arguments, "--device", "cpu", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tracks"] == 13
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<figure>") == 13
    assert "proteins score above the threshold" in page


def test_evaluate_says_which_gates_refuse_and_exits_with_three(small_study: Any, capsys: Out) -> None:
    """Nineteen refits cannot give the p that the null gate asks for."""
    shutil.rmtree(small_study.study.layout.evaluation("house_esm2").plots, ignore_errors=True)
    assert main(["evaluate", "--config", str(small_study.config), "--device", "cpu"]) == 3
    said = capsys.readouterr().out
    assert "FAIL" in said
    assert "2 null" in said
    layout = small_study.study.layout
    verdict = json.loads((layout.root / "verdict.json").read_text())
    assert verdict["candidate_sha256"] == sha256_of(layout.candidate)
    assert verdict["facts"]["cav_sha256"] == small_study.evaluated.cav_sha256
    assert verdict["score"] > 0.75
    page = (layout.root / "report.html").read_text()
    assert "REFUSED by gate" in page
    assert "holds but says nothing" in page
    measured = layout.evaluation("house_esm2").sensitivity.exists()  # another test of this worker may have asked for it
    assert ("concept probing" in page) is not measured
    assert "<script" not in page
    plots = layout.evaluation("house_esm2").plots
    for name in ("controls_ladder", "auroc_by_layer", "roc_pr_curves", "strata_by_layer", "L4_random_comparison"):
        assert (plots / f"{name}.png").stat().st_size > 5000
    assert [len(list(plots.glob(f"L{layer}_heatmap_*.png"))) for layer in (2, 4)] == [4, 4]


def test_train_of_a_layer_that_is_not_there_names_those_that_are(small_study: Any, capsys: Out) -> None:
    assert main(["train", "--config", str(small_study.config), "--layer", "3"]) == 2
    assert "no layer 3; one of (0, 2, 4)" in capsys.readouterr().err


def test_replay_from_the_command_line(small_study: Any, capsys: Out) -> None:
    folder = small_study.study.layout.evaluation("house_esm2").root
    assert main(["replay", str(folder), "--config", str(small_study.config), "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["layer"] == small_study.evaluated.layer
