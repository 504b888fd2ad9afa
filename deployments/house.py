"""The embedded default: one process that starts the Prefect server and the deployments, and stops both.

`up` keeps them running until Ctrl-C. `run` adds the main job: the corpus if missing, fold 02 if it has no
checkpoint, `act-of-god/warm-start --watch`, the verdict on the terminal; then everything is stopped.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from deployments.watching import Watched
from tasks.terminal import BAD_INPUT, Parser
from tasks.terminal import run as run_command

ROOT = Path(__file__).resolve().parent.parent
FOLD_02 = "checkpoints/prod/Track_H_fold_02/mamba_tiny_uv_best.pt"
DEFAULT_CORPUS = "data/mini"
DEPLOYMENTS = 6
console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 140)
aside = Console(stderr=True, quiet=not sys.stderr.isatty())  # what moves; nothing of it in a pipe


def environment(port: int, corpus: str) -> dict[str, str]:
    """Variables of every child: a Prefect home inside the project, no telemetry, this server's address."""
    home = Path(os.environ.get("PREFECT_HOME", ROOT / ".prefect"))
    # Prefect's runner keeps a folder of one fixed name among the temporary files: another user's would be in the way.
    temporary = Path(tempfile.gettempdir()) / f"gated-{os.getuid()}"
    temporary.mkdir(parents=True, exist_ok=True)
    return {
        **os.environ,
        "PREFECT_HOME": str(home),
        "TMPDIR": str(temporary),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_CLI_PROMPT": "false",
        "PREFECT_LOGGING_SERVER_LEVEL": "ERROR",
        "GATED_CORPUS": corpus,
        "PYTHONUNBUFFERED": "1",
    }


