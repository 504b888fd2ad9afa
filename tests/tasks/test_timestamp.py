"""A time stamp authority's word beside the heads: `openssl ts` behind an address, read by another library."""

from __future__ import annotations

import base64
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from small_house import House, judged
from time_authority import authority, serving

from tasks import anchor, timestamp, verification
from tasks.bundle import STAMP, write_bundle
from tasks.bundle import main as bundle
from tasks.checking import Reader


@dataclass(frozen=True)
class Authority:
    ca: Path
    address: str


@pytest.fixture(scope="module")
def tsa(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    folder = tmp_path_factory.mktemp("tsa") / "authority"
    ca = authority(folder)
    with serving(folder) as address:
        yield Authority(ca, address)


@pytest.fixture(scope="module")
def other_ca(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return authority(tmp_path_factory.mktemp("tsa") / "somebody else")


@pytest.fixture
def stamped(tsa: Authority, house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    """The house with a third run, opened, bundled and closed where there is an authority."""
    monkeypatch.setenv("GATED_TSA", tsa.address)
    return replace(house, refused=judged(tmp_path, "stamped", 40.0))


def found(house: House, ca: Path) -> list[str]:
    checked = verification.house([house.root], Reader.here(authorities=[ca]))
    return [line for one in checked.values() for line in one.findings]


def test_heads_are_stamped_and_openssl_reads_the_bundles_token(stamped: House, tsa: Authority, tmp_path: Path) -> None:
    assert found(stamped, tsa.ca) == []
    heads = [head for head in anchor.told(Reader.here().believed).anchors if head.folder.endswith("stamped-00000000")]
    assert [bool(head.stamp) for head in heads] == [True, True, True]
    zipped = stamped.refused.folder / "auditors_bundle.zip"
    assert bundle([str(zipped), "--tsa-ca", str(tsa.ca)]) == 0
    shutil.unpack_archive(zipped, tmp_path / "unpacked")
    (tmp_path / "head").write_text(heads[1].sha256)
    words = ["openssl", "ts", "-verify", "-data", str(tmp_path / "head"), "-in", str(tmp_path / "unpacked" / STAMP)]
    done = subprocess.run([*words, "-CAfile", str(tsa.ca)], capture_output=True, text=True)
    assert "Verification: OK" in done.stdout, done.stderr


def test_another_authority_another_head_and_a_forged_token_are_found(
    stamped: House, tsa: Authority, other_ca: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token = timestamp.ask("a" * 64)
    roots = timestamp.roots([tsa.ca])
    assert timestamp.check(token, "a" * 64, roots).problem == ""
    assert timestamp.check(token, "b" * 64, roots).problem == "is the time stamp of something else"
    assert timestamp.check(token, "b" * 64, ()).problem == "is the time stamp of something else"
    assert "not" not in timestamp.check(token, "a" * 64, ()).problem
    for place in (len(token) // 3, len(token) - 5):
        forged = token[:place] + bytes([token[place] ^ 1]) + token[place + 1 :]
        assert "no time stamp of an authority that is believed" in timestamp.check(forged, "a" * 64, roots).problem
    for garbage in (b"", b"\x30\x80", b"no DER at all"):
        assert "no time stamp" in timestamp.check(garbage, "a" * 64, ()).problem
    assert len(found(stamped, other_ca)) == 3, "of three heads"
    zipped = stamped.refused.folder / "auditors_bundle.zip"
    assert bundle([str(zipped), "--tsa-ca", str(other_ca)]) == 1
    assert f"{STAMP}: no time stamp of an authority that is believed here" in capsys.readouterr().out


def test_a_head_told_with_anothers_token_is_found(stamped: House, tsa: Authority) -> None:
    head = anchor.told(Reader.here().believed).anchors[-1]
    anchor.tell(replace(head, stamp=base64.b64encode(timestamp.ask("c" * 64)).decode()))
    (line,) = found(stamped, tsa.ca)
    assert "time stamp of audit.jsonl line" in line
    assert "is the time stamp of something else" in line


@pytest.mark.parametrize("apart", [timedelta(days=-400), timedelta(days=400)])
def test_a_clock_that_was_set_is_found(stamped: House, tsa: Authority, apart: timedelta) -> None:
    head = anchor.told(Reader.here().believed).anchors[-1]
    anchor.tell(replace(head, time=(datetime.now(UTC) + apart).isoformat()))
    assert any("a clock that was wrong, or set" in line for line in found(stamped, tsa.ca))


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/", "file:///etc/passwd", "nonsense"])
def test_an_authority_that_is_not_there_costs_a_warning(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tsa: Authority, address: str
) -> None:
    monkeypatch.setenv("GATED_TSA", address)
    with pytest.warns(UserWarning, match="has no time stamp"):
        run = judged(tmp_path, "alone", 40.0)
    assert house.findings() == []
    assert (run.folder / "auditors_bundle.zip").exists()
    checked = verification.house([run.folder], Reader.here(authorities=[tsa.ca]))[str(run.folder)]
    assert checked.notes == ["3 of 3 heads have no time stamp"]


def test_a_second_bundle_without_an_authority_keeps_no_old_token(
    stamped: House, tsa: Authority, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("GATED_TSA")
    again = write_bundle(stamped.refused.folder, {}, stamped.refused.folder / "again.zip")
    assert bundle([str(again)]) == 0
    assert bundle([str(again), "--tsa-ca", str(tsa.ca)]) == 1
    assert f"{STAMP} is missing: nobody says when this was there" in capsys.readouterr().out


def test_a_file_that_is_no_certificate_is_named(
    house: House, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    assert verification.main([str(house.root), "--tsa-ca", str(tmp_path / "ca.pem")]) == 2
    assert "ca.pem: no certificate" in capsys.readouterr().err
