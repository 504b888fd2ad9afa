"""A refused model: Failed and named, archived, Act B started exactly once, production untouched."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from flow_lab import Lab, until, warm_start

from tasks.audit_log import verify

pytestmark = pytest.mark.prefect

IMPOSSIBLE = {"psnr_mean_min": 999}


def _archives(lab: Lab) -> set[str]:
    return {path.name for path in lab.artifacts.glob("god_run_failed_*")}


@dataclass(frozen=True)
class Refused:
    """A run that an impossible gate refused, its epoch chosen inside training, and what was there before it."""

    code: int
    run_id: str
    printed: str
    archives_before: set[str]
    pointer_before: str | None


def _pointer(lab: Lab) -> str | None:
    """The production pointer's text; None where nothing is in production."""
    path = lab.pointer()
    return path.read_text() if path.exists() else None


@pytest.fixture(scope="module")
def refused(lab: Lab) -> Refused:
    before, pointer = _archives(lab), _pointer(lab)
    plan = warm_start(label="impossible", gates=IMPOSSIBLE, epoch_chosen_on="inside")
    return Refused(*lab.watch("act-of-god/warm-start", plan), before, pointer)


def test_an_impossible_gate_fails_the_run_by_name(lab: Lab, refused: Refused) -> None:
    assert refused.code == 1, refused.printed
    state = lab.run(refused.run_id)["state"]
    assert (state["type"], state["name"]) == ("FAILED", "GateFailed")
    for word in ("aggregate", "psnr_mean", "999"):
        assert word in state["message"]
    assert "Traceback" not in lab.log(refused.run_id)
    gates = json.loads(lab.artifacts_of(refused.run_id)["act-of-god-gates"]["data"])
    assert [row["verdict"] for row in gates if row["metric"] == "psnr_mean"] == ["FAIL"]
    assert verify(lab.folder(refused.run_id) / "audit.jsonl") == []


def test_an_epoch_chosen_inside_training_leaves_the_panel_nothing_to_choose(lab: Lab, refused: Refused) -> None:
    """Trained twice: without the groups that choose, then with all, to that epoch; one checkpoint is judged."""
    run_id = refused.run_id
    (chosen,) = lab.events(run_id, "epoch")
    panel = pd.read_csv(lab.corpus / "validation_panel.csv")
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
    evaluated = lab.folder(run_id) / "final_analytics/panel_eval/panel_eval_summary.json"
    assert len(json.loads(evaluated.read_text())["ranked_order"]) == 1


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
    assert _pointer(lab) == refused.pointer_before


def test_a_refused_run_starts_one_act_b_and_both_failing_ends_in_act_c(lab: Lab, refused: Refused) -> None:
    (act_b,) = lab.children(refused.run_id)
    assert f"source:{refused.run_id}" in act_b["tags"]
    assert act_b["parameters"]["plan"]["source_run"] == refused.run_id
    assert "aggregate" in act_b["parameters"]["plan"]["failed_gates"]

    assert lab.ended(act_b["id"])["name"] == "GateFailed"
    done = [record["text"].partition(": result ")[0] for record in lab.events(act_b["id"], "receipt")]
    assert done == ["train-act_b_stage1", "train-act_b_stage2", "audit-panel"]
    assert "Act B" in (lab.folder(act_b["id"]) / "act_c_report.md").read_text()
    link = lab.artifacts_of(act_b["id"])["act-b-source"]["data"]
    assert f"{lab.ui}/runs/flow-run/{refused.run_id}" in link
    report = lab.artifacts_of(refused.run_id)["act-of-god-report"]["id"]
    assert f"[its report]({lab.ui}/artifacts/artifact/{report})" in link
    assert _pointer(lab) == refused.pointer_before


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
