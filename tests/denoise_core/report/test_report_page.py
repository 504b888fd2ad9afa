"""The report: one self-contained file that says the verdict first, whatever lies in the run's folder."""

from __future__ import annotations

import html
import json
import math
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from denoise_core.evaluation.predictions import denoised_name
from denoise_core.evaluation.thresholds import GATES, GateThresholds, metric_rules, skill_rules
from denoise_core.report import tables
from denoise_core.report.labels import group_label, margin, metric_label, number
from denoise_core.report.page import compose, concluded, write_page, write_report
from denoise_core.report.record import PANEL_EVAL, PANEL_FILE, TRAINING_FILE, read_run, write_inputs
from denoise_core.report.uncertainty import answer
from denoise_core.report.words import WORDS
from study_core.errors import BadInput
from study_core.report.blocks import Page, Table, glossary, pieces

MEGABYTE = 1 << 20
VOID = {"meta", "img", "br", "link", "hr", "input"}


class _Page(HTMLParser):
    """Tags, attributes and text of a page; fails on a tag that is closed out of order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def without_archive(ran) -> None:
    """No spectra, no figures of them: the rest of the report in a tenth of the time."""
    shutil.rmtree(next(ran.folder.glob("final_analytics/panel_eval/*_panel_preds")))


def written(ran) -> _Page:
    path = write_report(ran.folder, ran.corpus, ran.panel, ran.training)
    assert path == ran.folder / "report.html"
    return _Page(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def composed(ran_once) -> Page:
    return compose(ran_once.folder, ran_once.corpus, ran_once.panel, ran_once.training)


@pytest.fixture(scope="session")
def page(composed: Page, tmp_path_factory: pytest.TempPathFactory) -> _Page:
    path = write_page(composed, tmp_path_factory.mktemp("page") / "report.html")
    assert path.stat().st_size < 2 * MEGABYTE
    return _Page(path.read_text(encoding="utf-8"))


def test_nothing_comes_from_outside(page: _Page) -> None:
    names = {name for name, _ in page.tags}
    assert not names & {"script", "link", "iframe", "object", "form"}
    for _, attributes in page.tags:
        for name in ("src", "href", "srcset", "style"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:image/png;base64,", "#")), value
    style = next(text for text in page.words if "@media print" in text)
    assert "url(" not in style
    assert "@import" not in style


def test_links_lead_to_sections(page: _Page) -> None:
    targets = {attributes["id"] for attributes in page.attributes("section")}
    links = {str(attributes["href"]).removeprefix("#") for attributes in page.attributes("a")}
    assert links == targets


def test_every_picture_is_told_in_words(page: _Page) -> None:
    whole = [one for one in page.attributes("svg") if one.get("class") == "whole"]
    told = [str(one["alt"]) for one in page.attributes("img")] + [str(one["aria-label"]) for one in whole]
    assert len(told) >= 8
    assert all(len(alt) > 60 for alt in told)
    assert any("dB" in alt and "Worst" in alt for alt in told)


def test_a_narrow_page_shows_each_panel_of_a_figure_alone_and_cuts_none(page: _Page) -> None:
    wide, parts = {}, {}
    for tag, attributes in page.tags:
        if tag == "image":
            wide[f"#{attributes['id']}"] = int(attributes["width"] or 0), int(attributes["height"] or 0)
        elif tag == "svg" and "class" not in attributes:
            box = tuple(int(number) for number in str(attributes["viewbox"]).split())
        elif tag == "use":
            parts.setdefault(attributes["href"], []).append(box)
    assert set(parts) == set(wide)
    assert len(wide) >= 4
    for name, (width, height) in wide.items():
        legend_or_not = [box for box in parts[name] if box[2] < 0.8 * width]
        assert all(box[0] >= 0 and box[0] + box[2] <= width and box[1] + box[3] <= height for box in parts[name])
        assert all(box[2] <= 0.62 * width for box in legend_or_not), "letters twice as large as in the whole"
        covered = sum(box[2] * box[3] for box in parts[name])
        assert 0.9 * width * height < covered < 1.1 * width * height


def test_verdict_stands_on_top_and_each_gate_with_its_margin(page: _Page, ran_once) -> None:
    verdict = json.loads((ran_once.folder / "verdict.json").read_text())
    outcome = "PASSED" if all(gate["passed"] for gate in verdict["gates"]) else "FAILED"
    head = page.text.index(outcome)
    assert head < page.text.index("Readiness gates")
    for gate in verdict["gates"]:
        label = metric_label(gate["metric"])
        for text in (label.text, number(gate["value"], label), gate["reason"]):
            assert re.sub(r"\s+", " ", text) in page.text
    for number_, gate in enumerate(GATES):
        assert re.search(rf"{number_} {gate}", page.text, re.IGNORECASE)


def test_controls_stand_side_by_side_with_their_figures(page: _Page, ran_once) -> None:
    verdict = json.loads((ran_once.folder / "verdict.json").read_text())
    assert {row["name"] for row in verdict["facts"]["controls"]} >= {"raw", "savgol_61_3", "lmmse", "f"}
    for row in [*verdict["facts"]["controls"], verdict["facts"]["metrics"]]:
        assert f"{row['psnr_mean']:.2f} dB" in page.text
        assert f"{row['sam_mean']:.3f}°" in page.text
        assert f"{100 * row['area_within_10_pct_ratio']:.1f} %" in page.text
    for notice in verdict["facts"]["notices"]:
        assert re.sub(r"\s+", " ", notice) in page.text


def test_provenance_and_jobs_are_named(page: _Page, ran_once) -> None:
    inputs = json.loads((ran_once.folder / "inputs.json").read_text())
    for text in ("0" * 40, "1" * 64, "2" * 64, ran_once.corpus.sha256, inputs["training"]["rows_sha256"], "20251009"):
        assert text in page.text
    for text in ("4711", "4712 4713", "oom: half the batch", "93 %", "optimiser.epochs"):
        assert text in page.text
    assert "In all 15.5 s of waiting, 0.125 GPU-hours." in page.text  # no sum of energy: one job's GPUs count none


def log(ran, kind: str, text: str, **data: object) -> None:
    with open(ran.folder / "audit.jsonl", "a") as stream:
        stream.write(json.dumps({"kind": kind, "text": text, "data": data}) + "\n")


def test_what_became_of_the_candidate_stands_on_top(ran, edit_verdict) -> None:
    edit_verdict(lambda verdict: [gate.update(passed=True) for gate in verdict["gates"]])
    without_archive(ran)
    page = compose(ran.folder, ran.corpus, ran.panel, ran.training)
    assert page.sentence.startswith("PASSED")
    log(ran, "withheld", "Not shipped: nobody signed off")
    withheld = concluded(page, ran.folder)
    assert (withheld.status, withheld.sentence.split(":")[0]) == ("fail", "NOT SHIPPED")
    assert "nobody signed off" in withheld.sentence
    (ran.folder / "audit.jsonl").unlink()
    log(ran, "shipped", "Shipped", blessing="20261127-abc", replaces="20261126-xyz")
    shipped = concluded(page, ran.folder)
    assert (shipped.status, shipped.sentence.split(":")[0]) == ("pass", "SHIPPED")
    assert "20261127-abc, replacing 20261126-xyz" in shipped.sentence
    assert [section.key for section in shipped.sections] == [section.key for section in page.sections]


def test_production_stands_beside_the_candidate(ran, edit_verdict) -> None:
    verdict = json.loads((ran.folder / "verdict.json").read_text())
    beside = {**verdict, "candidate": "models/old.pt", "candidate_sha256": "ab" * 32, "score": verdict["score"] - 1.25}
    (ran.folder / PANEL_EVAL / "verdict_incumbent.json").write_text(json.dumps(beside))
    without_archive(ran)
    page = compose(ran.folder, ran.corpus, ran.panel, ran.training)
    assert "old.pt (abababab)" in " ".join(page.lead)
    assert "+1.25\u00a0dB" in " ".join(page.lead)
    assert "In production" in [row[0] for row in tables.controls_table(read_run(ran.folder)).rows]


def test_the_reason_beside_a_threshold_is_of_the_one_in_force(ran, edit_verdict) -> None:
    def lower(verdict) -> None:
        gate = next(gate for gate in verdict["gates"] if gate["metric"] == "area_within_10_pct_ratio")
        gate.update(threshold=0.25)

    before = {row[1]: row for row in tables.gates_table(read_run(ran.folder)).rows}
    edit_verdict(lower)
    after = {row[1]: row for row in tables.gates_table(read_run(ran.folder)).rows}
    (changed,) = [name for name in after if after[name] != before[name]]
    assert after[changed][4] == "≥ 25.0\u00a0%"
    assert after[changed][6] == f"Set by this run's plan; the default is ≥ 90.0\u00a0%: {before[changed][6]}"


def test_words_are_explained_where_they_are_used(composed: Page, page: _Page) -> None:
    (words,) = [section for section in composed.sections if section.key == "glossary"]
    explained = {name for name, _ in words.blocks[0].items}
    assert {"SAM", "filter F", "LMMSE", "ROI", "dip", "PSNR", "panel", "gate"} <= explained <= set(WORDS)
    assert glossary(replace(composed, sections=(), lead=(), facts={}), {"walrus": "An animal."}).sections == ()


@pytest.mark.parametrize(
    ("at_68", "at_95", "begins"),
    [(0.68, 0.95, "Yes: "), (0.66, 0.94, "Yes: "), (0.58, 0.85, "No, it is over-confident: "), (0.8, 0.99, "It is too"),
     (0.8, 0.9, "Only in part: ")],
)  # fmt: skip
def test_the_question_of_the_uncertainty_is_answered(at_68: float, at_95: float, begins: str) -> None:
    known = {"coverage_68": at_68, "coverage_95": at_95, "mean_standard_error": 0.002, "known": 1.0}
    said = answer(known)
    assert said.startswith(begins)
    assert f"68 % band covers {100 * at_68:.1f} %" in said
    assert answer({}).startswith("Nobody can say")


def test_single_dips_stand_with_their_errors(composed: Page) -> None:
    (section,) = [section for section in composed.sections if section.key == "roi"]
    median, worst = [block for block in section.blocks if isinstance(block, Table)]
    assert median.title.startswith("Dip by dip, Median")
    for table in (median, worst):
        assert 1 <= len(table.rows) <= 6
    spread = [abs(float(row[3].split()[0].replace("−", "-"))) for row in worst.rows]
    middle = [abs(float(row[3].split()[0].replace("−", "-"))) for row in median.rows]
    assert np.median(spread) > np.median(middle)


def test_a_narrow_screen_names_every_cell(page: _Page) -> None:
    """A wide table becomes cards there: each cell carries its column's name."""
    cells = page.attributes("td")
    assert len(cells) > 300
    assert all(cell["data-label"] for cell in cells)
    for cell, classes in (("a" * 64, "cards"), ("loo", "")):  # two columns that do not fit are too wide as well
        assert Table("Provenance", ("what", "value"), (("checkpoint SHA-256", cell),)).width == classes


