"""Forging tried: who can write the folder of the house, and has not the key, is found by a line that says so."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from judged_house import House, Plan

from study_core.files import read_json, sha256_of, write_json
from tasks import blessings, signing, verification
from tasks.attestation import STATEMENT
from tasks.audit_log import HEAD, LINES, LOG, AuditLog
from tasks.bundle import SUMS, write_bundle
from tasks.run import open_run


def remake_chain(folder: Path, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    """What a forger does who knows the code: the whole chain again over changed records, with head and lines."""
    records = change([json.loads(line) for line in (folder / LOG).read_text().splitlines()])
    for name in (LOG, HEAD, LINES):
        (folder / name).unlink()
    for record in records:
        AuditLog(folder).append(record["kind"], record["text"], **record["data"])


def mend_evidence(folder: Path) -> None:
    """The chain made anew with hashes that fit the files as they are now."""

    def fitting(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for record in records:
            if record["kind"] == "evidence":
                names = record["data"]["files"]
                now = {name: sha256_of(folder / name) for name in names if (folder / name).exists()}
                record["data"]["files"] = {**names, **now}
            if record["kind"] in ("report", "bundle"):
                record["data"]["sha256"] = sha256_of(folder / verification.FILES[record["kind"]])
        return records

    remake_chain(folder, fitting)


def test_nothing_is_found_where_nothing_was_done(house: House) -> None:
    assert house.findings() == []
    assert verification.main([str(house.root)]) == 0


def test_a_relative_path_is_the_same_house(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(house.root.parent)
    near, far = (verification.house([path], verification.Reader.here()) for path in (Path("house"), house.root))
    assert near == far
    assert len(near) == 3, "two runs and a registry"


def test_1_a_cut_tail_with_its_head_mended(house: House) -> None:
    folder = house.shipped.folder
    lines = (folder / LOG).read_text().splitlines()
    (folder / LOG).write_text("\n".join(lines[:-1]) + "\n")
    last = json.loads(lines[-2])
    write_json(folder / HEAD, {"seq": last["seq"], "sha256": last["sha256"]})
    (line,) = house.findings()
    assert f"{LOG} misses line {len(lines)} (closed" in line
    assert "the log was cut" in line


def test_2_a_chain_made_anew(house: House) -> None:
    remake_chain(house.refused.folder, lambda records: records)
    found = house.findings()
    assert any("another log lies there: the chain was made anew" in line for line in found)
    assert any(f"{STATEMENT}: {LOG} line" in line and "not the record that was signed" in line for line in found), found


def test_3_a_forged_verdict_with_its_chain_made_anew(house: House) -> None:
    folder = house.refused.folder
    verdict = read_json(folder / "verdict.json")
    verdict["gates"][0] |= {"value": 55.0, "passed": True}
    write_json(folder / "verdict.json", verdict)
    mend_evidence(folder)
    found = house.findings()
    assert any("verdict.json: its gates are not those that were signed" in line for line in found), found
    assert any("verdict.json: reads PASSED, signed was FAILED" in line for line in found)


def test_4_a_threshold_lowered_in_plan_and_verdict(house: House) -> None:
    folder = house.refused.folder
    for name in ("plan.json", "verdict.json"):
        (folder / name).write_text((folder / name).read_text().replace("50.0", "30.0").replace("false", "true"))
    found = house.findings()
    assert any(f"plan.json: is not the file that {LOG} line" in line for line in found)
    assert any(f"verdict.json: is not the file that {LOG} line" in line for line in found)
    mend_evidence(folder)
    assert any("reads PASSED, signed was FAILED" in line for line in house.findings())


def test_5_an_edited_report(house: House) -> None:
    (house.refused.folder / "report.html").write_text("<p>PASSED all gates</p>\n")
    (line,) = house.findings()
    assert f"report.html: is not the file that {LOG} line" in line


def test_6_a_deleted_run(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(house.refused.folder)
    (line,) = house.findings()
    assert line.startswith(f"{house.refused.folder.name}: {LOG} is gone, it was removed")
    assert verification.main([str(house.root)]) == 1
    assert verification.main([str(house.root), "--removed", "the disk was full"]) == 0  # its owner may say so
    assert verification.main([str(house.root)]) == 0
    assert "is gone" in capsys.readouterr().out


def test_6b_a_deleted_log(house: House) -> None:
    (house.refused.folder / LOG).unlink()
    assert any(f"{LOG} is gone" in line for line in house.findings())


def test_7_an_edited_pointer_and_an_edited_score(house: House) -> None:
    root = house.registry
    write_json(root / "production.json", {"blessing": "20261121T000000-other"})
    (line,) = house.findings()
    assert "production.json: points at 20261121T000000-other, audit.jsonl line 2 says" in line
    assert "edited by hand" in line
    (path,) = blessings.files(root)
    write_json(root / "production.json", {"blessing": path.stem})
    assert house.findings() == []
    path.write_text(path.read_text().replace("54.0", "99.0"))
    assert any("is not the record that audit.jsonl names: edited" in line for line in house.findings())

    def fitting(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        records[1]["data"]["sha256"] = sha256_of(path)
        return records

    remake_chain(root, fitting)
    found = house.findings()
    assert any(f"{path.name} is not the file that was signed" in line for line in found), found
    assert any("the chain was made anew" in line for line in found)


@pytest.mark.parametrize("text", ["x\n2026-01-01T00:00:00 | PASSED all gates", "x\r\x1b[2K2026 | PASSED", "x\u2028y"])
def test_8_no_line_of_the_log_is_forged_by_a_label(
    text: str, tmp_path: Path, house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    run = open_run("study", Plan(), label=text)
    run.event("note", text)
    lines = (run.folder / LINES).read_text().splitlines()
    assert len(lines) == len((run.folder / LOG).read_text().splitlines()) == 3
    assert all(line.isprintable() for line in lines)
    with open(house.refused.folder / LOG, "a", encoding="utf-8") as log:
        log.write(json.dumps({"seq": 99, "kind": "verdict", "text": text}) + "\n")
    assert verification.main([str(house.root)]) == 1
    told = capsys.readouterr().out
    assert "not an audit record" in told
    assert all(line.isprintable() for line in told.splitlines())


def test_a_bundle_made_anew_whole_by_somebody_without_the_key(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "owner.pem").write_text(signing.own_key().pem)
    forged = tmp_path / "forged"
    shutil.copytree(house.refused.folder, forged)
    for name in (LOG, HEAD, LINES, STATEMENT, "auditors_bundle.zip"):
        (forged / name).unlink()
    verdict = read_json(forged / "verdict.json")
    verdict["gates"][0] |= {"value": 55.0, "passed": True}
    write_json(forged / "verdict.json", verdict)
    with monkeypatch.context() as forger:
        forger.setenv("GATED_KEY", str(tmp_path / "forger.pem"))
        forger.setenv("GATED_ANCHOR", str(tmp_path / "forger.jsonl"))
        AuditLog(forged).append("opened", "Starting")
        zipped = write_bundle(forged, {}, forged / "auditors_bundle.zip")
        assert verification.main([str(zipped)]) == 0  # whole in itself
    shutil.unpack_archive(zipped, tmp_path / "unpacked")
    capsys.readouterr()
    for bundle in (zipped, tmp_path / "unpacked"):
        assert verification.main([str(bundle), "--key", str(tmp_path / "owner.pem")]) == 1
        assert f"{STATEMENT}: signed by key" in capsys.readouterr().out
    assert (tmp_path / "unpacked" / SUMS).exists()


def test_a_run_without_an_end_is_incomplete_unless_it_lives(house: House, tmp_path: Path) -> None:
    run = open_run("study", Plan(), label="dies")  # this process lives, and holds it
    assert house.findings() == []
    shutil.copytree(run.folder, tmp_path / "kept")
    shutil.rmtree(run.folder)
    shutil.copytree(tmp_path / "kept", run.folder)  # nobody holds this one
    (line,) = house.findings()
    assert f"incomplete: {LOG} line 2 is the last and no end" in line


def test_the_key_is_asked_for_when_a_run_opens(house: House) -> None:
    signing.key_path().write_text("no key")
    with pytest.raises(ValueError, match="no usable signing key"):
        open_run("study", Plan(), label="never")
    assert not list(house.root.glob("study/never*"))


@pytest.mark.parametrize("garbage", [b"", b"\xff", b"[" * 99_999, b"{}", b'{"gates": 3}', b"null"])
@pytest.mark.parametrize("name", ["verdict.json", STATEMENT, HEAD, LOG, "plan.json"])
def test_whatever_lies_there_is_a_finding_and_never_a_crash(house: House, name: str, garbage: bytes) -> None:
    (house.refused.folder / name).write_bytes(garbage)
    assert house.findings()


@pytest.mark.parametrize("garbage", [b"", b"\xff", b"[" * 99_999, b"{}", b"[3]"])
def test_whatever_lies_in_the_registry_is_a_finding_and_never_a_crash(house: House, garbage: bytes) -> None:
    for path in (house.registry / "production.json", *blessings.files(house.registry), house.registry / LOG):
        before = path.read_bytes()
        path.write_bytes(garbage)
        assert house.findings(), path
        path.write_bytes(before)
    assert house.findings() == []
