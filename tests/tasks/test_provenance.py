"""What a run says of its code: every source of the house and of each core counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks import provenance


def test_the_code_hash_knows_every_source_and_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    seen = set()
    for name, text in (
        ("flows/a.py", "1"),
        ("flows/b.py", "1"),
        ("tasks/b.py", "1"),
        ("new_core/b.py", "1"),
        ("new_core/b.py", "2"),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).with_name("__init__.py").touch()
        (tmp_path / name).write_text(text)
        seen.add(provenance.code_sha256())
    assert len(seen) == 5