def test_hostile_text_stays_text(ran, edit_verdict) -> None:
    def poison(verdict) -> None:
        verdict["facts"]["notices"].append("<script>alert(1)</script>")
        verdict["gates"][0]["reason"] = '"><img src=x onerror=alert(1)>'

    edit_verdict(poison)
    without_archive(ran)
    found = written(ran)
    assert "script" not in {name for name, _ in found.tags}
    assert "<script>alert(1)</script>" in found.text


def test_folder_without_a_verdict_is_refused(ran) -> None:
    (ran.folder / "verdict.json").unlink()
    with pytest.raises(BadInput, match=r"verdict\.json"):
        compose(ran.folder, ran.corpus, ran.panel, ran.training)


def test_no_gate_is_no_pass(ran, edit_verdict) -> None:
    edit_verdict(lambda verdict: verdict.update(gates=[]))
    without_archive(ran)
    found = compose(ran.folder, ran.corpus, ran.panel, ran.training)
    assert found.status == "fail"
    assert found.sentence.startswith("REFUSED")


def test_pass_and_fail_are_told_apart(ran, edit_verdict) -> None:
    edit_verdict(lambda verdict: [gate.update(passed=True) for gate in verdict["gates"]])
    assert tables.sentence(read_run(ran.folder)).startswith("PASSED")

    def lose_one(verdict) -> None:
        verdict["gates"][2].update(passed=False, value=None)

    edit_verdict(lose_one)
    assert tables.sentence(read_run(ran.folder)).startswith("FAILED at gate")
    assert "missing" in tables.sentence(read_run(ran.folder))


