"""A verdict is signed, by whom is seen, and OpenSSL sees the same."""

from __future__ import annotations

import base64
import json
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from study_core.errors import BadInput
from tasks import cli, signing
from tasks.signing import PublicKey


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PublicKey:
    """A key of this test's own."""
    monkeypatch.setenv("GATED_KEY", str(tmp_path / "mine" / "key.pem"))
    return signing.own_key()


def test_key_is_made_once_and_is_private(own: PublicKey) -> None:
    path = signing.key_path()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert signing.own_key() == own


def test_of_many_who_make_it_at_once_all_sign_with_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATED_KEY", str(tmp_path / "raced" / "key.pem"))
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(signing.own_key().id)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert [path.name for path in (tmp_path / "raced").iterdir()] == ["key.pem"]


@pytest.mark.parametrize(
    ("content", "mode", "told"),
    [(b"no key", 0o600, "no usable signing key"), (b"", 0o600, "no usable signing key"), (None, 0o644, "chmod 600")],
)
def test_unusable_key_is_one_line_with_its_remedy(own: PublicKey, content: bytes | None, mode: int, told: str) -> None:
    path = signing.key_path()
    path.write_bytes(path.read_bytes() if content is None else content)
    path.chmod(mode)
    with pytest.raises(BadInput, match=told) as caught:
        signing.own_key()
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_key_where_no_file_can_be_is_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("GATED_KEY", str(tmp_path / "file" / "key.pem"))
    with pytest.raises(BadInput, match="GATED_KEY"):
        signing.own_key()


def test_signed_statement_is_believed_by_those_who_know_the_key(own: PublicKey) -> None:
    envelope = signing.sign({"a": [1, "ü"]})
    assert signing.opened(envelope, [own]) == signing.Signed({"a": [1, "ü"]}, (own.id,))
    assert "not by one that is believed" in signing.opened(envelope, []).problem


def test_changed_statement_and_another_signer_are_found(
    own: PublicKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    envelope = signing.sign({"passed": False})
    changed = {**envelope, "payload": base64.b64encode(b'{"passed": true}').decode()}
    assert "changed after signing" in signing.opened(changed, [own]).problem
    monkeypatch.setenv("GATED_KEY", str(tmp_path / "other.pem"))
    forged = signing.sign({"passed": True})
    assert f"not by one that is believed here ({own.short})" in signing.opened(forged, [own]).problem
    forged["signatures"][0]["keyid"] = own.id  # the name of a key is no signature
    assert "changed after signing" in signing.opened(forged, [own]).problem


@pytest.mark.parametrize(
    "garbage",
    [
        None, 3, "x", [], {}, {"payload": "x", "payloadType": 3, "signatures": [{}]},
        {"payload": "eA==", "payloadType": "x", "signatures": []},
        {"payload": "W10=", "payloadType": signing.PAYLOAD_TYPE, "signatures": []},
        {"payload": "e30=", "payloadType": signing.PAYLOAD_TYPE, "signatures": []},
        {"payload": base64.b64encode(b"[" * 99_999).decode(), "payloadType": "x", "signatures": []},
    ],
)  # fmt: skip
def test_garbage_is_a_problem_and_never_a_crash(own: PublicKey, garbage: Any) -> None:
    assert signing.opened(garbage, [own]).problem


def test_openssl_says_the_same(own: PublicKey, tmp_path: Path) -> None:
    """An independent program, given the public key and the bytes that DSSE says are signed."""
    envelope = signing.sign({"result": "PASSED"})
    payload = base64.b64decode(envelope["payload"])
    kind = envelope["payloadType"]
    (tmp_path / "signed").write_bytes(f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload)
    (tmp_path / "sig").write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
    (tmp_path / "pub.pem").write_text(own.pem)
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "pub.pem", "-rawin", "-in", "signed",
               "-sigfile", "sig"]  # fmt: skip
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 0
    (tmp_path / "signed").write_bytes((tmp_path / "signed").read_bytes().replace(b"PASSED", b"passed"))
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode != 0


def test_command_shows_the_public_half(own: PublicKey, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["key", "--out", str(tmp_path / "pub.pem"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["id"], told["public"]) == (own.id, own.line)
    assert signing.read_public(tmp_path / "pub.pem") == own
    assert "PRIVATE" not in json.dumps(told)
    with pytest.raises(BadInput, match="no public key"):
        signing.read_public(signing.key_path())
