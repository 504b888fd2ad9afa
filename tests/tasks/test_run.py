"""A run's record outlives the server's pictures of it: with no server in reach everything is still on disk."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from pydantic import BaseModel

from tasks import artifacts
from tasks.artifacts import Progress
from tasks.audit_log import verify
from tasks.run import Run, _current, current_run, open_run


class Plan(BaseModel):
    label: str = "strict / Ä"
    epochs: int = 3


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("GATED_ARTIFACTS", str(tmp_path))
    before = _current.set(None)
    yield tmp_path
    _current.reset(before)  # else the next test's refusals would be this run's


@pytest.fixture
def nobody_answers(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """The address of a Prefect server that is away."""
    caplog.set_level(logging.WARNING, logger="prefect.gated")
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api", PREFECT_CLIENT_MAX_RETRIES: 0}):
        yield caplog


def test_a_run_is_opened_with_its_plan_and_its_code(home: Path) -> None:
    run = open_run("study", Plan(), label="strict / Ä", inputs={"panel": "ab"})
    assert run.folder.parent == home / "study"
    assert run.folder.name == f"strict-{run.id[:8]}"
    assert json.loads((run.folder / "plan.json").read_text()) == {"label": "strict / Ä", "epochs": 3}
    provenance = json.loads((run.folder / "provenance.json").read_text())
    assert len(provenance["code_sha256"]) == 64
    assert provenance["versions"]["prefect"]
    opened, code = run.log.records()
    assert (opened["kind"], opened["data"]["inputs"]) == ("opened", {"panel": "ab"})
    assert code["data"]["lock_sha256"] == provenance["lock_sha256"]
    assert verify(run.log.path) == []
    assert current_run() == run


def test_a_server_out_of_reach_costs_a_warning_a_picture_and_no_more(
    home: Path, nobody_answers: pytest.LogCaptureFixture
) -> None:
    run = Run("study", "a run", "1234", home / "study" / "a-run-1234")
    run.event("verdict", "judged", score=1.5)
    artifacts.publish_table(run, "gates", [{"metric": "psnr", "value": float("nan")}])
    Progress(run, "train").update(50, "epoch 1 of 2")
    warned = [record for record in nobody_answers.records if "artifact not written" in record.message]
    assert len(warned) == 2
    assert [record["text"] for record in run.log.records()] == ["judged"]


@pytest.mark.parametrize(
    ("study", "what", "key"),
    [("act-of-god", "gates", "act-of-god-gates"), ("x", "progress-train_fold.02", "x-progress-train-fold-02")],
)
def test_keys_are_what_the_server_takes(tmp_path: Path, study: str, what: str, key: str) -> None:
    assert Run(study, "n", "1", tmp_path).key(what) == key


def test_tables_hold_json_numbers_only() -> None:
    values = [1.23456789, float("inf"), float("nan"), 7, "text", None]
    assert [artifacts._plain(value) for value in values] == [1.23457, None, None, 7, "text", None]
    json.dumps([artifacts._plain(value) for value in values], allow_nan=False)
