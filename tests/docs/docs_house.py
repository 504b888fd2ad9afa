"""A house as the guide brings it up: `make up` in a copy of the project, on PostgreSQL where it is installed."""

from __future__ import annotations

import base64
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from docs_commands import of

PATIENCE_S = 240.0
COMMAND_S = 900.0  # a run that trains, on a busy machine


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Postgres:
    """A running PostgreSQL server: what libpq's own programs need to reach it."""

    env: dict[str, str]

    def query(self, text: str) -> list[str]:
        command = ["psql", "-AtX", "-d", "prefect", "-c", text]
        done = subprocess.run(command, env={**os.environ, **self.env}, capture_output=True, text=True, check=True)
        return done.stdout.split()

    def address(self, command: str) -> str:
        """The guide's line with this server's own user, password and place."""
        env = self.env
        return (
            command.replace("USER", env["PGUSER"])
            .replace("PASSWORD", env["PGPASSWORD"])
            .replace("HOST:5432", f"{env['PGHOST']}:{env['PGPORT']}")
        )


def postgres_programs() -> Path | None:
    """Folder of initdb and pg_ctl, newest version first; Debian keeps them off the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]), reverse=True)
    on_path = shutil.which("initdb")
    return found[0].parent if found else Path(on_path).parent if on_path else None


@contextmanager
def postgres(programs: Path) -> Iterator[Postgres]:
    """A server of its own in a temporary folder, with a password; as another user where this one is root."""
    other = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    env = {"PGHOST": "127.0.0.1", "PGPORT": str(free_port()), "PGUSER": "keeper", "PGPASSWORD": "s3cret"}
    with tempfile.TemporaryDirectory(prefix="pg-") as name:
        folder = Path(name)
        (folder / "password").write_text(env["PGPASSWORD"])
        if other:
            shutil.chown(folder, "postgres")
            shutil.chown(folder / "password", "postgres")

        def run(program: str, *arguments: str) -> None:
            command = [*other, str(programs / program), "-D", str(folder / "data"), *arguments]
            done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr

        run("initdb", "--username", env["PGUSER"], "--pwfile", str(folder / "password"), "--auth", "scram-sha-256",
            "--no-sync", "--encoding", "UTF8", "--locale", "C")  # fmt: skip
        options = f"-c listen_addresses=127.0.0.1 -p {env['PGPORT']} -k {folder} -c fsync=off"
        run("pg_ctl", "-w", "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield Postgres(env)
        finally:
            run("pg_ctl", "-m", "immediate", "stop")


@dataclass
class House:
    """A house that is up, and what came of each command of the guide that was typed into it."""

    copy: Path
    env: dict[str, str]
    database: Postgres | None
    printed: str
    typed: dict[str, subprocess.CompletedProcess[str]] = field(default_factory=dict)

    def api(self, method: str, path: str, body: Any = None) -> Any:
        key = base64.b64encode(self.env["PREFECT_API_AUTH_STRING"].encode()).decode()
        url, headers = f"{self.env['PREFECT_API_URL']}{path}", {"Authorization": f"Basic {key}"}
        answer = httpx.request(method, url, json=body, timeout=60, headers=headers)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def type(self, command: str) -> None:
        """Run one command of the guide as it stands there; `<run>` is the first warm start's folder."""
        literal = command
        if "<run>" in command:
            run = next(
                path.parent.name for path in sorted(self.copy.glob("artifacts/act-of-god/*/auditors_bundle.zip"))
            )
            literal = command.replace("<run>", run)
        self.typed[command] = subprocess.run(
            ["bash", "-c", literal], cwd=self.copy, env=self.env, capture_output=True, text=True, timeout=COMMAND_S,
            check=False,
        )  # fmt: skip

    def make_small(self, deployment: str, plan: dict[str, Any]) -> None:
        """Give a deployment defaults that take seconds: its command in the guide names no plan."""
        found = self.api("GET", f"/deployments/name/{deployment}")
        self.api("PATCH", f"/deployments/{found['id']}", {"parameters": {"plan": plan}})

    def cancel_what_runs(self) -> None:
        """Withdraw runs that a command started on the side (Act B), so that no job outlives the house."""
        busy = {"flow_runs": {"state": {"type": {"any_": ["RUNNING", "PENDING", "SCHEDULED", "CANCELLING"]}}}}
        cancelling = {"state": {"type": "CANCELLING", "name": "Cancelling"}, "force": True}
        for run in self.api("POST", "/flow_runs/filter", busy):
            self.api("POST", f"/flow_runs/{run['id']}/set_state", cancelling)
        deadline = time.monotonic() + 60
        while self.api("POST", "/flow_runs/filter", busy) and time.monotonic() < deadline:
            time.sleep(0.5)


@contextmanager
def house(copy: Path) -> Iterator[House]:
    """`make up`, preceded by the guide's PostgreSQL lines where PostgreSQL is installed, until the block ends."""
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "GATED_", "PG"))},
        "PYTHONPATH": str(copy),
        "GATED_PORT": str(free_port()),
        "PREFECT_RUNNER_POLL_FREQUENCY": "2",
        "PREFECT_CLI_PROMPT": "false",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
    }
    programs = postgres_programs()
    with ExitStack() as stack:
        database = stack.enter_context(postgres(programs)) if programs else None
        lines = ["make up"]
        if database:
            env |= database.env
            before = [command for command in of("in a house") if "createdb" in command or "DATABASE" in command]
            assert len(before) == 2
            lines = [*map(database.address, before), *lines]
        log = copy / "up.log"
        with open(log, "wb") as output:
            process = subprocess.Popen(
                ["bash", "-ec", "\n".join(lines)], cwd=copy, env=env, stdout=output, stderr=subprocess.STDOUT,
                start_new_session=True, preexec_fn=_hear_ctrl_c,
            )  # fmt: skip
        stack.callback(_end, process)
        printed = _printed(process, log)
        told = (copy / ".prefect" / "env.sh").read_text()  # as `source` reads it
        named = dict(re.findall(r"^export (\w+)=(\S+)$", told, re.MULTILINE))
        assert named.keys() == {"PREFECT_API_URL", "PREFECT_API_AUTH_STRING"}, told
        env = {name: value for name, value in env.items() if not name.startswith("PG")}
        up = House(copy, {**env, **named}, database, printed)
        try:
            yield up
        finally:
            up.cancel_what_runs()


def _printed(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        printed = log.read_text()
        assert process.poll() is None, printed
        if "source .prefect/env.sh" in printed:
            return printed
        time.sleep(0.25)
    raise AssertionError(f"make up: not ready within {PATIENCE_S:.0f} s:\n{log.read_text()}")


def _hear_ctrl_c() -> None:
    """As in a terminal: tests that are run in the background inherit that Ctrl-C is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ctrl-C, as in a terminal: every process of the group gets it."""
    os.killpg(process.pid, signal.SIGINT)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
