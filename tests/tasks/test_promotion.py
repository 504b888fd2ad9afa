"""Shipping, the production pointer, rollback, and the archive of failed runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from study_core.files import sha256_of
from study_core.gates import GateRecord
from study_core.verdict import Verdict
from tasks import blessings, promotion, registry
from tasks.audit_log import LINES
from tasks.run import Run


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("GATED_ARTIFACTS", str(tmp_path / "artifacts"))
    folder = tmp_path / "artifacts" / "study" / "run"
    folder.mkdir(parents=True)
    (folder / "diagnostics.txt").write_text("what happened")
    return Run("study", "a run", "1234", folder)


def candidate(tmp_path: Path, content: str, score: float | None = 1.0, *, passed: bool = True) -> Verdict:
    path = tmp_path / f"{content}.pt"
    path.write_text(content)
    record = GateRecord(gate="any", metric="m", comparison=">=", threshold=0.0, value=1.0, passed=passed)
    return Verdict(
        candidate=str(path), candidate_sha256=sha256_of(path), panel_sha256="panel", score=score, gates=(record,)
    )


def test_first_candidate_ships_and_is_pointed_at(run: Run, tmp_path: Path) -> None:
    blessed = promotion.ship(run, candidate(tmp_path, "first"), report=tmp_path / "r.html")
    assert blessings.production("study") == blessed
    model = promotion.production_model(run)
    assert model is not None
    assert model.read_text() == "first"


def test_failed_gate_never_ships(run: Run, tmp_path: Path) -> None:
    with pytest.raises(promotion.PromotionRefused):
        promotion.ship(run, candidate(tmp_path, "bad", passed=False), report=tmp_path / "r.html")
    assert blessings.production("study") is None


def test_what_the_core_rules_out_never_ships(run: Run, tmp_path: Path) -> None:
    verdict = candidate(tmp_path, "fold")
    ruled_out = verdict.model_copy(update={"facts": {"may_not_ship": "the model of fold 2"}})
    with pytest.raises(promotion.PromotionRefused, match="the model of fold 2"):
        promotion.ship(run, ruled_out, report=tmp_path / "r.html")
    assert blessings.production("study") is None


def test_no_gates_never_ship(run: Run, tmp_path: Path) -> None:
    empty = candidate(tmp_path, "empty").model_copy(update={"gates": ()})
    assert not empty.passed
    with pytest.raises(promotion.PromotionRefused, match="no gate"):
        promotion.ship(run, empty, report=tmp_path / "r.html")


def test_candidate_changed_after_its_verdict_is_refused(run: Run, tmp_path: Path) -> None:
    verdict = candidate(tmp_path, "first")
    Path(verdict.candidate).write_text("swapped")
    with pytest.raises(promotion.PromotionRefused, match="changed since it was judged"):
        promotion.ship(run, verdict, report=tmp_path / "r.html")


@pytest.mark.parametrize(
    ("score", "update", "message"),
    [
        (0.5, {}, "production stays"),
        (None, {}, "production stays"),
        (2.0, {"panel_sha256": "other"}, "another panel"),
        (2.0, {"candidate_sha256": "f" * 64}, "not judged beside"),
    ],
)
def test_worse_or_incomparable_candidate_leaves_production_alone(
    run: Run, tmp_path: Path, score: float | None, update: dict[str, str], message: str
) -> None:
    first = candidate(tmp_path, "first")
    blessed = promotion.ship(run, first, report=tmp_path / "r.html")
    incumbent = first.model_copy(update=update)
    with pytest.raises(promotion.PromotionRefused, match=message):
        promotion.ship(run, candidate(tmp_path, "second", score), report=tmp_path / "r.html", incumbent=incumbent)
    assert blessings.production("study") == blessed


def test_the_margin_decides_and_production_that_changed_meanwhile_refuses(run: Run, tmp_path: Path) -> None:
    first = candidate(tmp_path, "first", 2.0)
    promotion.ship(run, first, report=tmp_path / "r.html")
    second, third = candidate(tmp_path, "second", 1.5), candidate(tmp_path, "third", 9.0)
    with pytest.raises(promotion.PromotionRefused, match="production stays"):
        promotion.ship(run, second, report=tmp_path / "r.html", incumbent=first, margin=-0.4)
    promotion.ship(run, second, report=tmp_path / "r.html", incumbent=first, margin=-0.5)
    with pytest.raises(promotion.PromotionRefused, match="not judged beside"):
        promotion.ship(run, third, report=tmp_path / "r.html", incumbent=first)


def test_rollback_points_at_what_was_replaced(run: Run, tmp_path: Path) -> None:
    first = candidate(tmp_path, "first")
    before = promotion.ship(run, first, report=tmp_path / "r.html")
    after = promotion.ship(run, candidate(tmp_path, "second", 2.0), report=tmp_path / "r.html", incumbent=first)
    assert after.replaces == before.id
    assert promotion.rollback("study", "drift seen") == before
    assert blessings.production("study") == before
    assert "drift seen" in (blessings.registry_root("study") / LINES).read_text()
    with pytest.raises(FileNotFoundError, match="nothing to roll back to"):
        promotion.rollback("study", "again")


def test_the_registry_by_hand(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert registry.main(["history"]) == 0
    assert capsys.readouterr().out == "nothing was ever shipped\n"
    assert registry.main(["rollback", "--tenant", "study", "drift seen"]) == 2
    assert "nothing is in production" in capsys.readouterr().err

    first, second = candidate(tmp_path, "first"), candidate(tmp_path, "second", 2.0)
    before = promotion.ship(run, first, report=tmp_path / "r.html")
    promotion.ship(run, second, report=tmp_path / "r.html", incumbent=first)
    assert registry.main(["rollback", "--tenant", "study", "drift seen"]) == 0
    assert capsys.readouterr().out.startswith(f"in production in channel default: {before.id}")
    assert registry.main(["history", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["production"] for row in rows] == [row["id"] == before.id for row in rows]
    assert len(rows) == 2
    assert registry.main(["history"]) == 0
    assert capsys.readouterr().out.count("in production") == 1

    assert registry.main(["rollback", "--tenant", "study", "again"]) == 2
    told = capsys.readouterr().err
    assert before.id in told
    assert told.count("\n") == 1


def test_shipping_what_is_in_production_changes_nothing(run: Run, tmp_path: Path) -> None:
    first = candidate(tmp_path, "first")
    blessed = promotion.ship(run, first, report=tmp_path / "r.html")
    assert promotion.ship(run, first, report=tmp_path / "r.html") == blessed
    assert len(promotion.history()) == 1


def test_changed_production_file_is_refused(run: Run, tmp_path: Path) -> None:
    blessed = promotion.ship(run, candidate(tmp_path, "first"), report=tmp_path / "r.html")
    Path(blessed.model).unlink()
    Path(blessed.model).write_text("tampered")
    with pytest.raises(promotion.PromotionRefused, match="changed since it was blessed"):
        promotion.production_model(run)


def test_archives_of_one_day_never_overwrite(run: Run) -> None:
    first = promotion.archive_failed(run, "god_run", "gate 1")
    (run.folder / "diagnostics.txt").write_text("the second time")
    second = promotion.archive_failed(run, "god_run", "gate 3")
    assert second.name == f"{first.name}_2"
    assert (first / "diagnostics.txt").read_text() == "what happened"
    assert (second / "diagnostics.txt").read_text() == "the second time"


def test_another_tenants_model_is_neither_compared_nor_replaced(run: Run, tmp_path: Path) -> None:
    first = promotion.ship(run, candidate(tmp_path, "first", 50.0), report=tmp_path / "r.html")
    other = Run("probe", "another", "5678", run.folder, tenant="proteins")
    second = promotion.ship(other, candidate(tmp_path, "cav", 0.9), report=tmp_path / "r.html")
    assert (blessings.production("study"), blessings.production("proteins")) == (first, second)
    assert second.replaces is None
    assert [row["tenant"] for row in promotion.history()] == ["proteins", "study"]
    assert [row["id"] for row in promotion.history("proteins")] == [second.id]


def test_a_folder_is_blessed_whole_and_a_change_inside_it_is_seen(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "cav"
    (folder / "layers").mkdir(parents=True)
    (folder / "layers" / "L4.npy").write_bytes(b"vector")
    verdict = candidate(tmp_path, "any").model_copy(
        update={"candidate": str(folder), "candidate_sha256": sha256_of(folder)}
    )
    promotion.ship(run, verdict, report=tmp_path / "r.html")
    (folder / "layers" / "L4.npy").write_bytes(b"another")  # the candidate, not what was blessed
    kept = promotion.production_model(run)
    assert kept is not None
    assert (kept / "layers" / "L4.npy").read_bytes() == b"vector"
    (kept / "layers" / "L4.npy").write_bytes(b"tampered")
    with pytest.raises(promotion.PromotionRefused, match="changed since it was blessed"):
        promotion.production_model(run)


def test_a_registry_of_old_goes_on_as_the_first_tenants(run: Run, tmp_path: Path) -> None:
    denoiser = Run("act-of-god", "a run", "1234", run.folder, tenant="denoise")
    blessed = promotion.ship(denoiser, candidate(tmp_path, "first"), report=tmp_path / "r.html")
    new = blessings.registry_root("denoise")
    for part in ("blessings", "models", "production.json"):
        (new / part).rename(new.parent / part)  # as it lay before there was one a tenant
    assert blessings.registry_root("denoise") == new.parent
    assert blessings.production("denoise") == blessed
    assert [row["tenant"] for row in promotion.history()] == ["denoise"]
