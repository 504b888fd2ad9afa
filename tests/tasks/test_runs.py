"""The list of runs and their comparison, read from folders alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from denoise_core.report.labels import gate_row
from denoise_core.report.words import WORDS
from deployments.comparing import own_blocks
from study_core.report.blocks import Table
from tasks import cli, compare
from tasks.audit_log import AuditLog
from tasks.provenance import artifacts_root
from tasks.runs import RunFacts, all_runs, named, table

Make = Callable[..., RunFacts]


def gate(metric: str, value: float | None, threshold: float = 1.0, **where: str) -> dict[str, Any]:
    passed = value is not None and value >= threshold
    return {"gate": "skill", "metric": metric, "comparison": ">=", "threshold": threshold, "value": value,
            "passed": passed, "slice": where}  # fmt: skip


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    monkeypatch.setenv("GATED_ARTIFACTS", str(tmp_path))

    def made(
        identifier: str, *gates: dict[str, Any], study: str = "act-of-god", panel: str = "p" * 8, end: str = "PASSED",
        score: float | None = None, state: str = "", shipped: bool = False, **plan: Any,
    ) -> RunFacts:  # fmt: skip
        folder = tmp_path / study / f"run-2026-11-27-{identifier}"
        log = AuditLog(folder)
        log.append("opened", "Starting", tenant="denoise", plan=plan)
        (folder / "plan.json").write_text(json.dumps({"where": {"profile": identifier}, **plan}))
        if gates:
            verdict = {"candidate_sha256": identifier * 8, "panel_sha256": panel, "score": score, "gates": gates}
            (folder / "verdict.json").write_text(json.dumps(verdict))
        if shipped:
            log.append("shipped", "Shipped x", blessing="x")
        if end:
            log.append("closed", end, **({"state": state} if state else {}))
        return RunFacts(folder)

    return made


def test_the_list_tells_runs_apart_and_shows_refusals(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    make("aaaa1111", gate("m", 2.0), label="first", corpus="data/mini", score=52.25, shipped=True)
    make("bbbb2222", gate("m", 0.5), label="strict", corpus="data/nostoc", state="GateFailed", end="FAILED gate skill")
    make("cccc3333", study="panel-qa", end="")
    AuditLog(artifacts_root() / "registry" / "denoise").append("registry", "Registry of denoise")  # no run
    rows = table(all_runs())
    assert [(row["run"][-8:], row["label"], row["corpus"], row["state"]) for row in rows] == [
        ("cccc3333", "", "", "open"), ("bbbb2222", "strict", "nostoc", "GateFailed"),
        ("aaaa1111", "first", "mini", "shipped"),
    ]  # fmt: skip
    assert [row["failed gates"] for row in rows] == ["", "skill", ""]
    assert [row["score"] for row in rows] == ["", "", "52.25"]
    assert cli.main(["runs", "--refused", "--json"]) == 0
    (refused,) = json.loads(capsys.readouterr().out)
    assert (refused["label"], refused["message"], refused["failed_gates"]) == ("strict", "FAILED gate skill", ["skill"])
    assert cli.main(["runs", "--study", "panel-qa"]) == 0
    told = capsys.readouterr().out
    assert "cccc3333" in told
    assert "aaaa1111" not in told


def test_a_label_is_the_newest_run_that_was_judged_under_it(make: Make) -> None:
    """A fallback that is under way has its source's label."""
    make("aaaa1111", gate("m", 2.0), label="strict")
    make("bbbb2222", gate("m", 0.5), label="strict", state="GateFailed")
    make("cccc3333", label="strict", study="act-b", end="")
    assert named("strict").name.endswith("bbbb2222")
    make("dddd4444", label="begun", end="")
    assert named("begun").name.endswith("dddd4444")


