"""The server's key, port and papers, as far as they can be seen without a server; with one: tests/flows."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from fastapi import Body, FastAPI
from fastapi.testclient import TestClient
from prefect.server.api.dependencies import LimitBody

from deployments import server
from deployments.server import Address


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_key_is_random_kept_and_for_its_owner_alone(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    for folder in (first, second):
        folder.mkdir()
    old = os.umask(0)  # whatever the shell says
    try:
        key = server.key_of(first)
    finally:
        os.umask(old)
    assert mode(first / server.KEY) == 0o600
    assert server.key_of(first) == key
    assert len(key) >= 32
    assert server.key_of(second) != key


def test_the_server_takes_the_nulls_that_prefects_own_client_sends() -> None:
    """`prefect deployment ls` and `flow-run ls` send `"limit": null`; FastAPI from 0.151 on answers 422."""
    app = FastAPI()

    @app.post("/filter")
    def read(limit: int = LimitBody(), offset: int = Body(0, ge=0)) -> list[int]:
        return [limit, offset]

    assert TestClient(app).post("/filter", json={"limit": None}).json() == [200, 0]


@pytest.mark.parametrize("spoilt", ["others may read it", "a link", "empty"])
def test_a_key_that_others_may_know_is_refused(tmp_path: Path, spoilt: str) -> None:
    path = tmp_path / server.KEY
    if spoilt == "a link":
        path.symlink_to(tmp_path / "theirs")
        (tmp_path / "theirs").write_text("known\n")
    else:
        path.write_text("known\n" if spoilt != "empty" else "")
        path.chmod(0o600 if spoilt == "empty" else 0o644)
    with pytest.raises(ValueError, match=r"remove it, a new one is made"):
        server.key_of(tmp_path)


def test_two_users_have_two_ports() -> None:
    assert server.own_port(1000) == 4200
    assert len({server.own_port(user) for user in range(1000, 3000)}) == 2000
    assert 1024 < server.own_port(4_000_000) < 65536


def test_a_port_that_is_taken_gives_another() -> None:
    with_one = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    try:
        assert server.free_port(with_one.server_port) != with_one.server_port
    finally:
        with_one.server_close()


def test_a_port_is_promised_until_its_server_binds_it() -> None:
    """Two houses that start within seconds of each other: a server needs ten to bind its port."""
    mine = server.free_port(0)
    ask = f"from deployments import server; print(server.free_port({mine}))"
    other = subprocess.run([sys.executable, "-c", ask], cwd=server.ROOT, capture_output=True, text=True, check=True)
    assert int(other.stdout) != mine
    assert server.free_port(mine) == mine  # for the house that was promised it


def test_another_terminal_finds_address_and_key_and_nobody_else_does(tmp_path: Path) -> None:
    address = Address("http://127.0.0.1:1/api", server.key_of(tmp_path))
    shell = server.announce(tmp_path, address)
    assert mode(shell) == 0o600
    typed = f"source '{shell}'; echo $PREFECT_API_URL $PREFECT_API_AUTH_STRING"
    done = subprocess.run(["bash", "-c", typed], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [address.api, address.key]
    assert address.key not in (tmp_path / server.ADDRESS).read_text()
    server.withdraw(tmp_path)
    assert not shell.exists()


def test_an_address_that_nobody_answers_at_is_no_house(tmp_path: Path) -> None:
    assert server.standing(tmp_path) is None
    server.announce(tmp_path, Address("http://127.0.0.1:1/api", server.key_of(tmp_path)))
    assert server.standing(tmp_path) is None


def test_somebody_elses_server_on_our_port_is_not_taken_for_ours() -> None:
    """It answers, and would be given the key."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            body = json.dumps("3.8.8").encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    theirs = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=theirs.serve_forever)
    thread.start()
    sleeper = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        address = Address(f"http://127.0.0.1:{theirs.server_port}/api", "secret")
        assert server.healthy(address, os.getpid())  # here, it is this process that listens
        asked.clear()
        assert not server.healthy(address, sleeper.pid)
        assert asked == [], "the key was sent to a stranger"
    finally:
        sleeper.kill()
        sleeper.wait()
        theirs.shutdown()
        thread.join()
        theirs.server_close()


def test_the_key_is_in_no_command_line_and_only_the_server_asks_for_it(tmp_path: Path) -> None:
    address = Address("http://127.0.0.1:4200/api", "secret")
    env = server.environment(tmp_path, address, "data/mini")
    assert "secret" not in " ".join(server.command(address))
    assert "PREFECT_SERVER_API_AUTH_STRING" not in env
    assert server.server_environment(env, address)["PREFECT_SERVER_API_AUTH_STRING"] == "secret"
