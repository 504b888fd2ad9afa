"""Fixtures: the fake Slurm for what the real one cannot be made to do, and the real one (marker `slurm`)."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))  # dispatch_lab, and slurm_jobs, which snapshots carry along

from dispatch_lab import Lab

from tasks.slurm.snapshot import Snapshot

LAB = Path(__file__).resolve().parents[3] / "slurm_templates" / "lab"


@pytest.fixture
def quick_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: journals are forced onto the disk, which costs a busy disk a lot."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def code(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """One snapshot for all fast tests."""
    return Snapshot.take(tmp_path_factory.mktemp("code"), ["slurm_jobs"])


@pytest.fixture
def lab(quick_folder: Path, code: Snapshot) -> Lab:
    return Lab(quick_folder, code)


@dataclass(frozen=True)
class Cluster:
    """A real Slurm of the tests' own."""

    root: Path
    environment: dict[str, str]

    def run(self, *command: str) -> str:
        """Run a program against it; its output."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=120, check=False)
        return done.stdout + done.stderr

    def lab(self, script: str, *arguments: str) -> str:
        """Run one of slurm_templates/lab."""
        return self.run(str(LAB / script), *arguments)

    def kill(self, daemon: str, number: int = 15) -> None:
        """Signal a daemon and wait for its end."""
        pid = int((self.root / "run" / f"{daemon}.pid").read_text())
        os.kill(pid, number)
        deadline = time.time() + 20
        while Path(f"/proc/{pid}").exists() and time.time() < deadline:
            time.sleep(0.05)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Four nodes with accounting, in a folder with a space in its name."""
    root = tmp_path_factory.mktemp("real") / "test cluster"
    environment = {**os.environ, "SLURM_ROOT": str(root), "SLURM_DBD": "1", "SLURM_NODES": "4"}
    up = subprocess.run([str(LAB / "slurm-up.sh")], env=environment, capture_output=True, text=True, check=False)
    if up.returncode != 0:
        pytest.fail(f"slurm-up.sh: {up.stdout}{up.stderr}")
    found = subprocess.run(
        ["bash", "-c", f". '{LAB}/common.sh'; echo $SLURM_CONF"], env=environment, capture_output=True, text=True
    )
    patch = pytest.MonkeyPatch()
    environment["SLURM_CONF"] = found.stdout.strip()
    environment["GATED_POLL_DIR"] = str(tmp_path_factory.mktemp("poll"))
    for name in ("SLURM_CONF", "GATED_POLL_DIR"):
        patch.setenv(name, environment[name])
    yield Cluster(root, environment)
    subprocess.run([str(LAB / "slurm-down.sh"), "--wipe"], env=environment, capture_output=True, check=False)
    patch.undo()


@contextmanager
def small_cluster(folder: Path, extra: str) -> Iterator[None]:
    """One node without accounting, with further lines in its slurm.conf; this process's Slurm as long as it lasts."""
    root = folder / "bare"
    environment = {
        "SLURM_ROOT": str(root), "SLURM_DBD": "0", "SLURM_NODES": "1", "SLURM_EXTRA": extra,
        "SLURM_CONF": str(root / "slurm.conf"), "GATED_POLL_DIR": str(folder / "poll"),
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        up = subprocess.run([str(LAB / "slurm-up.sh")], capture_output=True, text=True, check=False)
        assert up.returncode == 0, up.stderr
        try:
            yield
        finally:
            subprocess.run([str(LAB / "slurm-down.sh"), "--wipe"], capture_output=True, check=False)
