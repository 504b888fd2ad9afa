"""Changed thresholds: said wherever the verdict is said, and shipped with a named person's sign-off only."""

from __future__ import annotations

from pathlib import Path

import pytest

from study_core.files import read_json, sha256_of, write_json
from study_core.gates import GateRecord
from study_core.verdict import Verdict, changed_thresholds
from tasks import attestation, blessings, comparison, outcome, promotion, registry
from tasks.parameters import Approval, Production
from tasks.run import Run

CHANGED = ("psnr_mean_min 10 (standard 18)",)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("GATED_ARTIFACTS", str(tmp_path / "artifacts"))
    for what in ("publish_trail", "publish_runs"):
        monkeypatch.setattr(f"tasks.artifacts.{what}", lambda *_: None)  # pictures on a server that is not here
    return Run("study", "a run", "1234", tmp_path / "artifacts" / "study" / "run")


def judged(tmp_path: Path, name: str = "a", changed: tuple[str, ...] = CHANGED, score: float = 1.0) -> Verdict:
    path = tmp_path / f"{name}.pt"
    path.write_text(name)
    record = GateRecord(gate="any", metric="m", comparison=">=", threshold=0.0, value=1.0, passed=True)
    return Verdict(
        candidate=str(path), candidate_sha256=sha256_of(path), panel_sha256="p", score=score, gates=(record,),
        changed_thresholds=changed,
    )  # fmt: skip


def test_unattended_it_ends_as_refused_and_says_how_to_sign_off(run: Run, tmp_path: Path) -> None:
    state = outcome.ship(run, judged(tmp_path), None, Production(), Approval())
    assert (state.type.value, state.name) == ("FAILED", "PromotionRefused")
    for word in (CHANGED[0], "approval.by", "approval.ask"):
        assert word in str(state.message)
    assert str(state.message).count(CHANGED[0]) == 1
    assert blessings.production("study") is None
    assert [record["kind"] for record in run.log.records()][-2:] == ["withheld", "closed"]


def test_a_named_person_ships_it_and_the_registry_says_both(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = outcome.ship(run, judged(tmp_path), None, Production(), Approval(by="Ada Lovelace"))
    assert state.is_completed()
    for word in (CHANGED[0], "channel default", "replacing nothing", "signed off by Ada Lovelace"):
        assert word in str(state.message)
    assert registry.main(["history"]) == 0
    told = capsys.readouterr().out
    assert f"CHANGED: {CHANGED[0]}" in told
    assert "Ada Lovelace" in told
    (path,) = blessings.files(blessings.registry_root("study"))
    assert read_json(path)["approved_by"] == "Ada Lovelace"
    assert read_json(path)["verdict"]["changed_thresholds"] == [*CHANGED]


@pytest.mark.parametrize("name", ["", "  "])
def test_a_blank_is_no_name(run: Run, tmp_path: Path, name: str) -> None:
    assert outcome.ship(run, judged(tmp_path), None, Production(), Approval(by=name)).is_failed()


def test_the_studys_own_thresholds_need_nobody(run: Run, tmp_path: Path) -> None:
    assert outcome.ship(run, judged(tmp_path, changed=()), None, Production(), Approval()).is_completed()


def test_a_margin_that_lets_a_worse_model_through_is_a_changed_threshold(run: Run, tmp_path: Path) -> None:
    first = judged(tmp_path, "first", (), 2.0)
    promotion.ship(run, first, report=tmp_path / "r.html")
    worse = comparison.beside(judged(tmp_path, "worse", (), 1.0), first, -5.0)
    assert worse.changed_thresholds == ("production.margin -5 (standard 0)",)
    assert "production.margin -5" in worse.sentence()
    assert outcome.ship(run, worse, first, Production(margin=-5), Approval()).name == "PromotionRefused"
    stricter = comparison.beside(judged(tmp_path, "better", (), 9.0), first, 5.0)
    assert stricter.changed_thresholds == ()
    assert outcome.ship(run, stricter, first, Production(margin=5), Approval()).is_completed()


def test_the_signed_statement_names_them(run: Run, tmp_path: Path) -> None:
    write_json(run.folder / "verdict.json", judged(tmp_path).model_dump(mode="json"))
    said = attestation.statement(run.folder, {}, {"seq": 0, "sha256": "0" * 64, "time": "now"})["predicate"]["gated"]
    assert said["changed_thresholds"] == [*CHANGED]
    assert CHANGED[0] in said["sentence"]


def test_every_study_names_what_is_not_its_own() -> None:
    from concept_core.plans import GatePlan
    from denoise_core.evaluation.thresholds import GateThresholds
    from ptycho_core.design import get_study_design
    from ptycho_core.evaluation.thresholds import thresholds_for

    floors = thresholds_for(get_study_design("mini"))
    for own, changed, told in (
        (GatePlan(), GatePlan(p_max=0.5), "p_max 0.5 (standard 0.05)"),
        (GateThresholds(), GateThresholds(psnr_mean_min=10), "psnr_mean_min 10.0 (standard 18.0)"),
        (floors, floors.model_copy(update={"over_flat_min": -9.0}), "over_flat_min -9.0 (standard "),
    ):
        assert changed_thresholds(own, own) == ()
        (line,) = changed_thresholds(changed, own)
        assert line.startswith(told)