def test_bare_folder_still_gives_a_report(ran) -> None:
    """Panel QA has no training; a lost disk has no archive: the verdict is told all the same."""
    verdict = (ran.folder / "verdict.json").read_bytes()
    shutil.rmtree(ran.folder)
    ran.folder.mkdir()
    (ran.folder / "verdict.json").write_bytes(verdict)
    found = written(ran)
    assert "No figures of spectra" in found.text
    assert "No jobs table" in found.text


def test_model_that_gave_nan_gets_its_report(ran) -> None:
    name = json.loads((ran.folder / "verdict.json").read_text())["facts"]["name"]
    capture = ran.panel.frame["relative_path"].iloc[5]
    spectrum = ran.folder / "final_analytics/panel_eval" / f"{name}_panel_preds" / denoised_name(capture)
    np.save(spectrum, np.full(ran.corpus.spectra_NL.shape[1], np.nan, np.float32))
    found = written(ran)
    assert "not finite" in found.text
    assert spectrum.name in found.text


def test_reference_self_has_no_infinite_figure(ran, edit_verdict) -> None:
    """Under `self` raw captures are perfect: their PSNR is infinite and must not break a figure."""
    edit_verdict(lambda verdict: verdict["facts"].update(reference="self"))
    assert "never decides shipping" in written(ran).text


