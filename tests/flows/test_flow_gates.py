"""A refused model: Failed and named, archived, Act B started exactly once, production untouched."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from flow_lab import PATIENCE_S, TINY, Lab, until, warm_start

from denoise_core.corpus.folds import fold_manifests
from denoise_core.corpus.manifest import write_manifest
from denoise_core.corpus.store import open_corpus, pack
from study_core.files import sha256_of, write_json
from tasks.audit_log import verify
from tasks.denoise.inputs import BEST

pytestmark = pytest.mark.prefect

IMPOSSIBLE = {"psnr_mean_min": 999}


def _archives(lab: Lab) -> set[str]:
    return {path.name for path in lab.artifacts.glob("god_run_failed_*")}


@dataclass(frozen=True)
class Refused:
    """A run that an impossible gate refused, and what was there before it. Its epoch was chosen inside training, its
    own filter judged beside it; worth was asked of every fold: the panel holds out fold 3, fold 1's start was spoilt.
    """

    code: int
    run_id: str
    printed: str
    archives_before: set[str]
    pointers_before: dict[str, str]
    corpus: Path


def _pointers(lab: Lab) -> dict[str, str]:
    """The production pointer's text of every channel that has one."""
    return {path.name: path.read_text() for path in lab.pointer().parent.glob("*.json")}


@pytest.fixture(scope="module")
def refused(lab: Lab) -> Refused:
    before, pointers = _archives(lab), _pointers(lab)
    root = pack(open_corpus(lab.corpus), lab.artifacts.parent / "holds fold 3 out")
    (root / "manifest_train.csv").unlink()
    corpus = open_corpus(root)
    write_manifest(fold_manifests(corpus, 3).test.frame, root / "validation_panel.csv")
    training = {"changes": {**TINY, "model": {**TINY["model"], "base": "lmmse"}}}
    worth = {"epoch_chosen_on": "inside", "worth_folds": "all", "unresolved": "filter"}
    plan = warm_start(label="impossible", corpus=str(root), gates=IMPOSSIBLE, training=training, **worth)
    placed, aside = lab.artifacts / "checkpoints/prod", lab.artifacts.parent / "placed by other tests"
    if placed.exists():
        placed.rename(aside)
    spoilt = placed / "Track_H_fold_01"
    spoilt.mkdir(parents=True)
    (spoilt / BEST).write_bytes(b"no checkpoint")
    receipt = {"sha256": sha256_of(spoilt / BEST), "corpus": corpus.sha256}
    write_json((spoilt / BEST).with_suffix(".json"), receipt)
    refused = lab.watch("act-of-god/warm-start", plan, patience=3 * PATIENCE_S)  # a dozen jobs
    found = Refused(*refused, before, pointers, root)
    shutil.rmtree(placed)
    if aside.exists():
        aside.rename(placed)
    return found


def test_an_impossible_gate_fails_the_run_by_name(lab: Lab, refused: Refused) -> None:
    assert refused.code == 1, refused.printed
    state = lab.run(refused.run_id)["state"]
    assert (state["type"], state["name"]) == ("FAILED", "GateFailed")
    for word in ("aggregate", "psnr_mean", "999"):
        assert word in state["message"]
    assert (
        "Traceback" not in lab.log(refused.run_id).partition("Worth is measured")[2]
    )  # before: a fold's lost training
    gates = json.loads(lab.artifacts_of(refused.run_id)["act-of-god-gates"]["data"])
    assert [row["verdict"] for row in gates if row["metric"] == "psnr_mean"] == ["FAIL"]
    assert verify(lab.folder(refused.run_id) / "audit.jsonl") == []


def test_an_epoch_chosen_inside_training_leaves_the_panel_nothing_to_choose(lab: Lab, refused: Refused) -> None:
    """Trained twice: without the groups that choose, then with all, to that epoch; one checkpoint is judged."""
    run_id = refused.run_id
    (chosen,) = lab.events(run_id, "epoch")
    panel = pd.read_csv(refused.corpus / "validation_panel.csv")
    groups = chosen["data"]["groups"]
    assert groups
    assert not set(groups) & set(panel["group_id"])
    inner, _ = lab.job(run_id, "train-god_run_inside")
    outer, _ = lab.job(run_id, "train-god_run")
    assert inner.key != outer.key
    assert outer.spec["inputs"]["train"] != inner.spec["inputs"]["train"]
    metrics = pd.read_csv(lab.folder(run_id) / "logs/god_run/metrics.csv")
    assert metrics["epoch"].max() == chosen["data"]["epoch"]
    verdict = json.loads((lab.folder(run_id) / "verdict.json").read_text())
    assert any("judged and chose nothing" in notice for notice in verdict["facts"]["notices"])


