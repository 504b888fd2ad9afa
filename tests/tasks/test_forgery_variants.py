"""Forgeries that the first eight do not name: links, pasted statements, swapped keys, odd archives, clocks."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from small_house import House, judged

from study_core.bundles import unpacked
from study_core.errors import BadInput
from study_core.files import read_json, write_json
from tasks import audit_log, blessings, signing, verification
from tasks.attestation import SIGNER, STATEMENT
from tasks.audit_log import LOG
from tasks.bundle import SUMS, verify
from tasks.checking import Reader


def test_a_statement_of_another_run_pasted(house: House) -> None:
    shutil.copy(house.shipped.folder / STATEMENT, house.refused.folder / STATEMENT)
    found = house.findings()
    assert any("is not the record that was signed: the log was cut or made anew" in line for line in found), found
    assert any("verdict.json: reads FAILED, signed was PASSED" in line for line in found)


def test_a_verdict_and_its_statement_of_another_run_pasted(house: House) -> None:
    for name in (STATEMENT, "verdict.json"):
        shutil.copy(house.shipped.folder / name, house.refused.folder / name)
    found = house.findings()
    assert any(f"verdict.json: is not the file that {LOG} line" in line for line in found), found
    assert any("is not the record that was signed" in line for line in found)


def made_a_link(path: Path, elsewhere: Path) -> None:
    """What lay at `path` lies elsewhere now, and a link says so."""
    shutil.move(path, elsewhere / path.name)
    path.symlink_to(elsewhere / path.name)


@pytest.mark.parametrize("name", ["report.html", "verdict.json", "predictions.csv"])
def test_a_file_replaced_by_a_link(house: House, tmp_path: Path, name: str) -> None:
    """Equal today, and whatever its owner likes tomorrow."""
    made_a_link(house.refused.folder / name, tmp_path)
    (line,) = house.findings()
    assert f"{name}: is a link" in line


def test_a_log_replaced_by_a_link(house: House, tmp_path: Path) -> None:
    made_a_link(house.refused.folder / LOG, tmp_path)
    (line,) = house.findings()
    assert f"{LOG}: is a link" in line


def test_a_pointer_replaced_by_a_link(house: House, tmp_path: Path) -> None:
    made_a_link(house.registry / "production.json", tmp_path)
    (line,) = house.findings()
    assert "production.json: is a link" in line


def test_predictions_replaced_after_the_verdict(house: House) -> None:
    (house.shipped.folder / "predictions.csv").write_text("capture,psnr\n1,60\n")
    (line,) = house.findings()
    assert f"predictions.csv: is not the file that {LOG} line" in line


def test_a_key_swapped_in_registry_and_bundle(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file signed again by another key, wherever one stands."""
    own = tmp_path / "owner.pem"
    own.write_text(signing.own_key().pem)
    with monkeypatch.context() as forger:
        forger.setenv("GATED_KEY", str(tmp_path / "forger.pem"))
        for path in [*house.root.rglob("*.dsse.json")]:
            statement = signing.opened(json.loads(path.read_text()), ()).statement
            write_json(path, signing.sign(statement))
        other = signing.own_key()
        (blessing,) = blessings.files(house.registry)
        found = read_json(blessing)
        write_json(blessing, {**found, "public_key": other.line})
    found = house.findings()
    assert sum(f"signed by key {other.short}, not by one that is believed here" in line for line in found) == 3, found
    bundle = house.shipped.folder / "auditors_bundle.zip"
    with zipfile.ZipFile(bundle) as archive:
        archive.extractall(tmp_path / "whole")
    folder = tmp_path / "whole"
    (folder / SIGNER).write_text(other.pem)
    assert any(SIGNER in line for line in verify(folder, signing.believed([own])))


@pytest.mark.parametrize("name", ["../../outside.txt", "/tmp/absolute.txt", "a/../../outside.txt", "C:\\windows.txt"])
def test_a_member_with_a_path_of_its_own(house: House, tmp_path: Path, name: str) -> None:
    bundle = house.shipped.folder / "auditors_bundle.zip"
    with zipfile.ZipFile(bundle, "a") as archive:
        archive.writestr(name, "x")
    assert any("is no file that" in line or "not part of the bundle" in line for line in verify(bundle))
    with unpacked(bundle) as folder:
        assert all(path.resolve().is_relative_to(folder.resolve()) for path in folder.rglob("*"))
    assert not Path("/tmp/absolute.txt").exists()


