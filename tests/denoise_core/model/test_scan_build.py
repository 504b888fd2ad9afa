"""Building the compiled scan: concurrent first builds, damage, machines without a compiler, other instruction sets."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from denoise_core.model import scan_native
from denoise_core.model.native import build
from denoise_core.model.scan import selective_scan

needs_native = pytest.mark.skipif(scan_native.why_not() is not None, reason=f"native scan: {scan_native.why_not()}")
CHOOSE = (
    "import torch; from denoise_core.model.scan import resolve_backend; "
    "print(resolve_backend('auto', torch.device('cpu')))"
)


def choose(cache: Path, **environment: str) -> subprocess.Popen[str]:
    """A fresh process that prints the backend it chose."""
    clean = {key: value for key, value in os.environ.items() if key not in ("CXX", "GATED_SCAN_BACKEND")}
    return subprocess.Popen(
        [sys.executable, "-c", CHOOSE],
        env={**clean, "XDG_CACHE_HOME": str(cache), **environment},
        cwd=Path(__file__).parents[3],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@needs_native
@pytest.mark.slow
def test_concurrent_first_builds_end_with_one_whole_library(tmp_path: Path) -> None:
    processes = [choose(tmp_path) for _ in range(3)]
    answers = [process.communicate(timeout=120) for process in processes]
    assert [out.strip() for out, _ in answers] == ["native"] * 3, answers
    left = list((tmp_path / "gated-training").iterdir())
    assert len(left) == 1, left
    assert left[0].suffix == ".so"


def test_no_compiler_means_blocked(tmp_path: Path) -> None:
    out, err = choose(tmp_path, PATH=str(tmp_path)).communicate(timeout=120)
    assert out.strip() == "blocked", err


def test_a_compiler_that_fails_means_blocked(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\n[ \"$1\" = --version ] && exit 0\necho 'no such luck' >&2; exit 1\n")
    broken.chmod(0o755)
    out, err = choose(tmp_path, CXX=str(broken)).communicate(timeout=120)
    assert out.strip() == "blocked", err
    assert [path.name for path in (tmp_path / "gated-training").iterdir()] == []  # nothing half-built stays


@needs_native
def test_a_damaged_library_is_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    name = build.library_name(build.SOURCES / "scan.cpp", build.find_compiler())
    damaged = tmp_path / "gated-training" / name
    damaged.parent.mkdir()
    damaged.write_bytes(b"\x7fELF and nothing else")
    assert build.load_library("scan.cpp").scan_steps() == 16


def test_the_name_changes_with_source_and_compiler(tmp_path: Path) -> None:
    source = tmp_path / "a.cpp"
    source.write_text("int f() { return 1; }")
    one = build.library_name(source, sys.executable)
    source.write_text("int f() { return 2; }")
    two = build.library_name(source, sys.executable)
    link = tmp_path / "other"
    link.symlink_to(sys.executable)
    assert len({one, two, build.library_name(source, str(link))}) == 3


@needs_native
@pytest.mark.parametrize(("march", "lanes"), [("x86-64", 4), ("x86-64-v3", 8), ("x86-64-v4", 16)])
def test_every_instruction_set_gives_the_same_scan(
    march: str, lanes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "x86" not in os.uname().machine:
        pytest.skip("an x86 machine's instruction sets")
    needed = {"x86-64": "sse2", "x86-64-v3": "avx2", "x86-64-v4": "avx512dq"}[march]
    if needed not in build.cpu():
        pytest.skip(f"this CPU has no {needed}")
    build.build(build.SOURCES / "scan.cpp", build.find_compiler(), tmp_path / "scan.so", march)
    library = ctypes.CDLL(str(tmp_path / "scan.so"))
    assert library.scan_lanes() == lanes
    monkeypatch.setattr(scan_native, "_library", lambda: library)
    generator = torch.Generator().manual_seed(3)
    u, delta, z = (torch.randn(2, 37, 45, generator=generator, dtype=torch.float64) for _ in range(3))
    B, C = (torch.randn(2, 6, 45, generator=generator, dtype=torch.float64) for _ in range(2))
    A = -torch.rand(37, 6, generator=generator, dtype=torch.float64) * 8
    results = {}
    for backend, dtype in (("native", torch.float32), ("reference", torch.float64)):
        own = [t.to(dtype).requires_grad_() for t in (u, delta, A, B, C, torch.ones(37), z, torch.zeros(37))]
        y = selective_scan(*own, backend=backend)
        results[backend] = [y, *torch.autograd.grad(y.square().sum(), own)]
    for found, truth in zip(results["native"], results["reference"], strict=True):
        assert float((found.detach().double() - truth.detach()).norm() / truth.detach().norm()) < 1e-5