def test_worth_is_pooled_over_the_folds_and_a_lost_one_costs_its_own_part(lab: Lab, refused: Refused) -> None:
    """Not resolved by a training of one step: the filter is the candidate, and the first notice says so."""
    run_id = refused.run_id
    (told,) = lab.events(run_id, "worth")
    assert told["data"]["lost"] == [1]
    assert "train-god_run_inside_fold_01" in {lost["data"]["job"] for lost in lab.events(run_id, "lost")}
    verdict = json.loads((lab.folder(run_id) / "verdict.json").read_text())
    worth = verdict["facts"]["unseen"]["worth"]
    assert (worth["folds"], worth["samples"]) == (2, 6)
    assert "folds 2, 5" in verdict["facts"]["unseen"]["what"]
    assert verdict["facts"]["notices"][0].startswith("Ship the filter")
    assert "6 samples of 2 folds" in (lab.folder(run_id) / "report.html").read_text()
    evaluated = lab.folder(run_id) / "final_analytics/panel_eval/panel_eval_summary.json"
    own_filter, _ = json.loads(evaluated.read_text())["ranked_order"]
    assert own_filter == verdict["candidate"]
    assert Path(own_filter).parent == lab.artifacts / "checkpoints/filters"


def test_a_refused_run_is_archived_and_production_stays(lab: Lab, refused: Refused) -> None:
    (archived,) = lab.events(refused.run_id, "archived")
    archive = Path(archived["data"]["archive"])
    assert archive.name not in refused.archives_before
    assert re.fullmatch(rf"god_run_failed_{archived['time'][:10].replace('-', '')}(_\d+)?", archive.name)
    for name in (
        "verdict.json",
        "final_analytics/panel_eval/panel_eval_summary.json",
        "checkpoints/god_run/mamba_tiny_uv_best.pt",
        "logs/god_run/metrics.csv",
    ):
        assert (archive / name).exists(), name
    assert _pointers(lab) == refused.pointers_before


def test_a_refused_run_starts_one_act_b_and_both_failing_ends_in_act_c(lab: Lab, refused: Refused) -> None:
    (act_b,) = lab.children(refused.run_id)
    assert f"source:{refused.run_id}" in act_b["tags"]
    assert act_b["parameters"]["plan"]["source_run"] == refused.run_id
    assert "aggregate" in act_b["parameters"]["plan"]["failed_gates"]
    _, trained = lab.job(refused.run_id, "train-god_run")
    assert trained in Path(act_b["parameters"]["plan"]["checkpoint"]).parents, "a filter cannot be trained on"

    assert lab.ended(act_b["id"])["name"] == "GateFailed"
    done = [record["text"].partition(": result ")[0] for record in lab.events(act_b["id"], "receipt")]
    assert done == ["train-act_b_stage1", "train-act_b_stage2", "audit-panel"]
    assert "Act B" in (lab.folder(act_b["id"]) / "act_c_report.md").read_text()
    link = lab.artifacts_of(act_b["id"])["act-b-source"]["data"]
    assert f"{lab.ui}/runs/flow-run/{refused.run_id}" in link
    report = lab.artifacts_of(refused.run_id)["act-of-god-report"]["id"]
    assert f"[its report]({lab.ui}/artifacts/artifact/{report})" in link
    assert _pointers(lab) == refused.pointers_before


def test_act_b_is_created_once_though_the_flow_dies_right_after_the_trigger(lab: Lab, refused: Refused) -> None:
    lab.crash_once.unlink()
    run_id = lab.start("act-of-god/warm-start", warm_start(label="killed", gates=IMPOSSIBLE))
    assert lab.ended(run_id)["name"] == "Crashed"
    assert lab.crash_once.exists()
    (first,) = lab.children(run_id)
    assert lab.events(run_id, "act-b") == []  # it died before it could write that down

    retry = {"state": {"type": "SCHEDULED", "name": "AwaitingRetry", "message": "by a person"}, "force": True}
    lab.api("POST", f"/flow_runs/{run_id}/set_state", retry)
    until("the retry", lambda: lab.run(run_id)["run_count"] == 2)
    assert lab.ended(run_id)["name"] == "GateFailed"

    assert [child["id"] for child in lab.children(run_id)] == [first["id"]]
    (noted,) = lab.events(run_id, "act-b")
    assert noted["data"]["flow_run"] == first["id"]
    assert verify(lab.folder(run_id) / "audit.jsonl") == []


def test_the_backstop_starts_no_second_act_b_for_a_source(lab: Lab, refused: Refused) -> None:
    """The automation knows nothing but the source run."""
    (first,) = lab.children(refused.run_id)
    lab.ended(first["id"])
    run_id = lab.start("act-b/fallback", {"source_run": refused.run_id})
    state = lab.ended(run_id)
    assert (state["type"], state["name"]) == ("FAILED", "Duplicate")
    assert first["id"] in state["message"]
    assert not [entry for entry, _ in lab.jobs() if entry.owner == run_id]