def test_a_member_that_is_a_link_unpacks_to_no_link(house: House, tmp_path: Path) -> None:
    bundle = tmp_path / "b.zip"
    link = zipfile.ZipInfo("verdict.json")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(house.shipped.folder / "auditors_bundle.zip") as old, zipfile.ZipFile(bundle, "w") as new:
        for member in old.infolist():
            new.writestr(link if member.filename == "verdict.json" else member, old.read(member))
    with zipfile.ZipFile(bundle, "a") as archive:
        other = zipfile.ZipInfo("more.json")
        other.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(other, "/etc/passwd")
    assert any("more.json" in line for line in verify(bundle))
    with unpacked(bundle) as folder:
        assert not any(path.is_symlink() for path in folder.rglob("*"))


def test_a_link_in_an_unpacked_bundle_is_found(house: House, tmp_path: Path) -> None:
    folder = tmp_path / "whole"
    with zipfile.ZipFile(house.shipped.folder / "auditors_bundle.zip") as archive:
        archive.extractall(folder)
    assert verify(folder) == []
    shutil.move(folder / "report.html", tmp_path / "report.html")
    (folder / "report.html").symlink_to(tmp_path / "report.html")
    assert any("report.html: is a link" in line for line in verify(folder))
    (folder / "loop").symlink_to(folder)
    assert any("loop: is a link" in line for line in verify(folder))


def test_a_bundle_in_the_bundle_is_one_file_that_nobody_recorded(house: House) -> None:
    bundle = house.shipped.folder / "auditors_bundle.zip"
    inner = io.BytesIO(bundle.read_bytes())
    with zipfile.ZipFile(bundle, "a") as archive:
        archive.writestr("auditors_bundle.zip", inner.getvalue())
    assert "auditors_bundle.zip: not part of the bundle" in verify(bundle)


def test_a_named_pipe_blocks_nobody(house: House, tmp_path: Path) -> None:
    """A folder from elsewhere may hold anything; a pipe without a writer would be waited for without end."""
    folder = tmp_path / "whole"
    with zipfile.ZipFile(house.shipped.folder / "auditors_bundle.zip") as archive:
        archive.extractall(folder)
    (folder / "report.html").unlink()
    os.mkfifo(folder / "report.html")
    assert "report.html: missing" in verify(folder)
    (house.refused.folder / "report.html").unlink()
    os.mkfifo(house.refused.folder / "report.html")
    (line,) = house.findings()
    assert "report.html: missing or unreadable" in line


def test_sums_that_name_no_file_of_the_bundle(house: House, tmp_path: Path) -> None:
    folder = tmp_path / "whole"
    with zipfile.ZipFile(house.shipped.folder / "auditors_bundle.zip") as archive:
        archive.extractall(folder)
    with open(folder / SUMS, "a", encoding="utf-8") as sums:
        sums.write(f"{'0' * 64}  ../../../etc/passwd\n")
    assert "../../../etc/passwd: missing" in verify(folder)


def test_a_bundle_that_claims_a_bad_path_is_still_bad_input(tmp_path: Path) -> None:
    bundle = tmp_path / "b.zip"
    with zipfile.ZipFile(bundle, "w") as archive:
        archive.writestr("x", "y" * 10)
    raw = bytearray(bundle.read_bytes())
    raw[raw.index(b"PK\x01\x02") + 8] |= 1  # the directory says: encrypted
    bundle.write_bytes(raw)
    assert verify(bundle)
    with pytest.raises(BadInput), unpacked(bundle):
        pass


def test_a_clock_that_was_set_ahead_is_found(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Later(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime.now(UTC) + timedelta(days=400)

    with monkeypatch.context() as clock:
        clock.setattr(audit_log, "datetime", Later)
        run = judged(tmp_path, "ahead", 40.0)
    checked = verification.house([run.folder], Reader.here())[str(run.folder)]
    assert any("lies ahead of this clock" in line for line in checked.findings), checked
