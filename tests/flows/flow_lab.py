"""A house of the tests' own: Prefect server, UI and the five deployments over a folder that nobody else uses.

Seen as a person sees it: the command line, the REST API behind the UI, and the files below `artifacts/`.
"""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil

from tasks.channels import named_after
from tasks.slurm.entries import Entry
from tasks.slurm.journal import Journal

ROOT = Path(__file__).resolve().parents[2]
CANARY = "canary-5f1d-of-the-flows"  # a secret of the environment: in no file that a run leaves
PATIENCE_S = 240.0  # for whatever takes seconds on idle cores
T = TypeVar("T")

TINY: dict[str, Any] = {
    "model": {"base": "capture", "d_model": 8, "n_layers": 1, "d_state": 4, "film_hidden_dim": 8},
    "optimiser": {"epochs": 1, "steps_per_epoch": 1, "bs": 8},
}
LENIENT = {
    "roi_ratio_min": 0,
    "spurious_free_ratio_min": 0,
    "variance_drop_min_pct": 0,
    "separability_tolerance": 1e9,
    "dose_delta_rho_min": -9,
    "dose_improved_ratio_min": 0,
    "peak_f1_min": 0,
    "skill_psnr_over_raw_db": -99,
    "skill_sam_over_raw_deg": -99,
    "skill_psnr_over_sg_db": -99,
    "skill_sam_over_sg_deg": -99,
    "fidelity_excess_max_se": 1e9,
    "unsupported_feature_max": 1e9,
    "capture_departure_max": 1e9,
    "deeper_dips_max": 1,
    "treatment_difference_max_se": 1e9,
    "error_over_floor_min": 0,
    "own_capture_min": -1,
}
"""Gates that any denoiser passes which leaves a capture about as it is."""
SIGNED = {"by": "Grace Hopper"}
"""What passes under changed thresholds ships with a named person's sign-off only."""


def tiny(**optimiser: Any) -> dict[str, Any]:
    """A training of one step; another `lr`, say, makes it another training."""
    return {"changes": {**TINY, "optimiser": {**TINY["optimiser"], **optimiser}}}


def warm_start(*, label: str, training: dict[str, Any] | None = None, **plan: Any) -> dict[str, Any]:
    """A plan of `act-of-god/warm-start` that takes seconds."""
    once = {"epoch_chosen_on": "panel"}  # one training less
    return {"label": label, "training": training or tiny(), "start": {"training": tiny()}, **once, **plan}


