"""`gated run` beside a house that is up: a stranger's files imported, followed to the end, into the fallback."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from flow_lab import PATIENCE_S, ROOT, Lab, tiny, until, warm_start
from strangers import borrowed, write_files

from denoise_core.corpus.store import open_corpus

pytestmark = pytest.mark.prefect
GATED = (sys.executable, "-m", "tasks.cli")


def gated(lab: Lab, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*GATED, *arguments], env=lab.env, cwd=ROOT, capture_output=True, text=True, timeout=3 * PATIENCE_S, check=False
    )


@pytest.fixture
def theirs(lab: Lab, tmp_path: Path) -> Path:
    """A corpus of another laboratory, from its own files: percent with decimal commas on a falling axis of 301 points,
    two treatments without a dose, four samples, uneven replicates."""
    mini = open_corpus(lab.corpus)
    groups = borrowed(mini, {"dry": 1, "wet": 3}, 4, (6, 9, 7), every=2)
    falling = ((*place, 100 * np.asarray(spectra)[:, ::-1]) for *place, spectra in groups)
    head = "Wellenlänge [nm];Reflexion [%]\n"
    source = write_files(tmp_path / "raw", falling, mini.wavelength_nm[::2][::-1], head=head)
    done = gated(lab, "import", str(source), "--out", str(tmp_path / "theirs"), "--units", "percent", "--yes")
    assert done.returncode == 0, done.stderr
    assert f"next: gated run --corpus {tmp_path / 'theirs'}" in done.stdout
    return tmp_path / "theirs"


def test_a_strangers_refused_run_is_followed_into_its_fallback(lab: Lab, theirs: Path) -> None:
    plan = warm_start(label="followed", gates={"psnr_mean_min": 999})
    corpus = ("--corpus", str(theirs))
    done = gated(lab, "run", "act-of-god/warm-start", *corpus, "--plan", json.dumps(plan), "--json")
    assert done.returncode == 1, done.stderr
    verdict = json.loads(done.stdout)  # alone there
    (psnr,) = (row["value"] for row in verdict["gates"] if row["metric"] == "psnr_mean")
    assert 40 < psnr < 999, "in reflectance: percent would be 40 dB off"
    assert not [row for row in verdict["gates"] if "dose" in row["metric"]], "nothing is borrowed"
    assert {row["slice"]["group"] for row in verdict["gates"] if "group" in row["slice"]} == {
        "dry/plate4/left", "wet/plate4/left",
    }  # fmt: skip
    told = done.stderr
    ended = [line.split()[1:3] for line in told.splitlines() if "Completed" in line]
    for step in ("train-god_run", "audit-panel", "train-act_b_stage1", "train-act_b_stage2"):
        assert [step, "Completed"] in ended, told
    assert "it goes on as fallback-followed-" in told
    first, last = told.split("it goes on as fallback-followed-")
    assert "│ FAIL" in first
    assert "pass │" not in first  # only what refused the first act; the last one's table is whole
    assert "verdict" in last
    assert "FAILED gate" in told
    assert "report.html" in told
    assert "act_c_report.md" in told
    assert "nothing was shipped" in told
    for path in (path for path in lab.artifacts.rglob("*") if path.is_file()):
        assert lab.env["PREFECT_API_AUTH_STRING"].encode() not in path.read_bytes(), path


def test_unusable_input_is_told_apart_from_a_refusal(lab: Lab) -> None:
    before = lab.api("POST", "/flow_runs/count", {})
    done = gated(lab, "run", "act-of-god/warm-start", "--set", "gates.psnr_mean_mim=1")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "psnr_mean_mim" in done.stderr
    assert lab.api("POST", "/flow_runs/count", {}) == before  # the form refused it

    done = gated(lab, "run", "panel-qa/audit", "--set", "checkpoints=[nowhere.pt]")
    assert done.returncode == 2
    assert "error: BadInput: " in done.stderr
    assert "nowhere.pt" in done.stderr

    done = gated(lab, "run", "panel-qa/warm-start")
    assert done.returncode == 2
    assert "panel-qa/warm-start: no such deployment" in done.stderr


def test_ctrl_c_says_that_the_run_goes_on_in_its_house(lab: Lab) -> None:
    plan = warm_start(label="left-alone", training=tiny(epochs=400, lr=9e-6))
    command = [*GATED, "run", "act-of-god/warm-start", "--plan", json.dumps(plan)]
    watching = subprocess.Popen(
        command, env=lab.env, cwd=ROOT, stdout=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
    )  # fmt: skip

    def started() -> list[str] | None:
        body = {"flow_runs": {"name": {"like_": "warm-start-left-alone"}}}
        found = [run["id"] for run in lab.api("POST", "/flow_runs/filter", body) if run["state"]["type"] == "RUNNING"]
        return found or None

    (run_id,) = until("the run", started)
    watching.send_signal(signal.SIGINT)
    told, _ = watching.communicate(timeout=60)
    assert watching.returncode == 130
    assert "the run goes on in its house" in told
    assert lab.state(run_id) == "Running"
    lab.cancel(run_id)
    assert lab.ended(run_id)["type"] == "CANCELLED"
