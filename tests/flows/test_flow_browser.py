"""A person at the UI: fill in the form, watch the gate refuse, follow the link to Act B, read the gate table.

Pictures of every step go to GATED_SHOTS where that is set.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from flow_lab import PATIENCE_S, Lab, tiny, until

playwright = pytest.importorskip("playwright.sync_api")
from playwright.sync_api import Locator, Page, expect  # noqa: E402

pytestmark = pytest.mark.browser

CHROMIUM = Path("/usr/bin/chromium")
QUIET = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
MS = 1000 * PATIENCE_S
WARM_START = "act-of-god/warm-start"


@pytest.fixture(scope="module")
def page(lab: Lab) -> Iterator[Page]:
    if not CHROMIUM.exists():
        pytest.skip(f"no {CHROMIUM}: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=QUIET.split())
        tab = browser.new_page(viewport={"width": 1400, "height": 1100})
        tab.set_default_timeout(60_000)
        tab.goto(lab.ui)
        tab.locator("input[type=password]").fill(lab.env["PREFECT_API_AUTH_STRING"])  # asked for once
        tab.get_by_role("button", name="Login").click()
        tab.wait_for_url(lambda address: "/login" not in address)
        yield tab
        browser.close()


@pytest.fixture(scope="module")
def quick(lab: Lab) -> Iterator[Lab]:
    """The deployment's form opens with a training of one step."""
    deployment = lab.api("GET", f"/deployments/name/{WARM_START}")
    plan = deployment["parameters"]["plan"]
    small = {**plan, "training": tiny(), "start": {**plan["start"], "training": tiny()}, "epoch_chosen_on": "panel"}
    lab.api("PATCH", f"/deployments/{deployment['id']}", {"parameters": {"plan": small}})
    yield lab
    lab.api("PATCH", f"/deployments/{deployment['id']}", {"parameters": {"plan": plan}})


def shot(page: Page, name: str) -> None:
    if folder := os.environ.get("GATED_SHOTS"):
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


def field(page: Page, title: str) -> Locator:
    """The input under a title of the form."""
    words = f"//span[normalize-space()='{title} (Optional)']"
    label = f"{words}/ancestor::div[contains(concat(' ', @class, ' '), ' p-label ')][1]"
    return page.locator(f"xpath={label}").locator("input, textarea").first


def submit(page: Page) -> None:
    """Send the form, and again where the server was too busy to take it (the form then stays)."""
    # The last field is done: what it says is checked, and the form laid out, before the click.
    page.keyboard.press("Tab")
    form = page.url
    for attempt in range(1, 5):
        page.get_by_role("button", name="Submit").click()
        try:
            page.wait_for_url(lambda address: address != form, timeout=45_000)
            return
        except playwright.TimeoutError:
            shot(page, f"not-sent-{attempt}")
    raise AssertionError("the form is still there after four attempts to send it")


def tab(page: Page, name: str) -> None:
    page.get_by_text(name, exact=True).first.click()


def runs_of(lab: Lab, deployment: str) -> set[str]:
    """The ids of a deployment's runs, those that other runs started left out."""
    made = lab.api("GET", f"/deployments/name/{deployment}")["id"]
    body = {"flow_runs": {"deployment_id": {"any_": [made]}, "parent_task_run_id": {"is_null_": True}}}
    return {str(run["id"]) for run in lab.api("POST", "/flow_runs/filter", body)}


def run_id(page: Page) -> str:
    found = re.search(r"/runs/flow-run/([0-9a-f-]{36})", page.url)
    assert found, page.url
    return found[1]


def wait_elsewhere(lab: Lab, page: Page, run_id: str) -> None:
    """Until a run has ended, with its page closed: drawn without a GPU, its moving bars take half a core."""
    page.goto("about:blank")
    lab.ended(run_id)


def test_a_person_starts_a_run_sees_it_refused_and_finds_act_b(quick: Lab, page: Page) -> None:
    page.goto(f"{quick.ui}/deployments")
    warm_start = page.get_by_text("warm-start", exact=True).first
    warm_start.wait_for()
    shot(page, "1-deployments")
    warm_start.click()
    tab(page, "Description")
    expect(page.get_by_text("judge by the gates", exact=False).first).to_be_visible()
    shot(page, "2-description")

    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_text("Custom run", exact=False).first.click()
    field(page, "Label").fill("by-hand")
    shot(page, "3-form")
    field(page, "PSNR, mean at least (dB)").fill("999")
    shot(page, "4-gates-in-the-form")
    before = runs_of(quick, WARM_START)
    submit(page)
    (refused,) = until("the run that the form made", lambda: runs_of(quick, WARM_START) - before)
    assert quick.run(refused)["parameters"]["plan"]["gates"]["psnr_mean_min"] == 999
    wait_elsewhere(quick, page, refused)
    page.goto(f"{quick.ui}/runs/flow-run/{refused}")  # not by the notice: it goes by itself

    expect(page.get_by_text("GateFailed", exact=True).first).to_be_visible(timeout=MS)
    expect(page.get_by_text("warm-start-by-hand-", exact=False).first).to_be_visible()
    shot(page, "5-refused")

    tab(page, "Artifacts")
    page.get_by_text("act-of-god-gates", exact=True).last.click()
    row = page.get_by_role("row").filter(has_text="psnr_mean")
    expect(row.first).to_contain_text("FAIL")
    expect(row.first).to_contain_text("≥ 999")
    shot(page, "6-gate-table")

    page.goto(f"{quick.ui}/runs/flow-run/{refused}")
    tab(page, "Artifacts")
    page.get_by_text("act-of-god-act-b", exact=True).last.click()
    page.get_by_role("link", name="Act B's run").wait_for()
    shot(page, "7-link")
    with page.expect_popup() as opened:
        page.get_by_role("link", name="Act B's run").click()
    page.goto("about:blank")
    page = opened.value
    (child,) = quick.children(refused)
    assert run_id(page) == child["id"]
    wait_elsewhere(quick, page, child["id"])
    page.goto(f"{quick.ui}/runs/flow-run/{child['id']}")
    expect(page.get_by_text("GateFailed", exact=True).first).to_be_visible(timeout=MS)
    shot(page, "8-act-b")

    tab(page, "Artifacts")
    page.get_by_text("act-b-gates", exact=True).last.click()
    expect(page.get_by_role("row").filter(has_text="psnr_mean").first).to_contain_text("FAIL")
    shot(page, "9-gate-table-of-act-b")


def test_the_form_asks_in_words(quick: Lab, page: Page) -> None:
    """No field of any deployment shows a bare Python name or asks for a type first."""
    for deployment in quick.api("POST", "/deployments/filter", {}):
        page.goto(f"{quick.ui}/deployments/deployment/{deployment['id']}")
        page.get_by_role("button", name="Run", exact=True).click()
        page.get_by_text("Custom run", exact=False).first.click()
        field(page, "Label").wait_for()
        shot(page, f"form-{deployment['name']}")
        text = page.locator("form").first.inner_text()
        assert 'Property is type "None"' not in text, deployment["name"]
        titles = [line.removesuffix(" (Optional)") for line in text.splitlines() if line.endswith(" (Optional)")]
        assert len(titles) > 5
        assert [title for title in titles if "_" in title] == []
