"""Input that cannot be used ends a run at once, in one line that names the file and the next step."""

from __future__ import annotations

from typing import Any

import pytest
from flow_lab import Lab, warm_start

pytestmark = pytest.mark.prefect


@pytest.fixture(scope="module")
def refusals(lab: Lab) -> dict[str, tuple[str, dict[str, Any]]]:
    """Runs on unusable input, all started together: id and state by what is wrong."""
    missing = str(lab.corpus.parent / "no such corpus")
    plans = {
        "missing corpus": {"corpus": missing},
        "swapped panel": {"panel": {"expected_hash": "0" * 64}},
        "missing checkpoint": {"start": {"checkpoint": "checkpoints/nowhere.pt"}},
        "misspelt option": {"training": {"changes": {"optimiser": {"epoch": 1}}}},
    }
    runs = {
        name: lab.start("act-of-god/warm-start", {**warm_start(label=name.replace(" ", "-")), **plan})
        for name, plan in plans.items()
    }
    return {name: (run_id, lab.ended(run_id)) for name, run_id in runs.items()}


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ("missing corpus", ("no such corpus", "python -m denoise_core corpus")),
        ("swapped panel", ("validation_panel.csv", "0" * 64)),
        ("missing checkpoint", ("checkpoints/nowhere.pt", "check the path")),
        ("misspelt option", ("optimiser.epoch", "epochs")),
    ],
)
def test_unusable_input_is_one_line_with_the_next_step(
    lab: Lab, refusals: dict[str, tuple[str, dict[str, Any]]], wrong: str, named: tuple[str, ...]
) -> None:
    run_id, state = refusals[wrong]
    assert (state["type"], state["name"]) == ("FAILED", "BadInput")
    for text in named:
        assert text in state["message"]
    assert "; " in state["message"]  # what is wrong; the next step
    assert "\n" not in state["message"]
    log = lab.log(run_id)
    assert state["message"] in log
    assert "Traceback" not in log


def test_nothing_is_submitted_on_unusable_input(lab: Lab, refusals: dict[str, tuple[str, dict[str, Any]]]) -> None:
    runs = {run_id for run_id, _ in refusals.values()}
    assert not [entry for entry, _ in lab.jobs() if entry.owner in runs]


def test_the_command_line_refuses_a_misspelt_gate_before_a_run_exists(lab: Lab) -> None:
    before = lab.api("POST", "/flow_runs/count", {})
    done = lab.cli("deployment", "run", "act-of-god/warm-start", "-p", 'plan={"gates": {"psnr_mean_mim": 1}}')
    assert done.returncode == 1
    assert "psnr_mean_mim" in done.stdout + done.stderr
    assert lab.api("POST", "/flow_runs/count", {}) == before