def _free_port(wanted: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # else a house that just ended keeps its port
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _die_with_parent() -> None:
    """Children end when this process is killed, however (Linux: PR_SET_PDEATHSIG)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)


@contextmanager
def child(name: str, command: Sequence[str], env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A supervised process, its output in `.prefect/NAME.log`; ended with its group, and waited for."""
    log = Path(env["PREFECT_HOME"]) / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as output:
        process = subprocess.Popen(
            command, env=env, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            preexec_fn=_die_with_parent,
        )  # fmt: skip
    try:
        yield process
    finally:
        for sign, patience in ((signal.SIGTERM, 25.0), (signal.SIGKILL, 5.0)):
            if process.poll() is None:
                os.killpg(process.pid, sign)
                try:
                    process.wait(patience)
                except subprocess.TimeoutExpired:
                    continue


def wait_for(what: str, ready: object, process: subprocess.Popen[bytes], log: Path, seconds: float = 120) -> None:
    """Poll until `ready()`; a process that died or a deadline passed is an error that shows its log's end."""
    assert callable(ready)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            if ready():
                return
        except OSError:
            pass
        time.sleep(0.3)
    tail = "\n".join(line[:200] for line in log.read_text(errors="replace").splitlines()[-15:])
    state = f"ended with {process.returncode}" if process.poll() is not None else f"not ready after {seconds:.0f} s"
    raise SystemExit(f"{what} {state}; the end of {log}:\n{tail}")


def _post(url: str, body: object) -> object:
    request = urllib.request.Request(
        url, data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=5) as answer:
        return json.load(answer)


def _get(url: str) -> object:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return json.load(answer)


def _healthy(api: str) -> bool:
    return _get(f"{api}/health") is True


def _registered(api: str, since: datetime) -> int:
    """Deployments that are served now; those of an earlier house are still there, with the schema of that day."""
    found = _post(f"{api}/deployments/filter", {})
    assert isinstance(found, list)
    ready = [row for row in found if row.get("status") == "READY"]
    return len([row for row in ready if datetime.fromisoformat(row["updated"]) >= since])


@dataclass
class House:
    """A Prefect server and the deployments that it knows, up until `stack` is closed; `env` talks to them."""

    env: dict[str, str]
    stack: ExitStack
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    deaf: bool = False  # the runner lost its server once

    def log(self, name: str) -> Path:
        return Path(self.env["PREFECT_HOME"]) / f"{name}.log"

    def start_server(self) -> None:
        port = self.env["PREFECT_API_URL"].removesuffix("/api").rpartition(":")[2]
        prefect = str(Path(sys.executable).with_name("prefect"))
        command = [prefect, "server", "start", "--host", "127.0.0.1", "--port", port]
        self.running["server"] = self.stack.enter_context(child("server", command, self.env))

    def await_server(self) -> None:
        api = self.env["PREFECT_API_URL"]
        wait_for("the Prefect server", lambda: _healthy(api), self.running["server"], self.log("server"))

    def _server_again(self) -> None:
        self.start_server()
        self.await_server()

    def serve(self) -> None:
        since, api = datetime.now(UTC), self.env["PREFECT_API_URL"]
        command = [sys.executable, "-m", "deployments.serve"]
        serving = self.running["serve"] = self.stack.enter_context(child("serve", command, self.env))
        wait_for("the deployments", lambda: _registered(api, since) >= DEPLOYMENTS, serving, self.log("serve"))

    def mend(self) -> None:
        """Start again whichever of the two died; runs and jobs that are under way go on meanwhile.

        Prefect's runner never hears of cancellations again once it lost its server: it is replaced as well, as soon
        as no run hangs on it.
        """
        server, serving = self.running["server"], self.running["serve"]
        if server.poll() is not None:
            self._again("the Prefect server", "server", self._server_again)
            self.deaf = True
            _tell("until the runs under way have ended, withdraw them with: python -m tasks.slurm cancel")
        if serving.poll() is not None:
            self._again("the process that serves the deployments", "serve", self.serve)
            self.deaf = False
        elif self.deaf and not psutil.Process(serving.pid).children():
            serving.terminate()
            serving.wait(25)
            self.serve()
            self.deaf = False
            _tell("new runs can be cancelled in the web page again")

    def _again(self, what: str, name: str, start: Callable[[], None]) -> None:
        _tell(f"{what} ended ({self.running[name].poll()}), see {self.log(name)}: starting it again")
        start()
        _tell(f"{what} is back")


def _tell(line: str) -> None:
    console.print(f"{datetime.now():%H:%M:%S}  {line}", markup=False, highlight=False)


@contextmanager
def house(corpus: str, port: int) -> Iterator[House]:
    """Server and deployments, ready when this yields."""
    with ExitStack() as stack:
        made = House(environment(_free_port(port), corpus), stack)
        with aside.status("bringing up the Prefect server and the deployments"):
            made.start_server()
            make_corpus(corpus)
            made.await_server()
            made.serve()
        yield made


def verify_corpus(corpus: str) -> None:
    """Any corpus but the default must be there; ValueError with the next step."""
    if corpus != DEFAULT_CORPUS and not (ROOT / corpus).is_dir():
        raise ValueError(f"{ROOT / corpus}: no such corpus; CORPUS=<folder in the seed's layout, or packed>")


def make_corpus(corpus: str) -> None:
    """The default corpus is generated where it is missing."""
    if (ROOT / corpus).exists():
        return
    console.print(f"Generating the synthetic corpus {corpus} …")
    command = [sys.executable, "-m", "denoise_core", "corpus", "--out", corpus, "--size", "mini", "--seed", "1"]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def deploy(env: dict[str, str], deployment: str, plan: dict[str, object]) -> tuple[int, str]:
    """`prefect deployment run … --watch`, retold line by line: the exit code and the flow run's id."""
    prefect = str(Path(sys.executable).with_name("prefect"))
    command = [prefect, "deployment", "run", deployment, "-p", f"plan={json.dumps(plan)}", "--watch"]
    console.print(f"[bold]prefect deployment run {deployment} --watch[/bold]")
    process = subprocess.Popen(
        command,
        env={**env, "COLUMNS": "400"},  # its lines stay whole
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with aside.status(deployment) as status:
        watched = Watched(
            say=lambda line: console.print(f"  {line}", markup=False, highlight=False),
            status=lambda text: status.update(escape((text or deployment)[: aside.width - 3])),  # one line
            artifact=lambda identifier: _artifact(env["PREFECT_API_URL"], identifier),
        )
        watched.follow(process.stdout)
    return process.wait(), watched.identifier


def _artifact(api: str, identifier: str) -> dict[str, Any]:
    """What a moving picture shows now; empty where the server is busy."""
    try:
        found = _get(f"{api}/artifacts/{identifier}")
    except OSError:
        return {}
    return found if isinstance(found, dict) else {}


def main_job(env: dict[str, str], corpus: str, as_json: bool = False) -> int:
    """Fold 02 where it has no checkpoint, then the warm start, then the verdict."""
    artifacts = Path(env.get("GATED_ARTIFACTS", ROOT / "artifacts"))
    if not _trained_on(artifacts / FOLD_02, corpus):
        code, identifier = deploy(env, "cross-validation/five-fold", {"corpus": corpus, "folds": [2]})
        if code:
            return no_verdict(env, identifier) or code
    code, identifier = deploy(env, "act-of-god/warm-start", {"corpus": corpus})
    folders = sorted(artifacts.glob(f"act-of-god/*-{identifier[:8]}"))
    if not folders or not (folders[0] / "verdict.json").exists():
        return no_verdict(env, identifier) or code or 1
    show_verdict(folders[0])
    if as_json:
        print((folders[0] / "verdict.json").read_text().strip())
    console.print(f"In the web page of `make up`: /runs/flow-run/{identifier}")
    return code


def no_verdict(env: dict[str, str], identifier: str) -> int:
    """Say in one line why a run ended without a verdict; 2 where its input could not be used, else 0."""
    state = {"name": "no flow run", "message": "it was not even created"}
    if identifier:
        found = _get(f"{env['PREFECT_API_URL']}/flow_runs/{identifier}")
        assert isinstance(found, dict)
        state = found["state"]
    told = " ".join(f"{state['name']}: {state['message']}; the run's log: {env['PREFECT_HOME']}/serve.log".split())
    print(f"error: {told}", file=sys.stderr)
    return BAD_INPUT if state["name"] == "BadInput" else 0


def _trained_on(checkpoint: Path, corpus: str) -> bool:
    """Whether fold 02 of this corpus is there already; a file that no campaign of ours placed counts as well."""
    receipt = checkpoint.with_suffix(".json")
    if not checkpoint.exists() or not receipt.exists():
        return checkpoint.exists()
    return Path(json.loads(receipt.read_text())["path"]) == (ROOT / corpus).resolve()


def show_verdict(folder: Path) -> None:
    """The gate table on the terminal, and where the report lies."""
    from study_core.verdict import read_verdict

    verdict = read_verdict(folder / "verdict.json")
    table = Table(title=verdict.sentence())
    for column in ("gate", "metric", "needs", "value", "verdict"):
        table.add_column(column)
    for row in verdict.table():
        value = "missing" if row["value"] is None else f"{row['value']:.5g}"
        colour = "green" if row["verdict"] == "pass" else "red"
        table.add_row(row["gate"], escape(row["metric"]), row["needs"], value, f"[{colour}]{row['verdict']}[/{colour}]")
    console.print(table)
    for name in ("report.html", "auditors_bundle.zip", "final_analytics/panel_eval", "audit.jsonl"):
        if (folder / name).exists():
            console.print(f"{folder / name}")


def _do(options: argparse.Namespace) -> int:
    console.stderr = options.json
    verify_corpus(options.corpus)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with house(options.corpus, options.port) as running:
        env = running.env
        console.print(f"UI: {env['PREFECT_API_URL'].removesuffix('/api')}")
        if options.what == "run":
            return main_job(env, options.corpus, options.json)
        console.print(
            f"export PREFECT_API_URL={env['PREFECT_API_URL']}   # then: prefect deployment run act-of-god/warm-start"
        )
        try:
            while True:
                time.sleep(1)
                running.mend()
        except KeyboardInterrupt:
            console.print("stopping")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of `run` (0 shipped, 1 refused or lost, 2 input that cannot be used) and `up`."""
    parser = Parser(prog="python -m deployments.house", description=__doc__)
    parser.add_argument("what", choices=("run", "up"), help="run: the main job, then stop; up: until Ctrl-C")
    parser.add_argument("--corpus", default=os.environ.get("GATED_CORPUS", DEFAULT_CORPUS), help="folder of the corpus")
    parser.add_argument("--port", type=int, default=int(os.environ.get("GATED_PORT", "4200")), help="of server and UI")
    parser.add_argument("--json", action="store_true", help="run: the verdict as JSON on standard output")
    return run_command(parser, _do, arguments)


if __name__ == "__main__":
    sys.exit(main())
