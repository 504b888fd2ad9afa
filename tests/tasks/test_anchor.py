"""Heads of logs told elsewhere: in a file or a git branch, signed, each naming the one before it."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from study_core.errors import BadInput
from tasks import anchor, signing
from tasks.anchor import Anchor

HEAD = Anchor(house="/house", folder="f/run", log="a" * 64, seq=0, sha256="b" * 64, kind="opened", time="now")


@pytest.fixture(params=["file", "git"])
def told_at(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Either kind of place."""
    monkeypatch.setenv("GATED_KEY", str(tmp_path / "key.pem"))
    if request.param == "git":
        subprocess.run(["git", "init", "-q", str(tmp_path / "repo")], check=True)
    where = {"file": str(tmp_path / "there" / "anchors.jsonl"), "git": f"git:{tmp_path / 'repo'}"}[request.param]
    monkeypatch.setenv("GATED_ANCHOR", where)
    return where


def read() -> anchor.Told:
    return anchor.told(signing.believed())


def test_what_is_told_is_read_in_order(told_at: str) -> None:
    assert read().anchors == ()
    heads = [replace(HEAD, seq=number) for number in range(3)]
    for head in heads:
        anchor.tell(head)
    assert read() == anchor.Told(tuple(heads), (), told_at)


def test_who_cannot_sign_cannot_tell(told_at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    anchor.tell(HEAD)
    monkeypatch.setenv("GATED_KEY", str(tmp_path / "forger.pem"))
    anchor.tell(replace(HEAD, sha256="c" * 64))
    monkeypatch.setenv("GATED_KEY", str(tmp_path / "key.pem"))
    found = read()
    assert found.anchors == (HEAD,)
    assert found.problems == ()
    assert "line 2: signed by key" in found.strangers[0]


def test_a_branch_leaves_the_working_tree_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    monkeypatch.setenv("GATED_ANCHOR", f"git:{tmp_path}")
    anchor.tell(HEAD)
    status = subprocess.run(["git", "-C", str(tmp_path), "status", "--porcelain"], capture_output=True, text=True)
    assert status.stdout == ""
    assert [path.name for path in tmp_path.iterdir()] == [".git"]


def test_dropped_and_edited_lines_of_the_file_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "anchors.jsonl"
    monkeypatch.setenv("GATED_ANCHOR", str(path))
    for number in range(4):
        anchor.tell(replace(HEAD, seq=number))
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *lines[2:]]) + "\n")
    assert read().problems == ("line 2: does not follow the line before it (dropped, inserted or reordered)",)
    envelope = json.loads(lines[1])
    envelope["payload"] = envelope["payload"][:-8] + "AAAAAAA="
    path.write_text("\n".join([lines[0], json.dumps(envelope), "{", "[" * 99_999, *lines[2:]]) + "\n")
    assert [problem.partition(":")[0] for problem in read().problems] == ["line 2", "line 3", "line 4", "line 5"]


def test_a_torn_line_costs_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its writer was killed in the middle."""
    path = tmp_path / "anchors.jsonl"
    monkeypatch.setenv("GATED_ANCHOR", str(path))
    anchor.tell(HEAD)
    with open(path, "a", encoding="utf-8") as stream:
        stream.write('{"payload": "ey')
    anchor.tell(replace(HEAD, seq=1))
    found = read()
    assert [head.seq for head in found.anchors] == [0, 1]
    assert [problem.partition(":")[0] for problem in found.problems] == ["line 2"]


@pytest.mark.parametrize("where", ["git:{}/nowhere", "{}/file/anchors.jsonl"])
def test_a_place_that_cannot_be_written_is_bad_input(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("GATED_ANCHOR", where.format(tmp_path))
    with pytest.raises(BadInput, match="GATED_ANCHOR"):
        anchor.tell(HEAD)
