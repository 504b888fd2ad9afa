"""A house: a Prefect server and the process that serves every tenant's deployments, kept up together.

It knows neither flow nor study: what is served is what `deployments/tenants/` declares.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from subprocess import Popen

import psutil

from deployments import server
from deployments.children import child, wait_for
from deployments.server import ROOT, Address
from deployments.tenancy import TAG, served

Tell = Callable[[str], None]


@dataclass
class House:
    """A Prefect server and the deployments that it knows, up until `stack` is closed; `env` talks to them."""

    home: Path
    address: Address
    env: dict[str, str]
    stack: ExitStack
    tell: Tell
    running: dict[str, Popen[bytes]] = field(default_factory=dict)
    deaf: bool = False  # the runner lost its server once

    def log(self, name: str) -> Path:
        """Where a child's output is."""
        return self.home / f"{name}.log"

    def start_server(self) -> None:
        env = server.server_environment(self.env, self.address)
        self._start("server", server.command(self.address), env)

    def await_server(self) -> None:
        """Raises SystemExit with the end of its log when it does not come up."""
        process = self.running["server"]
        ready = lambda: server.healthy(self.address, process.pid)  # noqa: E731
        wait_for("the Prefect server", ready, process, self.log("server"))

    def serve(self) -> None:
        """Start the process that serves the deployments, and wait until the server has them all."""
        since, wanted = datetime.now(UTC), len(list(served()))
        serving = self._start("serve", [sys.executable, "-m", "deployments.serve"], self.env)
        ready = lambda: _registered(self.address, since) >= wanted  # noqa: E731
        wait_for("the deployments", ready, serving, self.log("serve"))

    def _start(self, name: str, command: list[str], env: dict[str, str]) -> Popen[bytes]:
        self.running[name] = self.stack.enter_context(child(command, env, ROOT, self.log(name)))
        return self.running[name]

    def settle(self, seconds: float = 15.0) -> None:
        """Wait until no run's process is left: one that is ended right after its run makes it a cancelled one."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and psutil.Process(self.running["serve"].pid).children():
            time.sleep(0.1)

    def mend(self) -> None:
        """Start again whichever of the two died; runs and jobs that are under way go on meanwhile.

        Prefect's runner never hears of cancellations again once it lost its server: it is replaced as well, as soon
        as no run hangs on it.
        """
        server_process, serving = self.running["server"], self.running["serve"]
        if server_process.poll() is not None:
            self._again("the Prefect server", "server", self._server_again)
            self.deaf = True
            self.tell("until the runs under way have ended, withdraw them with: gated cancel")
        if serving.poll() is not None:
            self._again("the process that serves the deployments", "serve", self.serve)
            self.deaf = False
        elif self.deaf and not psutil.Process(serving.pid).children():
            serving.terminate()
            serving.wait(25)
            self.serve()
            self.deaf = False
            self.tell("new runs can be cancelled in the web page again")

    def _server_again(self) -> None:
        self.start_server()
        self.await_server()

    def _again(self, what: str, name: str, start: Callable[[], None]) -> None:
        self.tell(f"{what} ended ({self.running[name].poll()}), see {self.log(name)}: starting it again")
        start()
        self.tell(f"{what} is back")


def _registered(address: Address, since: datetime) -> int:
    """Deployments that are served now; those of an earlier house are still there, with the schema of that day."""
    found = address.ask("/deployments/filter", {"deployments": {"tags": {"all_": [TAG]}}})
    ready = [row for row in found if row.get("status") == "READY"]
    return len([row for row in ready if datetime.fromisoformat(row["updated"]) >= since])


@contextmanager
def house(corpus: str, port: int, tell: Tell, meanwhile: Callable[[], None] = lambda: None) -> Iterator[House]:
    """Server and deployments, ready when this yields; `meanwhile` is work to do while the server comes up."""
    home = server.home()
    address = Address(f"http://127.0.0.1:{server.free_port(port)}/api", server.key_of(home))
    with ExitStack() as stack:
        made = House(home, address, server.environment(home, address, corpus), stack, tell)
        made.start_server()
        meanwhile()
        made.await_server()
        made.serve()
        server.announce(home, address)
        stack.callback(server.withdraw, home)
        yield made
