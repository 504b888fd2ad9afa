"""Runs as an MLflow store in files, read back by MLflow's own client."""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from study_core.files import sha256_of, write_json
from study_core.gates import GateRecord
from study_core.plan import Frozen
from study_core.verdict import Verdict
from tasks import cli
from tasks.bundle import write_bundle
from tasks.run import Run, open_run


class Gates(Frozen):
    psnr_min: float = 50.0


class Plan(Frozen):
    label: str = ""
    gates: Gates = Gates()
    note: str = "x" * 9000


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GATED_ARTIFACTS", str(tmp_path / "house"))
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    return tmp_path / "house"


def judged(tmp_path: Path, name: str, psnr: float | None, state: str = "") -> Run:
    """A run from its opening to its end."""
    run = open_run("study", Plan(label=name), tenant="denoise", label=name)
    candidate = tmp_path / f"{name}.pt"
    candidate.write_text(name)
    rows = [
        ("aggregate", "psnr mean", {}),
        ("tail", "psnr", {"group": "T1/ä [1]"}),
        ("tail", "psnr", {"group": "T1/ö [1]"}),
        ("..", "../x", {}),
    ]
    gates = tuple(
        GateRecord(gate=gate, metric=metric, comparison=">=", threshold=50.0, value=psnr, slice=where,
                   passed=psnr is not None and psnr >= 50)
        for gate, metric, where in rows
    )  # fmt: skip
    verdict = Verdict(candidate=str(candidate), candidate_sha256=sha256_of(candidate), panel_sha256="a" * 64,
                      data="/data/mini", data_sha256="b" * 64, score=psnr, gates=gates)  # fmt: skip
    write_json(run.folder / "verdict.json", verdict.model_dump(mode="json"))
    (run.folder / "report.html").write_text(f"<p>{verdict.sentence()}</p>\n")
    bundle = write_bundle(run.folder, {}, run.folder / "auditors_bundle.zip")
    run.event("bundle", "Bundle", sha256=sha256_of(bundle))
    run.event("closed", verdict.sentence(), **({"state": state} if state else {}))
    return run


def stored(store: Path) -> dict[str, Any]:
    """The store's runs by their name, as MLflow's client reads them."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=store.as_uri())
    experiment = client.get_experiment_by_name("denoise")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    assert len({run.info.run_name for run in found}) == len(found), "a run stands twice"
    return {run.info.run_name: run for run in found}


def test_mlflows_client_finds_what_the_folders_say(
    house: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = judged(tmp_path, "good", 54.25), judged(tmp_path, "bad", None, "GateFailed")
    open_run("study", Plan(label="goes on"), tenant="denoise", label="goes on")
    store = tmp_path / "a store"
    assert cli.main(["export", "mlflow", "--store", str(store)]) == 0
    assert f"{good.folder.name}: MLflow run " in capsys.readouterr().out
    found = stored(store)
    one, other = found[good.folder.name], found[bad.folder.name]
    assert one.data.metrics == {
        "score": 54.25, "aggregate/psnr mean": 54.25, "tail/psnr _group T1/_ _1": 54.25,
        "tail/psnr _group T1/_ _1 2": 54.25, "x": 54.25,
    }  # fmt: skip
    assert other.data.metrics == {}, "what was not measured is no figure"
    assert one.data.params["gates.psnr_min"] == "50.0"
    assert one.data.params["note"].endswith("(9000 characters: see plan.json)")
    assert one.data.tags["gated.sentence"] == "PASSED all 3 gates"
    assert (one.data.tags["gated.data"], one.data.tags["gated.data_sha256"]) == ("/data/mini", "b" * 64)
    assert one.data.tags["gated.checked"] == "untouched"
    assert (one.info.status, other.info.status) == ("FINISHED", "FINISHED")
    assert other.data.tags["gated.state"] == "GateFailed"
    assert 0 < one.info.start_time <= one.info.end_time
    going = next(run for name, run in found.items() if name.startswith("goes-on"))
    assert going.info.status == "RUNNING"
    artifacts = Path(one.info.artifact_uri.removeprefix("file://").replace("%20", " "))
    assert sha256_of(artifacts / "auditors_bundle.zip") == sha256_of(good.folder / "auditors_bundle.zip")
    assert (artifacts / "report.html").read_text().startswith("<p>PASSED")


def test_exported_again_a_run_is_replaced_and_a_touched_one_says_so(
    house: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, store = judged(tmp_path, "good", 54.25), tmp_path / "store"
    command = ["export", "mlflow", "good", "--store", str(store), "--json"]
    assert cli.main(command) == 0
    first = json.loads(capsys.readouterr().out)[run.folder.name]
    (run.folder / "report.html").write_text("<p>PASSED, and how</p>\n")
    assert cli.main(command) == 1
    second = json.loads(capsys.readouterr().out)[run.folder.name]
    assert second["run"] != first["run"]
    (only,) = stored(store).values()
    assert only.info.run_id == second["run"]
    assert "report.html: is not the file" in only.data.tags["gated.checked"]


def test_without_the_extra_it_says_how_to_get_it(
    house: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    judged(tmp_path, "good", 54.25)
    for name in [name for name in sys.modules if name.partition(".")[0] == "mlflow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [tmp_path.as_posix()])  # as where it is not installed
    importlib.invalidate_caches()
    assert cli.main(["export", "mlflow", "--store", str(tmp_path / "store")]) == 2
    told = capsys.readouterr().err
    assert "MLflow is not installed" in told
    assert "gated-training[mlflow]" in told
    assert not os.path.exists(tmp_path / "store")


def test_nothing_to_export(house: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["export", "mlflow", "--store", str(tmp_path / "store")]) == 2
    assert "make run" in capsys.readouterr().err
    assert cli.main(["export", "mlflow", "nobody", "--store", str(tmp_path / "store")]) == 2
    assert "nobody: no run" in capsys.readouterr().err