def test_what_a_label_does_to_a_terminal_stays_out_of_it(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    make("aaaa1111", label="\x1b[2Jred")
    cli.main(["runs"])
    assert "\x1b[2J" not in capsys.readouterr().out


def test_a_damaged_folder_is_listed_all_the_same(make: Make) -> None:
    run = make("aaaa1111", gate("m", 2.0))
    (run.folder / "verdict.json").write_text("{")
    (run.folder / "plan.json").write_text("[1]")
    assert [row["state"] for row in table(all_runs())] == ["Completed"]


def test_a_retry_is_open_until_it_ends_itself(make: Make) -> None:
    run = make("aaaa1111", state="NotApproved")
    assert run.state == "NotApproved"
    AuditLog(run.folder).append("opened", "Starting")
    assert RunFacts(run.folder).state == "open"


def test_runs_are_named_as_people_do(make: Make) -> None:
    first = make("aaaa1111", gate("m", 2.0), label="first")
    make("aaab2222", gate("m", 2.0))
    for name in ("first", "aaaa", str(first.folder), first.name, "aaaa1111-full-id-of-the-flow-run"):
        assert named(name).folder == first.folder
    with pytest.raises(ValueError, match="no run; give a folder"):
        named("nobody")
    make("aaaa3333")
    with pytest.raises(ValueError, match="fits run-2026"):
        named("aaaa")


def sections(page: Any) -> dict[str, Table]:
    return {one.key: one.blocks[0] for one in page.sections}


def test_gates_and_plans_side_by_side(make: Make) -> None:
    one = make("aaaa1111", gate("m", 2.0), gate("n", 3.0), label="one", score=50.0, epochs=2, gates={"m": 1.0})
    two = make("bbbb2222", gate("m", 1.2, 1.5), gate("n", 3.0), label="two", score=51.5, epochs=9, gates={"m": 1.5})
    page = compare.page([one, two])
    assert page.sentence == "two scores highest on this panel: 51.5, 1.5 above one."
    shown = sections(page)
    assert shown["gates"].columns == ("gate", "metric", "needs", "one", "two")
    assert shown["gates"].rows[0] == ("skill", "m", "≥ 1.0 / ≥ 1.5", "2 (≥ 1.0)", "✗ 1.2 (≥ 1.5)")
    assert shown["gates"].shades[0][3:] == ("good", "bad")
    assert shown["plan"].rows == (("epochs", "2", "9"), ("gates.m", "1.0", "1.5"))  # neither label nor profile


def test_rules_meet_by_what_they_ask_not_by_what_they_found(make: Make) -> None:
    """A group's worst feature lies elsewhere in each run: the group is what the rule asks for."""
    one = make("aaaa1111", *(gate("m", 2.0, group=name, at=f"{name}-300 nm") for name in "ST"))
    two = make("bbbb2222", *(gate("m", 3.0, group=name, at=f"{name}-412 nm") for name in "TS"))
    rows = sections(compare.page([one, two]))["gates"].rows
    assert [row[1:] for row in rows] == [("m [S]", "≥ 1.0", "2", "3"), ("m [T]", "≥ 1.0", "2", "3")]


def test_a_comparison_speaks_the_words_of_its_report(make: Make) -> None:
    """A tenant says measure, threshold and value with units; the page explains its words at the end."""
    runs = [make(name, gate("psnr_mean", 20.0 + n, 18.0)) for n, name in enumerate(("aaaa1111", "bbbb2222"))]
    page = compare.page(runs, None, gate_row, WORDS)
    assert sections(page)["gates"].rows[0][1:] == ("PSNR, mean", "≥ 18.00 dB", "20.00 dB", "21.00 dB")
    assert page.sections[-1].key == "glossary"
    assert "Peak signal-to-noise ratio" in page.html()


def test_a_run_that_makes_its_own_comparison_says_how_it_was_judged(make: Make) -> None:
    one, two = make("aaaa1111", gate("m", 0.5), end=""), make("bbbb2222", gate("m", 2.0))
    assert [row[4] for row in sections(compare.page([one, two]))["runs"].rows] == ["refused", "Completed"]


def test_another_panel_is_shown_with_a_warning_and_no_winner(
    make: Make, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    long = "how_deep_a_dip_of_a_group_may_be_beyond_what_its_filter_makes_of_it"
    make("aaaa1111", gate("m", 2.0), gate(long, 2.0, group="dry/plate4/left"), score=50.0, panel="p1")
    make("bbbb2222", gate("m", 2.0), score=60.0, panel="p2")
    out = tmp_path / "page.html"
    assert cli.main(["compare", "aaaa", "bbbb", "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert long in told, "nothing is cut where a pipe has no width"
    for text in (told, out.read_text()):
        assert "NOT COMPARABLE" in text
        assert "no one is better" in text
    assert cli.main(["compare", "aaaa", "bbbb", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["comparable"] is False


@pytest.mark.parametrize("other", ["none", "itself", "stranger", "unjudged"])
def test_what_cannot_be_compared_is_refused_in_words(
    make: Make, capsys: pytest.CaptureFixture[str], other: str
) -> None:
    make("aaaa1111", gate("m", 2.0))
    make("bbbb2222", gate("other", 2.0), study="ptycho")
    make("cccc3333", state="JobLost", end="train: out of memory")
    chosen = {"none": [], "itself": ["aaaa"], "stranger": ["bbbb"], "unjudged": ["cccc"]}[other]
    words = {"none": "nothing to compare with", "itself": "the same run twice", "stranger": "share no gate",
             "unjudged": "no verdict (JobLost: train: out of memory)"}  # fmt: skip
    assert cli.main(["compare", "aaaa", *chosen]) == 2
    assert words[other] in capsys.readouterr().err


def test_a_tenants_own_part_is_asked_for(make: Make) -> None:
    one, two = (make(name, gate("m", 2.0)) for name in ("aaaa1111", "bbbb2222"))
    own = own_blocks([one, two])
    assert own is not None
    with pytest.raises(ValueError, match="nobody"):
        named("nobody")


def test_the_peer_of_a_run_was_judged_on_its_panel(make: Make) -> None:
    from tasks.run import Run

    make("aaaa1111", gate("m", 2.0), panel="p2")
    earlier = make("bbbb2222", gate("m", 2.0))
    make("cccc3333", gate("m", 2.0), panel="p2")
    own = make("dddd4444", gate("m", 2.0))
    found = compare.peer(Run("act-of-god", "own", "dddd4444", own.folder, tenant="denoise"))
    assert found is not None
    assert found.folder == earlier.folder
