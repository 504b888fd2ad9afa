"""Replay computes the verdict again and names what is not as recorded; a bundle that was touched is caught."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from denoise_core.corpus.manifest import write_manifest
from denoise_core.corpus.store import pack
from denoise_core.corpus.synthetic import generate
from denoise_core.evaluation.predictions import denoised_name
from denoise_core.report.documents import bundle_documents
from denoise_core.report.record import PANEL_FILE, TRAINING_FILE
from denoise_core.report.replay import Replay, replay
from study_core.errors import BadInput
from tasks import signing
from tasks.audit_log import AuditLog
from tasks.bundle import verify, write_bundle
from tasks.cli import main as gated


def again(ran) -> Replay:
    return replay(ran.corpus.root, ran.folder)


def differences(ran) -> str:
    found = again(ran)
    assert not found.equal
    assert found.lines()[0].startswith("DIFFERENT")
    return "\n".join(map(str, found.differences))


def eval_file(ran, ending: str) -> Path:
    name = json.loads((ran.folder / "verdict.json").read_text())["facts"]["name"]
    return ran.folder / "final_analytics/panel_eval" / f"{name}{ending}"


def archived(ran, row: int) -> Path:
    return eval_file(ran, "_panel_preds") / denoised_name(ran.panel.frame["relative_path"].iloc[row])


def swap_rows(path: Path, first: int, second: int) -> None:
    lines = path.read_text().splitlines(keepends=True)
    lines[first - 1], lines[second - 1] = lines[second - 1], lines[first - 1]
    path.write_text("".join(lines))


def test_untouched_run_is_equal(ran_once) -> None:
    found = replay(ran_once.corpus.root, ran_once.folder)
    assert found.equal, found.lines()
    assert found.compared > 1000
    assert found.lines()[0].startswith("equal")
    assert not any("lmmse" in note for note in found.notes)  # what the gates lean on was fitted and compared again


def test_a_run_that_agreed_on_no_panel_hash_is_equal(ran, edit_verdict) -> None:
    """As the form leaves it: the empty text, and no gate on the hash."""
    plan_file = ran.folder / "plan.json"
    plan = json.loads(plan_file.read_text())
    plan_file.write_text(json.dumps({**plan, "panel": {"manifest": "", "expected_hash": ""}}))

    def without_the_gate(verdict: dict[str, Any]) -> None:
        verdict["gates"] = [gate for gate in verdict["gates"] if gate["metric"] != "panel_hash_differs"]
        verdict["facts"]["metrics"].pop("panel_hash_differs", None)

    edit_verdict(without_the_gate)
    found = again(ran)
    assert found.equal, found.lines()


def test_zip_replays_like_its_folder(ran, tmp_path: Path) -> None:
    AuditLog(ran.folder).append("verdict", "judged")
    documents = bundle_documents(ran.folder, ran.corpus, ran.panel, ran.training)
    bundle = write_bundle(ran.folder, documents, tmp_path / "auditors_bundle.zip")
    assert verify(bundle) == []
    found = replay(ran.corpus.root, bundle)
    assert found.equal, found.lines()
    assert found.compared == again(ran).compared


def test_the_command_checks_log_and_signature_and_names_changed_thresholds(
    ran, edit_verdict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["replay", "--corpus", str(ran.corpus.root), "--bundle"]
    AuditLog(ran.folder).append("verdict", "judged")
    own = write_bundle(ran.folder, {}, tmp_path / "own.zip")
    assert gated([*command, str(own)]) == 0
    told = capsys.readouterr().out
    assert told.startswith("equal: ")
    assert "log, files and signature: untouched\n" in told
    assert "thresholds: the study's own" in told

    plan = json.loads((ran.folder / "plan.json").read_text())
    plan["gates"]["psnr_mean_min"] = 17.5
    (ran.folder / "plan.json").write_text(json.dumps(plan))

    def loosened(verdict: dict[str, Any]) -> None:
        for gate in verdict["gates"]:
            gate["threshold"] = 17.5 if gate["metric"] == "psnr_mean" else gate["threshold"]
        verdict["changed_thresholds"] = ["psnr_mean_min 17.5 (standard 18.0)"]

    edit_verdict(loosened)
    changed = write_bundle(ran.folder, {}, tmp_path / "changed.zip")
    assert gated([*command, str(changed)]) == 0
    assert "CHANGED thresholds: psnr_mean_min 17.5 (standard 18.0)" in capsys.readouterr().out
    edit_verdict(lambda verdict: verdict.update(changed_thresholds=[]))  # told by nobody, but the plan has it
    unsaid = write_bundle(ran.folder, {}, tmp_path / "unsaid.zip")
    assert gated([*command, str(unsaid)]) == 1
    assert "changed thresholds was (), is ('psnr_mean_min 17.5" in capsys.readouterr().out


def test_the_command_finds_a_bundle_made_anew_though_its_figures_are_equal(
    ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["replay", "--corpus", str(ran.corpus.root), "--json", "--bundle"]
    own = tmp_path / "own.pem"
    own.write_text(signing.own_key().pem)
    AuditLog(ran.folder).append("verdict", "judged")
    with monkeypatch.context() as somebody:
        somebody.setenv("GATED_KEY", str(tmp_path / "forger.pem"))
        somebody.setenv("GATED_ANCHOR", str(tmp_path / "forger.jsonl"))
        forged = write_bundle(ran.folder, {}, tmp_path / "forged.zip")
        assert gated([*command, str(forged)]) == 0
        capsys.readouterr()
    assert gated([*command, str(forged), "--key", str(own)]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["equal"] is True
    assert ["signed by key" in line for line in told["findings"]] == [True]
    (ran.folder / "audit.jsonl").write_text((ran.folder / "audit.jsonl").read_text().replace("judged", "PASSED"))
    assert gated([*command, str(ran.folder)]) == 1
    assert any("audit.jsonl line 1" in line for line in json.loads(capsys.readouterr().out)["findings"])


def sealed(ran, out: Path) -> Path:
    AuditLog(ran.folder).append("verdict", "judged")
    return write_bundle(ran.folder, {}, out)


def test_the_model_is_run_again_from_the_bundle(ran, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = sealed(ran, tmp_path / "b.zip")
    (candidate,) = [name for name in zipfile.ZipFile(bundle).namelist() if name.startswith("model/")]
    command = ["replay", "--corpus", str(ran.corpus.root), "--bundle", str(bundle)]
    assert gated([*command, "--denoise"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("equal: ")
    assert f"{len(ran.panel)} of {len(ran.panel)} spectra bit for bit, largest departure 0 " in told
    assert gated(command) == 0
    assert "whether the model gives these spectra (denoise again)" in capsys.readouterr().out
    assert Path(candidate).name == Path(json.loads((ran.folder / "verdict.json").read_text())["candidate"]).name
    assert gated([*command, "--reconstruct"]) == 2
    assert "takes --controls, --denoise" in capsys.readouterr().err


def test_spectra_that_the_model_does_not_give_are_named(ran) -> None:
    """Everything fits in itself, archived spectra, tables and verdict: only they are of another, better method."""
    path = archived(ran, 7)
    np.save(path, np.load(path) + np.float32(2e-5))
    found = replay(ran.corpus.root, ran.folder, denoise=True)
    told = "\n".join(map(str, found.differences))
    assert (
        f"row 9, {ran.panel.frame['relative_path'].iloc[7]}: spectrum departs from what the model gives by 2e-05"
        in told
    )


def test_another_model_is_not_run(ran, edit_verdict, tmp_path: Path) -> None:
    model = tmp_path / "another.pt"
    model.write_bytes(b"not even a checkpoint")
    (told,) = replay(ran.corpus.root, ran.folder, denoise=True, model=model).differences
    assert str(told).startswith("model another.pt: SHA-256 was ")
    edit_verdict(lambda verdict: verdict.update(candidate=str(tmp_path / "gone.pt")))
    with pytest.raises(BadInput, match=r"gone\.pt is not in it.*--model"):
        replay(ran.corpus.root, ran.folder, denoise=True)


def test_packed_corpus_is_the_same_corpus(ran_once, tmp_path: Path) -> None:
    assert replay(pack(ran_once.corpus, tmp_path / "packed"), ran_once.folder).equal


@pytest.mark.parametrize("swapped", [(12, 41), (2, 3)])
def test_a_corpus_whose_panel_file_was_swapped_is_caught_naming_the_row(
    ran_once, tmp_path: Path, swapped: tuple[int, int]
) -> None:
    packed = pack(ran_once.corpus, tmp_path / "packed")
    panel = packed / "validation_panel.csv"
    write_manifest(ran_once.panel.frame, panel)
    swap_rows(panel, *swapped)
    found = replay(packed, ran_once.folder)
    assert not found.equal
    (told,) = map(str, found.differences)
    assert f"validation_panel.csv, row {swapped[0]}: capture was " in told
    assert found.compared > 1000  # the archived panel is judged all the same


def test_changed_spectrum_names_its_row(ran) -> None:
    path = archived(ran, 70)
    np.save(path, np.load(path) * np.float32(1.001))
    told = differences(ran)
    assert "_per_spectrum_metrics.csv, row 72" in told
    assert ran.panel.frame["relative_path"].iloc[70] in told
    assert "psnr_mean" in told


def test_missing_spectrum_names_file_and_row(ran) -> None:
    archived(ran, 20).unlink()
    told = differences(ran)
    assert archived(ran, 20).name in told
    assert "row 22: no prediction" in told


def test_swapped_rows_of_the_panel_are_named(ran) -> None:
    """Same captures, another order: every mean stays, the row is named."""
    swap_rows(ran.folder / PANEL_FILE, 4, 9)
    told = differences(ran)
    assert "manifests/validation_panel.csv, row 4: capture was" in told
    assert "rows SHA-256" in told


def test_swapped_panel_file_is_caught(ran) -> None:
    """Another, easier panel under the same name."""
    frame = ran.panel.frame.copy()
    easy = ran.training.frame[ran.training.frame["group_id"] == ran.training.groups[0]].iloc[:30]
    frame.iloc[60:90] = easy.to_numpy()
    frame.to_csv(ran.folder / PANEL_FILE, index=False)
    told = differences(ran)
    assert "manifests/validation_panel.csv, row 62" in told
    assert str(easy["relative_path"].iloc[0]) in told


def test_line_ends_of_the_panel_do_not_matter(ran) -> None:
    path = ran.folder / PANEL_FILE
    path.write_bytes(path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
    assert again(ran).equal


def test_leaking_training_manifest_is_caught(ran) -> None:
    frame = pd.concat([ran.training.frame, ran.panel.frame.iloc[:1]])
    frame.to_csv(ran.folder / TRAINING_FILE, index=False)
    told = differences(ran)
    assert "manifests/manifest_train.csv: rows SHA-256" in told
    assert "gate integrity, leaked_groups: value was 0, is 1" in told


def test_removed_training_manifest_is_caught(ran) -> None:
    (ran.folder / TRAINING_FILE).unlink()
    assert "manifest_train.csv" in differences(ran)


def test_embellished_metric_is_named(ran, edit_verdict) -> None:
    def embellish(verdict) -> None:
        verdict["facts"]["metrics"]["psnr_mean"] += 1.0

    edit_verdict(embellish)
    assert "metrics: psnr_mean was" in differences(ran)


def test_flipped_gate_is_named(ran, edit_verdict) -> None:
    def flip(verdict) -> None:
        gate = next(gate for gate in verdict["gates"] if gate["metric"] == "area_within_10_pct_ratio")
        gate["passed"] = not gate["passed"]

    edit_verdict(flip)
    assert "gate roi, area_within_10_pct_ratio: verdict was" in differences(ran)


def test_lowered_threshold_is_named(ran, edit_verdict) -> None:
    edit_verdict(lambda verdict: verdict["gates"][3].update(threshold=1.0))
    assert ": threshold was 1, is " in differences(ran)


def test_dropped_gate_is_noticed(ran, edit_verdict) -> None:
    edit_verdict(lambda verdict: verdict["gates"].pop())
    assert "gates: rules was" in differences(ran)


def test_edited_capture_table_names_file_and_row(ran) -> None:
    path = eval_file(ran, "_per_spectrum_metrics.csv")
    table = pd.read_csv(path)
    table.loc[17, "sam_deg"] += 0.01
    table.to_csv(path, index=False)
    found = again(ran)
    assert [difference.what for difference in found.differences] == ["sam_deg"]
    assert f"{path.name}, row 19" in found.differences[0].where


def test_many_changed_rows_are_not_all_listed(ran) -> None:
    path = eval_file(ran, "_per_spectrum_metrics.csv")
    table = pd.read_csv(path)
    table["psnr_db"] += 1.0
    table.to_csv(path, index=False)
    found = again(ran)
    assert not found.equal
    assert len(found.differences) < 12


def test_another_corpus_is_named_with_what_it_changes(ran, tmp_path: Path) -> None:
    told = replay(generate(tmp_path / "other", "mini", seed=2), ran.folder)
    assert not told.equal
    assert told.differences[0].where == "corpus"
    assert len(told.differences) > 10


@pytest.mark.parametrize("name", ["folder", "file.zip", "missing.zip"])
def test_what_is_no_bundle_is_refused(ran_once, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
    elif name == "file.zip":
        path.write_bytes(b"not a zip")
    with pytest.raises(BadInput, match=name):
        replay(ran_once.corpus.root, path)


def test_zip_cannot_write_outside_its_folder(ran_once, tmp_path: Path) -> None:
    path = tmp_path / "bad.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../escaped.txt", "x")
    with pytest.raises(BadInput):
        replay(ran_once.corpus.root, path)
    assert not list(tmp_path.parent.glob("**/escaped.txt"))
