"""Lines of models: each corpus ships to its own, nothing judged on other data replaces a model silently."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from study_core.errors import BadInput
from study_core.files import sha256_of, write_json
from study_core.gates import GateRecord
from study_core.verdict import Verdict
from tasks import blessings, channels, comparison, promotion, registry
from tasks.channels import Line, PromotionRefused
from tasks.parameters import Production
from tasks.run import Run

MINI, REAL = Line("data/mini", "a" * 64, "1" * 64), Line("/shared/corpus", "b" * 64, "2" * 64)
OTHER_PANEL = replace(REAL, panel_sha256="3" * 64)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("GATED_ARTIFACTS", str(tmp_path / "artifacts"))
    return Run("act-of-god", "a run", "1234", tmp_path / "artifacts" / "act-of-god" / "run", tenant="denoise")


def judged(tmp_path: Path, name: str, line: Line, score: float = 1.0) -> Verdict:
    path = tmp_path / f"{name}.pt"
    path.write_text(name)
    record = GateRecord(gate="any", metric="m", comparison=">=", threshold=0.0, value=1.0, passed=True)
    return Verdict(
        candidate=str(path), candidate_sha256=sha256_of(path), panel_sha256=line.panel_sha256, score=score,
        gates=(record,), data=line.data, data_sha256=line.data_sha256,
    )  # fmt: skip


def shipped(run: Run, tmp_path: Path, name: str, line: Line, *, channel: str = "", score: float = 1.0) -> str:
    """As a flow does: settle the channel, judge beside production there, ship."""
    found = channels.settled(replace(run, channel=channel), line)
    now = blessings.production(found.registry, found.channel)
    incumbent = now.verdict if now else None
    verdict = comparison.beside(
        judged(tmp_path, name, line, score), incumbent, 0.0, other_data=found.channel_named
    )  # fmt: skip
    return promotion.ship(found, verdict, report=tmp_path / "r.html", incumbent=incumbent).id


def test_a_demo_and_the_real_corpus_are_two_lines_of_one_registry(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    demo = shipped(run, tmp_path, "demo", MINI, score=99.0)
    real = shipped(run, tmp_path, "real", REAL, score=1.0)  # worse, on other data: no matter
    better = shipped(run, tmp_path, "better", REAL, score=2.0)
    assert blessings.channels("denoise") == ["corpus", "mini"]
    assert [one.replaces for one in blessings.blessings("denoise")] == [None, None, real]
    rows = {row["id"]: row for row in promotion.history("denoise")}
    assert {row["channel"]: row["id"] for row in rows.values() if row["production"]} == {"mini": demo, "corpus": better}
    assert registry.main(["history"]) == 0
    told = capsys.readouterr().out
    for word in ("mini", "corpus", "a" * 8, "b" * 8, "1" * 8, "2" * 8, "key "):
        assert word in told
    assert registry.main(["rollback", "drift", "--tenant", "denoise"]) == 2
    assert "name one: --channel" in capsys.readouterr().err
    assert registry.main(["rollback", "drift", "--tenant", "denoise", "--channel", "corpus"]) == 0
    assert f"in production in channel corpus: {real}" in capsys.readouterr().out
    assert blessings.pointer(blessings.registry_root("denoise"), "mini").exists()


def test_the_gate_holds_a_candidate_against_its_own_channel(run: Run, tmp_path: Path) -> None:
    shipped(run, tmp_path, "demo", MINI, score=99.0)
    shipped(run, tmp_path, "real", REAL, score=5.0)
    with pytest.raises(PromotionRefused, match="production"):
        shipped(run, tmp_path, "worse", REAL, score=4.0)


@pytest.mark.parametrize("other", [OTHER_PANEL, replace(REAL, data_sha256="c" * 64)])
def test_other_data_in_the_same_channel_are_refused_by_name_before_anything_is_trained(
    run: Run, tmp_path: Path, other: Line
) -> None:
    first = shipped(run, tmp_path, "real", REAL)
    with pytest.raises(PromotionRefused) as refused:
        channels.settled(run, other)
    for word in (first, str(REAL), str(other), "production.channel"):
        assert word in str(refused.value)
    with pytest.raises(PromotionRefused, match="not one line"):  # and once more when it ships
        promotion.ship(replace(run, channel="corpus"), judged(tmp_path, "x", other), report=tmp_path / "r.html")
    assert blessings.production("denoise", "corpus").id == first  # type: ignore[union-attr]


def test_a_person_who_names_the_channel_lets_it_go_on_with_other_data_and_it_is_said(run: Run, tmp_path: Path) -> None:
    first = shipped(run, tmp_path, "real", REAL, score=9.0)
    own = shipped(run, tmp_path, "apart", OTHER_PANEL, channel="season-2")
    assert blessings.blessing("denoise", own).replaces is None
    second = shipped(run, tmp_path, "next", OTHER_PANEL, channel="corpus", score=1.0)
    blessed = blessings.blessing("denoise", second)
    assert (blessed.replaces, blessed.channel, blessed.other_data) == (first, "corpus", str(REAL))
    assert f"which was judged on other data ({REAL})" in promotion.told(blessed)
    row = blessed.verdict.gates[-1]
    assert (row.gate, row.state) == ("production", "vacuous"), "nothing was compared, and nothing counts as compared"
    assert "another panel" in row.vacuous
    told = [record["text"] for record in run.log.records() if record["kind"] == "channel"][-1]
    assert f"before, {REAL}" in told


def test_a_registry_of_old_goes_on_in_the_channel_that_it_has(run: Run, tmp_path: Path) -> None:
    first = promotion.ship(run, judged(tmp_path, "first", REAL), report=tmp_path / "r.html")
    path = blessings.registry_root("denoise") / "blessings" / f"{first.id}.json"
    old = json.loads(path.read_text())
    for name in ("channel", "signer", "public_key"):
        del old[name]
    for name in ("data", "data_sha256", "changed_thresholds"):  # what no verdict of that time had
        del old["verdict"][name]
    write_json(path, old)
    assert channels.settled(run, REAL).channel == blessings.DEFAULT
    assert channels.settled(run, MINI).channel == "mini", "its panel is another: a line of its own"
    (row,) = promotion.history("denoise")
    assert (row["channel"], row["production"], row["changed_thresholds"]) == ("default", True, [])
    second = shipped(run, tmp_path, "second", REAL, score=2.0)
    assert blessings.blessing("denoise", second).replaces == first.id


def test_who_only_uses_a_model_gets_its_own_channels_or_the_only_one(run: Run, tmp_path: Path) -> None:
    assert channels.in_use("denoise") is None
    demo = shipped(run, tmp_path, "demo", MINI)
    assert channels.in_use("denoise", data="data/incoming").id == demo  # type: ignore[union-attr]
    real = shipped(run, tmp_path, "real", REAL)
    assert channels.in_use("denoise", data="/elsewhere/corpus").id == real  # type: ignore[union-attr]
    assert channels.in_use("denoise", "mini", data="/elsewhere/corpus").id == demo  # type: ignore[union-attr]
    assert channels.in_use("denoise", "nobody") is None
    with pytest.raises(PromotionRefused, match="corpus, mini; name one"):
        channels.in_use("denoise", data="data/incoming")


@pytest.mark.parametrize("name", ["../x", "A", "a b", ".x", "x" * 42])
def test_a_channels_name_is_no_path(name: str, run: Run) -> None:
    with pytest.raises(ValidationError):
        Production(channel=name)
    with pytest.raises(BadInput, match="no name of a channel"):
        blessings.production("denoise", name)


@pytest.mark.parametrize(
    ("data", "channel"),
    [("data/mini", "mini"), ("/x/My Corpus (2)", "my-corpus-2"), ("", ""), ("/x/Ä", ""), ("..", "")],
)
def test_a_channel_is_named_after_the_datas_folder(data: str, channel: str) -> None:
    assert channels.named_after(data) == channel
