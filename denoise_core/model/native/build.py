"""Compile a C++ source of this folder once per machine, with the system's compiler, into the user's cache.

The library's name is the hash of source, compiler, flags and CPU, so that a shared home serves unlike nodes. It is
compiled under a temporary name and renamed, so that concurrent first builds each end with a whole file.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCES = Path(__file__).parent
FLAGS = ("-std=c++17", "-O3", "-shared", "-fPIC", "-pthread")
COMPILERS = ("g++", "c++", "clang++")
TIMEOUT_S = 120


class BuildFailed(RuntimeError):
    """No library; the message says why in one line."""


def load_library(source: str) -> ctypes.CDLL:
    """The compiled library of `source`, built if need be. BuildFailed when this machine cannot."""
    compiler = find_compiler()
    path = cache_folder() / library_name(SOURCES / source, compiler)
    if not path.exists():
        build(SOURCES / source, compiler, path)
    try:
        return ctypes.CDLL(str(path))
    except OSError:  # a damaged file in the cache
        build(SOURCES / source, compiler, path)
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise BuildFailed(f"{path} cannot be loaded: {error}") from error


def find_compiler() -> str:
    """Full path of the C++ compiler: $CXX, else the first of g++, c++, clang++."""
    asked = os.environ.get("CXX")
    for name in (asked,) if asked else COMPILERS:
        found = shutil.which(name)
        if found:
            return found
    raise BuildFailed(f"no C++ compiler ({asked or ', '.join(COMPILERS)}) on PATH")


def cache_folder() -> Path:
    """$XDG_CACHE_HOME or ~/.cache, then `gated-training`; a private temporary folder where that is not writable."""
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gated-training"
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except (OSError, RuntimeError):
        pass
    return Path(tempfile.mkdtemp(prefix="gated-training-"))


def library_name(source: Path, compiler: str) -> str:
    """File name that changes with source, compiler version, flags and CPU."""
    version = _run([compiler, "--version"]).stdout
    parts = [source.read_bytes(), compiler.encode(), version.encode(), " ".join(FLAGS).encode(), cpu().encode()]
    digest = hashlib.sha256(b"\0".join(parts)).hexdigest()
    return f"{source.stem}-{digest[:24]}.so"


def cpu() -> str:
    """Architecture and instruction sets: what -march=native depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    wanted = [line for line in lines if line.startswith(("model name", "flags", "Features"))]
    return "\n".join([platform.machine(), platform.processor(), *dict.fromkeys(wanted)])


def build(source: Path, compiler: str, target: Path, march: str = "native") -> None:
    """Compile for `march` (or, where the compiler does not know it, for its default) and rename into place."""
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.stem}.", suffix=".so")
    os.close(handle)
    try:
        result = _run([compiler, *FLAGS, f"-march={march}", str(source), "-o", temporary])
        if result.returncode:
            result = _run([compiler, *FLAGS, str(source), "-o", temporary])
        if result.returncode:
            first = (result.stderr.strip() or "no message").splitlines()[0]
            raise BuildFailed(f"{compiler} failed: {first}")
        os.replace(temporary, target)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildFailed(f"{command[0]}: {error}") from error
