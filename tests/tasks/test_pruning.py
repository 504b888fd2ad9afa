"""`gated prune --runs`: what may go goes and is on record; what something kept refers to stays."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from small_house import House, Plan, judged

from study_core.files import copy_aside
from tasks import cli, verification
from tasks.audit_log import LOG
from tasks.run import open_run


def pruned(capsys: pytest.CaptureFixture[str], *options: str, days: float = -1) -> dict[str, Any]:
    assert cli.main(["prune", "--runs", "--days", str(days), "--json", *options]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    found["kept"] = {Path(one["folder"]).name: one["kept"] for one in found["runs"]}
    return found


def test_a_dry_run_touches_nothing_and_a_pruned_run_is_on_record(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    found = pruned(capsys)
    assert found["kept"] == {house.refused.folder.name: "", house.shipped.folder.name: "named by the registry or by a "
                             "run that is kept"}  # fmt: skip
    assert (found["removed"], house.refused.folder.exists()) == (False, True)
    assert found["bytes"] == next(one["bytes"] for one in found["runs"] if not one["kept"]) > 4000
    assert pruned(capsys, days=30)["bytes"] == 0, "both ended just now"

    assert cli.main(["prune", "--runs", "--days", "-1"]) == 0
    told = capsys.readouterr().out
    assert f"\tCompleted\t{house.refused.folder}" in told
    assert "kept: 1, named by the registry" in told
    assert "nothing is removed yet" in told

    assert pruned(capsys, "--yes")["removed"]
    assert not house.refused.folder.exists()
    assert house.shipped.folder.exists()
    assert house.findings() == []
    assert cli.main(["prune", "--runs", "--days", "-1", "--yes"]) == 0
    assert "removed 0 runs" in capsys.readouterr().out
    (line,) = [json.loads(one) for one in (house.root / "pruned" / LOG).read_text().splitlines()]
    assert line["data"]["run"]["run"] == house.refused.folder.name

    (house.root / "pruned" / LOG).unlink()
    assert any("pruned" in finding and "gone" in finding for finding in house.findings()), "nor does the record go"


def test_what_a_kept_run_names_is_kept(house: House, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = judged(tmp_path, "source", 30.0)
    (house.shipped.folder / "inputs.json").write_text(
        json.dumps({"source": str(source.folder / "checkpoints" / "x.pt")})
    )
    kept = pruned(capsys, "--yes")["kept"]
    assert kept[source.folder.name].startswith("named by")
    assert source.folder.exists()
    assert not house.refused.folder.exists()


def test_a_copy_of_a_house_tells_what_was_pruned_there(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also to somebody who has no heads: the run after it names it, and its record says that it went."""
    after = judged(tmp_path, "after", 30.0)
    (house.shipped.folder / "inputs.json").write_text(json.dumps({"source": str(after.folder)}))  # so it is kept
    assert pruned(capsys, "--yes")["kept"][house.refused.folder.name] == ""
    assert after.folder.exists()
    copy = shutil.copytree(house.root, tmp_path / "copy")
    monkeypatch.setenv("GATED_ANCHOR", str(tmp_path / "nothing" / "anchors.jsonl"))
    checked = verification.house([copy], verification.Reader.here())
    assert [line for one in checked.values() for line in one.findings] == []


def test_an_open_run_and_a_copys_own_log_stay(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    running = open_run("study", Plan(label="running"), label="running")
    copy_aside(house.refused.folder, house.root, "run_failed_20261127")
    log = house.root / "run_failed_20261127" / LOG
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:-1]))  # it was made before the end
    found = pruned(capsys)
    assert found["kept"][running.folder.name] == "open: it has no end"
    assert found["kept"]["run_failed_20261127"] == ""
    assert {"copy", "open", "Completed"} <= {one["state"] for one in found["runs"]}
    pruned(capsys, "--yes")
    assert not (house.root / "run_failed_20261127").exists()
    assert [line for line in house.findings() if "running" not in line] == []
    assert running.folder.exists()


def test_a_run_whose_log_is_damaged_stays(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    """Lines that are JSON and no records: nothing of it can be put on record, so it does not go."""
    (house.refused.folder / LOG).write_text('{"kind": "opened", "data": 3}\n')
    assert pruned(capsys, "--yes")["kept"][house.refused.folder.name]
    assert house.refused.folder.exists()
