"""The house's server on a machine with other people: without the key it tells nothing and takes nothing."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest
from flow_lab import Lab

pytestmark = pytest.mark.prefect
NOBODY = 65534
ASK = """
import asyncio, json, sys, urllib.error, urllib.request
api, key_file, deployment = sys.argv[1:]
said = {}
for name, path, body in (
    ("read", "/flow_runs/filter", b"{}"),
    ("run", f"/deployments/{deployment}/create_flow_run", b"{}"),
    ("settings", "/admin/settings", None),
):
    request = urllib.request.Request(api + path, data=body, headers={"Content-Type": "application/json"})
    try:
        said[name] = urllib.request.urlopen(request, timeout=30).status
    except urllib.error.HTTPError as error:
        said[name] = error.code
try:
    said["key"] = open(key_file).read()
except PermissionError:
    said["key"] = "refused"
print(json.dumps(said))
"""


def authorised(key: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(key.encode()).decode()}"}


def test_another_users_request_is_refused(lab: Lab) -> None:
    """Asked as the user nobody where this test may become one; anywhere, without the key."""
    before = lab.api("POST", "/flow_runs/count", {})
    deployment = lab.api("GET", "/deployments/name/panel-qa/audit")["id"]
    key_file = Path(lab.env["PREFECT_HOME"]) / "api-key"
    root = os.getuid() == 0
    done = subprocess.run(
        ["python3" if root else sys.executable, "-c", ASK, lab.env["PREFECT_API_URL"], str(key_file), deployment],
        user=NOBODY if root else None, cwd="/", capture_output=True, text=True, check=True,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin"},
    )  # fmt: skip
    said = json.loads(done.stdout)
    assert {said["read"], said["run"], said["settings"]} == {401}
    if root:
        assert said["key"] == "refused"
    assert lab.api("POST", "/flow_runs/count", {}) == before


def test_a_wrong_key_is_refused_and_the_health_check_needs_none(lab: Lab) -> None:
    api = lab.env["PREFECT_API_URL"]
    assert httpx.post(f"{api}/flow_runs/filter", json={}, headers=authorised("admin:pass")).status_code == 401
    assert httpx.get(f"{api}/health").json() is True


def test_events_are_not_taken_from_strangers(lab: Lab) -> None:
    """An event could start what an automation starts."""
    from websockets.exceptions import ConnectionClosed, InvalidStatus
    from websockets.sync.client import connect
    from websockets.typing import Subprotocol

    address = f"{lab.env['PREFECT_API_URL'].replace('http', 'ws')}/events/in"

    def say(text: str, *protocols: Subprotocol) -> None:
        with connect(address, subprotocols=protocols or None, open_timeout=30) as stream:
            stream.send(text)
            stream.recv(timeout=30)

    with pytest.raises((ConnectionClosed, InvalidStatus)):
        say("{}")
    with pytest.raises(ConnectionClosed):
        say(json.dumps({"type": "auth", "token": "guess"}), Subprotocol("prefect"))


def test_no_page_of_another_origin_may_read_an_answer(lab: Lab) -> None:
    headers = {**authorised(lab.env["PREFECT_API_AUTH_STRING"]), "Origin": "http://elsewhere.example"}
    answer = httpx.get(f"{lab.env['PREFECT_API_URL']}/admin/version", headers=headers)
    assert answer.is_success
    assert "access-control-allow-origin" not in answer.headers


def test_no_command_line_shows_the_key(lab: Lab) -> None:
    key = lab.env["PREFECT_API_AUTH_STRING"]
    for process in psutil.process_iter():
        try:
            assert key not in " ".join(process.cmdline())
        except psutil.Error:
            continue
