"""The embedded Prefect server: its place, its port, its key, and who may talk to it.

A server on 127.0.0.1 is open to every user of the machine, and whoever may create a flow run runs code as its owner.
So each house has a random key in a file that only its owner reads, asked for by every route but the health check;
no page of another origin may talk to it; and the port follows from the user's number, so that two users of one machine
do not meet.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import secrets
import shlex
import socket
import stat
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

from study_core.files import write_json, write_text

ROOT = Path(__file__).resolve().parent.parent
KEY, SHELL, ADDRESS = "api-key", "env.sh", "house.json"
FIRST_PORT, PORTS = 4200, 20_000
_PROMISES: dict[int, IO[str]] = {}


@dataclass(frozen=True)
class Address:
    """Where a server answers, and the key that it asks for."""

    api: str
    key: str

    @property
    def page(self) -> str:
        """The web page's address."""
        return self.api.removesuffix("/api")

    @property
    def variables(self) -> dict[str, str]:
        """What a Prefect client reads."""
        return {"PREFECT_API_URL": self.api, "PREFECT_API_AUTH_STRING": self.key}

    def ask(self, path: str, body: object = None) -> Any:
        """One call of the REST API, POST where there is a body; its JSON. Raises OSError where nobody answers."""
        token = base64.b64encode(self.key.encode()).decode()
        request = urllib.request.Request(
            f"{self.api}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Authorization": f"Basic {token}"},
        )
        with urllib.request.urlopen(request, timeout=5) as answer:
            return json.load(answer)


def home() -> Path:
    """The house's own folder (`PREFECT_HOME`, default `.prefect/`), closed to others: database, logs and key."""
    folder = Path(os.environ.get("PREFECT_HOME", ROOT / ".prefect"))
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    return folder


def key_of(folder: Path) -> str:
    """The house's key, made at the first call. Kept from then on: a browser stays logged in.

    Raises:
        ValueError: the file is not this user's own, or others may read it.
    """
    path = folder / KEY
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        status = path.lstat()
        if status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077 or not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path}: others may have read this key; remove it, a new one is made") from None
        found = path.read_text(encoding="ascii").strip()
        if not found:
            raise ValueError(f"{path}: empty; remove it, a new one is made") from None
        return found
    with os.fdopen(handle, "w", encoding="ascii") as file:
        key = secrets.token_urlsafe(24)
        file.write(f"{key}\n")
    return key


def own_port(user: int | None = None) -> int:
    """The port that follows from a user's number: 4200 for root and for the first user of most machines."""
    number = os.getuid() if user is None else user
    return FIRST_PORT + (max(number - 1000, 0) % PORTS)


def free_port(wanted: int) -> int:
    """The wanted port, or another where it is taken, or promised to a house that is only coming up.

    A server binds its port some ten seconds after it was told to start: until then a lock keeps it, held by this
    process to its end.
    """
    for port in (wanted, *([0] * 20)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # else a house that just ended keeps its port
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            found = int(probe.getsockname()[1])
        if _promised(found):
            return found
    raise ValueError("no free port on 127.0.0.1; name one: --port")


def _promised(port: int) -> bool:
    """Keep a port for this process; False where another process of this user keeps it."""
    if port in _PROMISES:
        return True
    folder = _temporary() / "ports"
    folder.mkdir(exist_ok=True)
    handle = open(folder / str(port), "a")  # noqa: SIM115  held to the end of the process
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.close()
        return False
    _PROMISES[port] = handle
    return True


def environment(folder: Path, address: Address, corpus: str) -> dict[str, str]:
    """Variables of every child: a Prefect home inside the project, no telemetry, this server's address and key."""
    return {
        **os.environ,
        **address.variables,
        "PREFECT_HOME": str(folder),
        "TMPDIR": str(_temporary()),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_CLI_PROMPT": "false",
        "PREFECT_LOGGING_SERVER_LEVEL": "ERROR",
        "GATED_CORPUS": corpus,
        "PYTHONUNBUFFERED": "1",
    }


def server_environment(env: Mapping[str, str], address: Address) -> dict[str, str]:
    """What the server alone gets: the key to ask for, and that no other origin's page may read its answers."""
    return {
        **env,
        "PREFECT_SERVER_API_AUTH_STRING": address.key,
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": address.page,
        "PREFECT_UI_API_URL": "/api",  # the page asks where it came from: through a tunnel, under any name
    }


def command(address: Address) -> list[str]:
    """Starts the server in the foreground; the key is in its environment, no command line shows it."""
    prefect = str(Path(sys.executable).with_name("prefect"))
    return [prefect, "server", "start", "--host", "127.0.0.1", "--port", address.page.rpartition(":")[2]]


def healthy(address: Address, process: int) -> bool:
    """Whether *our* server answers: the port is held by the process or its children, and it knows the key."""
    family = [psutil.Process(process), *psutil.Process(process).children(recursive=True)]
    port = int(address.page.rpartition(":")[2])
    held = any(
        one.laddr.port == port and one.status == psutil.CONN_LISTEN
        for member in family
        for one in member.net_connections(kind="tcp")
    )
    return held and isinstance(address.ask("/admin/version"), str)


def announce(folder: Path, address: Address) -> Path:
    """Leave the address for other terminals: a file to `source`, for its owner only, and one for `gated`; the first."""
    lines = [f"export {name}={shlex.quote(value)}" for name, value in address.variables.items()]
    path = folder / SHELL
    write_text(path, "\n".join(lines) + "\n")
    path.chmod(0o600)
    write_json(folder / ADDRESS, {"api": address.api, "process": os.getpid()})
    return path


def standing(folder: Path) -> Address | None:
    """The house that is up over this folder; None where there is none that answers to its key."""
    try:
        api = str(json.loads((folder / ADDRESS).read_text())["api"])
        found = Address(api, key_of(folder))
        return found if isinstance(found.ask("/admin/version"), str) else None
    except (OSError, ValueError, KeyError, TypeError, urllib.error.URLError):
        return None


def withdraw(folder: Path) -> None:
    """The house is going: nobody is sent there any more."""
    for name in (ADDRESS, SHELL):
        (folder / name).unlink(missing_ok=True)


def _temporary() -> Path:
    """Prefect's runner keeps a folder of a fixed name among the temporary files: another user's would be in the way."""
    folder = Path(tempfile.gettempdir()) / f"gated-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        if status.st_uid == os.getuid() and stat.S_ISDIR(status.st_mode):
            folder.chmod(0o700)
            return folder
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix=f"gated-{os.getuid()}-"))  # somebody else sits on the name