def until(what: str, ready: Callable[[], T | None], patience: float = PATIENCE_S, pause: float = 0.25) -> T:
    """Poll until `ready()` gives something; an AssertionError naming what was waited for after `patience` seconds."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if found := ready():
            return found
        time.sleep(pause)
    raise AssertionError(f"{what}: not within {patience:.0f} s")


@dataclass(frozen=True)
class Lab:
    """A running house."""

    env: dict[str, str]
    corpus: Path
    artifacts: Path
    crash_once: Path  # without this file, the next process that reaches the crash point kills itself and makes it

    @property
    def ui(self) -> str:
        return self.env["PREFECT_API_URL"].removesuffix("/api")

    # -- doors
    def cli(self, *arguments: str, patience: float = PATIENCE_S) -> subprocess.CompletedProcess[str]:
        """`prefect …`, as typed."""
        prefect = str(Path(sys.executable).with_name("prefect"))
        return subprocess.run(
            [prefect, *arguments], env=self.env, cwd=ROOT, capture_output=True, text=True, timeout=patience, check=False
        )

    def watch(self, deployment: str, plan: dict[str, Any], patience: float = PATIENCE_S) -> tuple[int, str, str]:
        """Start a run and wait for its end: 0 when it completed, else 1; its id; how it ended.

        By the API: a process of the command line takes as long as the flow's own. What a person types is tried in
        test_flow_run.py, and by the tests of the guide.
        """
        run_id = self.start(deployment, plan)
        state = self.ended(run_id, patience)
        return int(state["type"] != "COMPLETED"), run_id, f"{state['name']}: {state['message']}"

    def cancel(self, run_id: str) -> None:
        """Cancel a flow run, as the UI and the command line do."""
        self.api("POST", f"/flow_runs/{run_id}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """One call of the REST API; its JSON. A busy SQLite answers 503 ("database is locked"): asked again."""
        url, key = f"{self.env['PREFECT_API_URL']}{path}", self.env["PREFECT_API_AUTH_STRING"]
        headers = {"Authorization": f"Basic {base64.b64encode(key.encode()).decode()}"}

        def answered() -> httpx.Response | None:
            found = httpx.request(method, url, json=body, timeout=60, headers=headers)
            return found if found.status_code != 503 else None

        answer = until(f"{method} {path}", answered)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def start(self, deployment: str, plan: dict[str, Any]) -> str:
        """Create a flow run, as the UI does; its id."""
        found = self.api("GET", f"/deployments/name/{deployment}")
        made = self.api("POST", f"/deployments/{found['id']}/create_flow_run", {"parameters": {"plan": plan}})
        return str(made["id"])

    # -- sight
    def run(self, run_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.api("GET", f"/flow_runs/{run_id}")
        return found

    def state(self, run_id: str) -> str:
        return str(self.run(run_id)["state"]["name"])

    def ended(self, run_id: str, patience: float = PATIENCE_S) -> dict[str, Any]:
        """Wait for a run's end; its state (`type`, `name`, `message`)."""

        def terminal() -> dict[str, Any] | None:
            state: dict[str, Any] = self.run(run_id)["state"]
            return state if state["type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED") else None

        return until(f"the end of flow run {run_id}", terminal, patience, pause=0.5)

    def pointer(self, tenant: str = "denoise", channel: str = "") -> Path:
        """What says which model a channel has in production; no channel: the corpus's own."""
        name = channel or named_after(str(self.corpus))
        return self.artifacts / "registry" / tenant / "channels" / f"{name}.json"

    def children(self, run_id: str) -> list[dict[str, Any]]:
        """Flow runs that another one started."""
        body = {"flow_runs": {"parent_flow_run_id": {"any_": [run_id]}}}
        return list(self.api("POST", "/flow_runs/filter", body))

    def log(self, run_id: str) -> str:
        """An ended run's log, as the UI shows it; lines arrive a little after they were written."""

        def whole() -> str | None:
            body = {"logs": {"flow_run_id": {"any_": [run_id]}}, "sort": "TIMESTAMP_ASC"}
            lines = self.api("POST", "/logs/filter", body)
            ended = any("Finished in state" in line["message"] for line in lines if line["task_run_id"] is None)
            return "\n".join(line["message"] for line in lines) if ended else None

        return until(f"the whole log of {run_id}", whole)

    def artifacts_of(self, run_id: str) -> dict[str, dict[str, Any]]:
        """A run's artifacts by their key."""
        body = {"artifacts": {"flow_run_id": {"any_": [run_id]}}, "limit": 200}
        return {row["key"]: row for row in self.api("POST", "/artifacts/filter", body)}

    def folder(self, run_id: str) -> Path:
        """A run's folder below the artifacts."""
        (found,) = self.artifacts.glob(f"*/*-{run_id[:8]}")
        return found

    def events(self, run_id: str, kind: str = "") -> list[dict[str, Any]]:
        """A run's audit records, of one kind or all."""
        lines = (self.folder(run_id) / "audit.jsonl").read_text().splitlines()
        return [record for record in map(json.loads, lines) if kind in ("", record["kind"])]

    # -- jobs
    def jobs(self, name: str = "") -> list[tuple[Entry, Path]]:
        """The journal's jobs whose name begins so, each with its folder."""
        journal = Journal(self.artifacts / "jobs")
        entries = [Entry.from_json(json.loads(path.read_text())) for path in journal.root.glob("jobs/*/*/journal.json")]
        return [(entry, journal.folder(entry.key)) for entry in entries if entry.spec["name"].startswith(name)]

    def job(self, run_id: str, name: str) -> tuple[Entry, Path]:
        """The job of that name in a run's audit log, whether the run submitted it, joined it or reused it."""
        told = {event["data"]["key"] for event in self.events(run_id) if event["data"].get("job") == name}
        (found,) = [one for one in self.jobs() if one[0].key in told]
        return found

    def job_started(self, run_id: str, name: str) -> tuple[Entry, Path]:
        """Wait until a run's job is at work on its node, and catch it there."""

        def working() -> tuple[Entry, Path] | None:
            found = [one for one in self.jobs(name) if one[0].owner == run_id and starts(one[1])]
            return found[0] if found else None

        return until(f"job {name} of {run_id} at work", working, pause=0.05)

    def job_keys(self) -> set[str]:
        return {entry.key for entry, _ in self.jobs()}

    def kill_flow(self, run_id: str) -> None:
        """kill -9 of the process that executes a flow run; its jobs, its runner and the server live on."""
        victims = [process for process in psutil.process_iter() if _executes(process, run_id)]
        assert victims, f"no process executes flow run {run_id}"
        for process in victims:
            process.kill()


