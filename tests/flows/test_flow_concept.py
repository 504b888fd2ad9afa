"""A protein concept as flows: refused, judged again without a job, shipped, scanned with; what a run leaves."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from flow_lab import ROOT, SIGNED, Lab, small_concept

from concept_core.corpus.rows import Protein, read_rows, write_fasta
from tasks.bundle import verify
from tasks.cli import main as gated

pytest.importorskip("transformers")
pytestmark = [pytest.mark.prefect, pytest.mark.concept]

PROBE, SCAN = "concept/probe", "concept/scan"
ANY = {
    "rand_auroc_min": 0, "rand_ap_min": 0, "p_max": 1, "null_refits_min": 1, "null_bias_max": 1, "worst_oof_min": 0,
    "worst_held_out_min": 0, "skill_min": -2, "protein_natural_min": 0, "protein_decoy_min": 0, "protein_fpr_max": 1,
    "iou_median_min": 0, "iou_share_min": 0, "iou_skill_min": -2, "transfer_tpr_min": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return small_concept(tmp_path_factory.mktemp("concept") / "a study")


@pytest.fixture(scope="module")
def refused(lab: Lab, plan: dict[str, Any]) -> str:
    code, run_id, printed = lab.watch(PROBE, {**plan, "label": "first"})
    assert code == 1, printed
    return run_id


@pytest.fixture(scope="module")
def shipped(lab: Lab, plan: dict[str, Any], refused: str) -> str:
    """The same study under gates that anything passes."""
    code, run_id, printed = lab.watch(PROBE, {**plan, "label": "lenient", "gates": ANY, "approval": SIGNED})
    assert code == 0, printed
    return run_id


def submitted(lab: Lab, run_id: str) -> list[str]:
    return sorted(event["data"]["job"] for event in lab.events(run_id, "job-submitted"))


def test_a_refused_run_names_its_gates_and_did_every_job_once(lab: Lab, refused: str) -> None:
    state = lab.ended(refused)
    assert state["name"] == "GateFailed"
    assert "2 null" in state["message"], "nineteen refits cannot give the p that the gate asks for"
    assert submitted(lab, refused) == [
        "cav-bag20", "cav-dipeptide", "cav-house_esm2-L0", "cav-house_esm2-L4", "cav-house_esm2_untrained-L4",
        "embed-house_esm2", "embed-house_esm2_untrained", "evaluate-house_esm2", "scan-house_esm2",
        "scan-house_esm2_untrained", "smoke-house_esm2",
    ]  # fmt: skip
    tokens = {lab.job(refused, f"cav-house_esm2-L{layer}")[0].attempt.token for layer in (0, 4)}
    assert len(tokens) == 1, "layers are one array"
    assert not (lab.artifacts / "registry" / "concept-C2H2@house_esm2").exists()


def test_a_run_leaves_page_tables_candidate_and_a_bundle_that_replays(
    lab: Lab, refused: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = lab.folder(refused)
    for name in (
        "report.html", "windows.jsonl", "candidate/scan.json", "candidate/thresholds.json", "candidate/card.md",
        "cavs/house_esm2/L4_concept_v1.npy", "evaluations/house_esm2/plots/controls_ladder.png",
    ):  # fmt: skip
        assert (folder / name).exists(), name
    shown = lab.artifacts_of(refused)
    for what in ("report", "gates", "controls", "layers", "first-thresholds", "jobs", "audit-trail"):
        assert f"concept-probe-{what}" in shown
    bundle = folder / "auditors_bundle.zip"
    assert verify(bundle) == []
    corpus = json.loads((folder / "plan.json").read_text())["config"]
    capsys.readouterr()
    assert gated(["replay", "--bundle", str(bundle), "--corpus", str(Path(corpus).parent)]) == 0
    assert capsys.readouterr().out.startswith("equal: ")


def test_other_gates_judge_again_without_a_job_and_the_candidate_ships(lab: Lab, refused: str, shipped: str) -> None:
    assert submitted(lab, shipped) == []
    verdicts = [json.loads((lab.folder(run) / "verdict.json").read_text()) for run in (refused, shipped)]
    assert verdicts[0]["candidate_sha256"] != verdicts[1]["candidate_sha256"], "the card tells the verdict"
    assert verdicts[0]["score"] == verdicts[1]["score"]
    registry = lab.artifacts / "registry" / "concept-C2H2@house_esm2"
    pointer = json.loads((registry / "channels" / "a-study.json").read_text())["blessing"]
    blessing = json.loads((registry / "blessings" / f"{pointer}.json").read_text())
    assert Path(blessing["model"], "scan.json").exists()
    assert blessing["approved_by"] == SIGNED["by"]
    assert "p_max 1.0 (standard 0.05)" in blessing["verdict"]["changed_thresholds"]
    assert blessing["verdict"]["data_sha256"]
    statement = json.loads((lab.folder(shipped) / "verdict.dsse.json").read_text())
    said = json.loads(base64.b64decode(statement["payload"]))["predicate"]
    assert len(said["gated"]["gates"]) == len(blessing["verdict"]["gates"])


def test_the_probe_in_production_scans_a_fasta_in_shards(lab: Lab, shipped: str, tmp_path: Path) -> None:
    rows = read_rows(ROOT / "data" / "concept" / "c2h2_mini_pos.jsonl")[:2]
    rows += read_rows(ROOT / "data" / "concept" / "c2h2_mini_neg.jsonl")[:2]
    fasta = write_fasta(tmp_path / "some.fasta", [Protein(row.accession, row.sequence) for row in rows])
    code, run_id, printed = lab.watch(SCAN, {"label": "scan", "fasta": str(fasta), "per_job": 3})
    assert code == 0, printed
    assert submitted(lab, run_id) == ["detect-000000", "detect-000003"]
    folder = lab.folder(run_id)
    summary = json.loads((folder / "detection_summary.json").read_text())
    assert (summary["proteins"], summary["layer"], summary["method"]) == (4, 4, "protein_fpr_0.05")
    assert (folder / "hits.tsv").read_text().startswith("accession\t")
    assert len(list((folder / "tracks").glob("*.png"))) == 4
    assert {"concept-scan-best", "concept-scan-summary", "concept-scan-report"} <= set(lab.artifacts_of(run_id))
    assert "4 proteins score above the threshold" in (folder / "report.html").read_text()
