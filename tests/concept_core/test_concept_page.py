"""The report in a browser: nothing wider than a telephone, and it prints."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from concept_core.report.page import write_report
from study_core.plan import changed

pytestmark = [pytest.mark.concept, pytest.mark.browser]
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium (set CHROMIUM)")
def test_the_page_fits_a_telephone_and_a_sheet_of_paper(small_study: Any, tmp_path: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    study = small_study.study
    (study.layout.root / "jobs.csv").write_text("job,state,queue_wait_s,gpu_hours\nembed-a,done,3.5,0.25\n")
    write_report(study.layout, changed(study.plan, {"gates": {"p_max": 0.2}}), "house_esm2")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for width in (390, 1200):
            page = browser.new_page(viewport={"width": width, "height": 900})
            requested: list[str] = []
            page.on("request", lambda one, seen=requested: seen.append(one.url))
            page.goto(study.layout.report.as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert [one for one in requested if not one.startswith(("file:", "data:"))] == []
            assert page.get_by_role("heading", name="Skill").is_visible()
            assert page.get_by_text("In all 3.5 s of waiting, 0.25 GPU-hours.").is_visible()
            assert page.get_by_text("Changed thresholds: p_max 0.2 (standard 0.05).").is_visible()
            broken = "[...document.images].filter(one => !one.complete || !one.naturalWidth || !one.alt).length"
            assert page.evaluate(broken) == 0
        page.pdf(path=tmp_path / "report.pdf", format="A4")
        browser.close()
    assert (tmp_path / "report.pdf").stat().st_size > 50_000