def starts(folder: Path) -> list[dict[str, Any]]:
    """Every start of a job on its node."""
    return [record for record in _lines(folder / "starts.jsonl") if record["event"] == "start"]


def processes_below(folder: Path) -> list[psutil.Process]:
    """Live processes that work in a job's folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _executes(process: psutil.Process, run_id: str) -> bool:
    """Whether this is the flow run's own process: a job's keeper inherits the variable, but not the command line."""
    try:
        mine = process.environ().get("PREFECT__FLOW_RUN_ID") == run_id
        return mine and not any("tasks.slurm" in part for part in process.cmdline())
    except psutil.Error:
        return False


@contextmanager
def brought_up(env: dict[str, str], corpus: Path, output: Path, cwd: Path = ROOT, port: int = 0) -> Iterator[str]:
    """`gated up` in the project at `cwd`, until the block ends; its address. What it prints goes to `output`."""
    command = [sys.executable, "-m", "tasks.cli", "up", "--corpus", str(corpus), "--port", str(port)]
    with open(output, "wb") as stream:
        process = subprocess.Popen(command, cwd=cwd, env=env, stdout=stream, stderr=subprocess.STDOUT)
    try:

        def told() -> str | None:
            assert process.poll() is None, output.read_text()
            found = re.search(r"UI: (http://\S+)", output.read_text())
            return found[1] if found else None

        yield until("the house", told)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(90)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


@contextmanager
def house(folder: Path, corpus: Path) -> Iterator[Lab]:
    """`gated up` over `folder`, until the block ends."""
    crash_once = folder / "crashed-once"
    crash_once.touch()
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "GATED_"))},
        "PREFECT_HOME": str(folder / "prefect home"),
        "PREFECT_RUNNER_POLL_FREQUENCY": "2",
        "GATED_ARTIFACTS": str(folder / "artifacts"),
        "GATED_FAULT": "after_trigger",
        "GATED_FAULT_ONCE": str(crash_once),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
        "SERVICE_TOKEN": CANARY,
    }
    with brought_up(env, corpus, folder / "house.log", port=4317) as address:
        yield Lab(
            {
                **env,
                "PREFECT_API_URL": f"{address}/api",
                "PREFECT_API_AUTH_STRING": (folder / "prefect home" / "api-key").read_text().strip(),
                "PREFECT_CLI_PROMPT": "false",
            },
            corpus,
            folder / "artifacts",
            crash_once,
        )


def small_concept(folder: Path, **changes: Any) -> dict[str, Any]:
    """A plan of `concept/probe` that takes seconds: forty proteins a class, one layer, few refits."""
    data = ROOT / "data" / "concept"
    folder.mkdir(parents=True, exist_ok=True)
    for kind in ("pos", "neg"):
        rows = (data / f"c2h2_mini_{kind}.jsonl").read_text().splitlines()[:40]
        (folder / f"{kind}.jsonl").write_text("\n".join(rows) + "\n")
    registry = data / "models" / "model_registry.yaml"
    config = folder / "config.yaml"
    config.write_text(f"""
model: {{name: house_esm2, layers: [4]}}
paths: {{positives: pos.jsonl, negatives: neg.jsonl, model_registry: {registry}, output: out}}
embedding: {{context: 96}}
data: {{folds: 3}}
cav: {{random_cavs: 2, null_refits: 19}}
evaluation: {{bootstrap: 50, heatmaps: 4}}
detection: {{longest: 500}}
""")
    return {"config": str(config), "changes": changes}
