"""Processes that live and die with this one, each with its output in a log file of its own."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

PATIENCE_S = 25.0  # for a child that was told to end: a runner withdraws its runs' jobs first


def _die_with_parent() -> None:
    """Children end when this process is killed, however (Linux: PR_SET_PDEATHSIG)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)


@contextmanager
def child(command: Sequence[str], env: Mapping[str, str], cwd: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A supervised process, its output appended to `log`; ended with its group, and waited for."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as output:
        process = subprocess.Popen(
            command, env=env, cwd=cwd, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            preexec_fn=_die_with_parent,
        )  # fmt: skip
    try:
        yield process
    finally:
        for sign, patience in ((signal.SIGTERM, PATIENCE_S), (signal.SIGKILL, 5.0)):
            if process.poll() is None:
                os.killpg(process.pid, sign)
                try:
                    process.wait(patience)
                except subprocess.TimeoutExpired:
                    continue


def wait_for(
    what: str, ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, seconds: float = 180
) -> None:
    """Poll until `ready()`; a process that died or a deadline passed is an error that shows its log's end."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if ready():
                return
        except OSError:
            pass
        time.sleep(0.3)
    tail = "\n".join(line[:200] for line in log.read_text(errors="replace").splitlines()[-15:])
    state = f"ended with {process.returncode}" if process.poll() is not None else f"not ready after {seconds:.0f} s"
    raise SystemExit(f"{what} {state}; the end of {log}:\n{tail}")
