"""The bundle's documents say what the data says."""

from __future__ import annotations

import json

import pandas as pd

from denoise_core.corpus.folds import fold_manifests
from denoise_core.corpus.manifest import manifest_of
from denoise_core.report import documents
from denoise_core.report.documents import bundle_documents
from denoise_core.report.record import read_run

PUBLISHED_NAMES = {
    "act_of_god_warm_start_plan.md",
    "validation_panel_audit_results.md",
    "validation_panel_split_summary.md",
    "training_manifest_coverage_summary.md",
    "training_group_counts_reference.md",
    "fold02_training_coverage_snapshot.md",
    "dose_metadata_documentation.md",
}


def test_the_seven_published_names(ran_once) -> None:
    texts = bundle_documents(ran_once.folder, ran_once.corpus, ran_once.panel, ran_once.training)
    assert set(texts) == PUBLISHED_NAMES == set(documents.NAMES)
    assert all(text.startswith("# ") and text.endswith("\n") and len(text) > 200 for text in texts.values())


def test_counts_follow_the_manifest(ran_once) -> None:
    frame = ran_once.training.frame
    group = ran_once.training.groups[0]
    fewer = manifest_of(frame.drop(frame.index[frame["group_id"] == group][:3]))
    for training in (ran_once.training, fewer):
        rows = (training.frame["group_id"] == group).sum()
        captures = training.frame.loc[training.frame["group_id"] == group, "relative_path"].nunique()
        assert f"| {group} | {rows} | {captures} |" in documents.counts_document(training, ran_once.corpus.study)
        assert f"{len(training)} rows" in documents.coverage_document(training)


def test_twin_rows_and_hashes_of_the_panel(ran_once) -> None:
    text = documents.panel_document(ran_once.panel, ran_once.corpus)
    assert ran_once.panel.rows_sha256 in text
    assert str(ran_once.panel.bytes_sha256) in text
    assert "held out whole" in text
    partly = manifest_of(ran_once.panel.frame.drop_duplicates("relative_path").iloc[1:])
    assert "Not held out whole" in documents.panel_document(partly, ran_once.corpus)


def test_a_leak_is_said_in_the_plan(ran_once) -> None:
    record = read_run(ran_once.folder)
    assert "no group of the panel is among them" in documents.plan_document(record, ran_once.panel, ran_once.training)
    leaked = manifest_of(pd.concat([ran_once.training.frame, ran_once.panel.frame.iloc[:1]]))
    assert "panel groups are among them" in documents.plan_document(record, ran_once.panel, leaked)


def test_the_plan_shows_the_runs_own_thresholds(ran) -> None:
    plan = json.loads((ran.folder / "plan.json").read_text())
    plan["gates"]["psnr_mean_min"] = 61.5
    (ran.folder / "plan.json").write_text(json.dumps(plan))
    text = documents.plan_document(read_run(ran.folder), ran.panel, ran.training)
    assert "| PSNR, mean at least (dB) | 61.5 | 18 |" in text
    assert "1 of them differ" in text


def test_fold_document_is_the_rotation(ran_once) -> None:
    text = documents.fold_document(ran_once.corpus, 2)
    parts = fold_manifests(ran_once.corpus, 2)
    for treatment in sorted(set(parts.train.frame["treatment"])):
        letters = sorted({n.removeprefix("sample_") for n in
                          parts.train.frame.loc[parts.train.frame["treatment"] == treatment, "sample"]})  # fmt: skip
        assert f"| {treatment} | {', '.join(letters)} |" in text
    assert parts.test.rows_sha256 in text


def test_corpus_without_that_fold_says_so(ran_once) -> None:
    assert "has no fold 9" in documents.fold_document(ran_once.corpus, 9)


def test_missing_training_manifest_is_said(ran_once) -> None:
    texts = bundle_documents(ran_once.folder, ran_once.corpus, ran_once.panel, None)
    assert "No training manifest" in texts[documents.COUNTS]
    assert "No training manifest" in texts[documents.COVERAGE]


def test_dose_document_has_every_treatment_and_feature(ran_once) -> None:
    text = documents.dose_document(ran_once.corpus)
    for treatment in set(ran_once.corpus.captures["treatment"]):
        assert f"| {treatment} |" in text
    assert "UVA_over_UVB" in text
    assert "(4, 4)" in text


def test_audit_document_carries_gates_and_notices(ran_once) -> None:
    record = read_run(ran_once.folder)
    text = documents.audit_document(record)
    assert text.count("✓ pass") + text.count("✗ FAIL") + text.count("∅ vacuous") == len(record.gates)
    for notice in record.facts["notices"]:
        assert notice in text