def test_damaged_table_is_named(ran) -> None:
    (ran.folder / "jobs.csv").write_text("nonsense\n1\n")
    with pytest.raises(BadInput, match=r"jobs\.csv.*no column job"):
        compose(ran.folder, ran.corpus, ran.panel, ran.training)


def test_jobs_table_without_rows_or_header_is_no_table(ran) -> None:
    (ran.folder / "jobs.csv").write_text("\n")
    assert read_run(ran.folder).jobs is None


def test_pieces_fit_the_interface(composed: Page) -> None:
    found = pieces(composed)
    keys = [piece.key for piece in found]
    assert len(set(keys)) == len(keys)
    assert keys[0] == "verdict"
    assert all(re.fullmatch(r"[a-z0-9-]+", key) for key in keys)
    for piece in found:
        assert len(json.dumps(piece.content)) < 2 * MEGABYTE
        if piece.kind == "table":
            assert piece.content
            assert all(isinstance(value, str) for row in piece.content for value in row.values())
        else:
            assert ("](data:image/png;base64," in piece.content) == (piece.kind == "image-markdown")
    assert {"table", "markdown", "image-markdown"} == {piece.kind for piece in found}
    assert sum(piece.kind == "image-markdown" for piece in found) >= 8


def test_pieces_and_page_are_one_source(composed: Page) -> None:
    text = html.unescape(composed.html())
    for piece in pieces(composed):
        assert piece.title in text


@pytest.mark.parametrize(
    ("comparison", "value", "room"), [(">=", 20.0, 2.0), (">", 20.0, 2.0), ("<=", 20.0, -2.0), ("<", 16.0, 2.0)]
)
def test_margin_is_positive_on_the_passing_side(comparison: str, value: float, room: float) -> None:
    assert margin(comparison, 18.0, value) == room
    assert margin(comparison, None, value) is None
    assert margin(comparison, 18.0, None) is None


def test_every_gate_metric_has_words_of_its_own() -> None:
    thresholds = GateThresholds()
    rules = [*metric_rules(thresholds, "loo"), *skill_rules(thresholds)]
    for rule in rules:
        assert metric_label(rule.metric).text != rule.metric


@pytest.mark.parametrize(
    ("value", "metric", "text"),
    [(0.905, "joint_pass_ratio", "90.5 %"), (53.351, "psnr_mean", "53.35 dB"), (-1e-6, "separability_gain", "−1e−06"),
     (0.0000123, "sam_gain_over_savgol", "1.23e−05°"), (None, "psnr_mean", "missing"), (math.nan, "psnr_mean", "nan"),
     (7.25, "never_heard_of", "7.25")],
)  # fmt: skip
def test_numbers_are_readable(value: float | None, metric: str, text: str) -> None:
    assert number(value, metric_label(metric)).replace("\u00a0", " ") == text


def test_group_names_are_short_only_where_they_are_known() -> None:
    assert group_label("treatment_5/sample_H/6Oclock").replace("\u00a0", " ") == "T5 H 6h"
    assert group_label("anything") == "anything"


def test_inputs_keep_the_manifests_byte_for_byte(ran, tmp_path: Path) -> None:
    content = write_inputs(tmp_path, ran.corpus, ran.panel, ran.training)
    assert ran.panel.path is not None
    assert (tmp_path / PANEL_FILE).read_bytes() == ran.panel.path.read_bytes()
    assert (tmp_path / TRAINING_FILE).exists()
    assert content["corpus"]["sha256"] == ran.corpus.sha256
    assert json.loads((tmp_path / "inputs.json").read_text()) == content
