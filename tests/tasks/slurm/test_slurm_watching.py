"""Logs are followed without reading them again, and accounting samples are taken where the job runs."""

from __future__ import annotations

import builtins
import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.slurm import usage
from tasks.slurm.watching import FIRST_LOOK_BYTES, LINE_CHARACTERS, Stamped, Tail


def test_whole_lines_come_once_and_in_order(tmp_path: Path) -> None:
    path, tail, seen = tmp_path / "log", Tail(), []
    text = "".join(f"Zeile {n} äöü €\n" for n in range(200))
    raw = text.encode()
    with path.open("wb") as stream:
        for start in range(0, len(raw), 7):  # cuts inside characters and lines
            stream.write(raw[start : start + 7])
            stream.flush()
            if piece := tail.read(path):
                seen.append(piece)
    assert "\n".join(seen) == text.rstrip("\n")
    assert tail.read(path) == ""


def test_the_last_half_line_comes_at_the_end(tmp_path: Path) -> None:
    path, tail = tmp_path / "log", Tail()
    path.write_text("one\ntw")
    assert tail.read(path) == "one"
    assert tail.read(path, last=True) == "tw"


def test_no_byte_is_read_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, tail = tmp_path / "log", Tail()
    path.write_text("start\n")
    tail.read(path)
    read = 0
    real = tail._new_bytes

    def counted(*arguments: Any) -> bytes:
        nonlocal read
        content = real(*arguments)
        read += len(content)
        return content

    monkeypatch.setattr(tail, "_new_bytes", counted)
    with path.open("a") as stream:
        for n in range(500):
            stream.write(f"line {n}\n")
            stream.flush()
            tail.read(path)
    assert read == path.stat().st_size - len("start\n")


def test_a_quiet_log_is_not_even_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, tail = tmp_path / "log", Tail()
    path.write_text("x\n")
    tail.read(path)
    monkeypatch.setattr(Path, "open", lambda *_, **__: pytest.fail("opened"))
    monkeypatch.setattr(builtins, "open", lambda *_, **__: pytest.fail("opened"))
    assert tail.read(path) == ""


def test_a_late_waiter_sees_the_end_of_a_long_log(tmp_path: Path) -> None:
    path, tail = tmp_path / "log", Tail()
    path.write_text("".join(f"line {n:06d}\n" for n in range(50_000)))
    first = tail.read(path).splitlines()
    assert first[-1] == "line 049999"
    assert first[0].startswith("line 04")
    assert len("\n".join(first)) <= FIRST_LOOK_BYTES


def test_two_hundred_megabytes_without_a_newline_keep_memory_bounded_and_the_traceback(tmp_path: Path) -> None:
    path, tail, shown = tmp_path / "log", Tail(), []
    with path.open("wb") as stream:
        for _ in range(200):
            stream.write(b"x" * (1 << 20))
            stream.flush()
            if piece := tail.read(path):
                shown.append(piece)
            assert len(tail._rest) <= LINE_CHARACTERS
        stream.write(b"\nTraceback (most recent call last):\n  here\nValueError: the end")
    shown.append(tail.read(path, last=True))
    assert len("".join(shown)) < 3 << 20
    assert shown[-1].endswith("\nTraceback (most recent call last):\n  here\nValueError: the end")
    assert "left out" in shown[-1]


def test_an_over_long_line_that_ends_shows_its_end(tmp_path: Path) -> None:
    path, tail = tmp_path / "log", Tail()
    path.write_text("a" * 50_000)
    assert tail.read(path) == ""
    with path.open("a") as stream:
        stream.write("the end\nnext\n")
    first, second = tail.read(path).split("\n")
    assert first.startswith("[... 33616 characters left out ...]aaa")
    assert first.endswith("the end")
    assert second == "next"


def test_a_progress_bar_is_shown_as_it_is_at_most_once_a_second(tmp_path: Path) -> None:
    clock = [0.0]
    path, shown = tmp_path / "log", []
    tail = Tail(lambda: clock[0])
    with path.open("w") as stream:
        for percent in range(101):
            stream.write(f"\r{percent:3d}% |####|")
            stream.flush()
            clock[0] += 0.1
            if piece := tail.read(path):
                shown.append(piece)
        stream.write("\ndone\n")
    shown += tail.read(path).split("\n")
    assert 8 <= len(shown) <= 14
    assert all("\r" not in piece for piece in shown)
    assert shown[-2:] == ["100% |####|", "done"]


def test_a_cut_log_begins_again_and_a_new_job_has_a_new_one(tmp_path: Path) -> None:
    path, tail = tmp_path / "log", Tail()
    path.write_text("a long first line\n")
    tail.read(path)
    path.write_text("new\n")
    assert tail.read(path) == "new"
    (tmp_path / "other").write_text("other\n")
    assert tail.read(tmp_path / "other") == "other"
    assert Tail().read(tmp_path / "missing") == ""


def test_a_file_is_parsed_again_only_after_it_changed(tmp_path: Path) -> None:
    calls = 0

    def parse(path: Path) -> Any:
        nonlocal calls
        calls += 1
        return json.loads(path.read_text())

    path, stamped = tmp_path / "a.json", Stamped(parse)
    assert stamped.read(path) is None
    path.write_text("1")
    assert [stamped.read(path) for _ in range(3)] == [1, 1, 1]
    path.write_text("22")
    assert stamped.read(path) == 22
    assert calls == 2


class _Nvml:
    """The part of NVML that is used, with two GPUs."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.energy = 10**9

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return f"gpu{index}"

    def nvmlDeviceGetHandleByUUID(self, name: str) -> str:
        if name not in ("GPU-abc", "MIG-GPU-9/1/0"):
            raise ValueError(name)
        return name

    def nvmlDeviceGetUUID(self, handle: str) -> bytes:
        return {"gpu0": b"GPU-0e11", "gpu1": b"GPU-1f22"}[handle]

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> Any:
        self.asked.append(handle)
        return SimpleNamespace(gpu=90 if handle == "gpu1" else 10)

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> Any:
        return SimpleNamespace(used=2 << 30)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        self.energy += 5000  # millijoules
        return self.energy


@pytest.mark.parametrize(
    ("environment", "handles"),
    [
        ({"CUDA_VISIBLE_DEVICES": "1"}, ["gpu1"]),
        ({"SLURM_JOB_GPUS": "0,1"}, ["gpu0", "gpu1"]),
        ({"CUDA_VISIBLE_DEVICES": "GPU-abc"}, ["GPU-abc"]),
        ({"CUDA_VISIBLE_DEVICES": "GPU-1f,0"}, ["gpu1", "gpu0"]),  # CUDA takes the beginning of a UUID
        ({"CUDA_VISIBLE_DEVICES": "MIG-GPU-9/1/0,GPU-no"}, ["MIG-GPU-9/1/0"]),  # one strange name voids no other
        ({"CUDA_VISIBLE_DEVICES": "NoDevFiles"}, []),  # Slurm's word for none
        ({"CUDA_VISIBLE_DEVICES": "7"}, ["gpu0", "gpu1"]),  # numbered by the node, but only two are visible here
        ({}, ["gpu0", "gpu1"]),
    ],
)
def test_the_gpus_of_this_job(environment: dict[str, str], handles: list[str]) -> None:
    assert usage.gpu_handles(_Nvml(), environment) == handles  # type: ignore[arg-type]


def test_samples_of_gpu_cpu_and_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    sampler = usage.Sampler(tmp_path / "usage.json", 0.01, nvml=lambda: _Nvml()).start()  # type: ignore[arg-type,return-value]
    deadline = time.time() + 10
    while not (tmp_path / "usage.json").exists() and time.time() < deadline:
        time.sleep(0.01)
    numbers = sampler.finish()
    assert numbers["gpu_utilisation"] == 90
    assert numbers["gpu_memory_bytes"] == 2 << 30
    assert numbers["gpu_energy_joules"] == pytest.approx(5 * numbers["gpu_samples"])
    assert numbers["cpu_seconds"] > 0
    assert numbers["max_rss_bytes"] > 1 << 20
    assert json.loads((tmp_path / "usage.json").read_text())["started"] == numbers["started"]


class _Part(_Nvml):
    """A MIG part: memory is told, utilisation and energy are not."""

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> Any:
        raise RuntimeError("Not Supported")

    nvmlDeviceGetTotalEnergyConsumption = nvmlDeviceGetUtilizationRates


def test_a_part_of_a_gpu_keeps_the_figure_that_it_has(tmp_path: Path) -> None:
    sampler = usage.Sampler(tmp_path / "usage.json", 0.01, nvml=lambda: _Part()).start()  # type: ignore[arg-type,return-value]
    deadline = time.time() + 10
    while not (tmp_path / "usage.json").exists() and time.time() < deadline:
        time.sleep(0.01)
    numbers = sampler.finish()
    assert numbers["gpu_memory_bytes"] == 4 << 30
    assert (numbers["gpu_utilisation"], numbers["gpu_energy_joules"]) == (None, None)


class _Reloaded(_Nvml):
    """Its driver was loaded again while the job ran: the counter begins anew."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = iter([9_000_000, *range(0, 10**6, 5000)])

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        return next(self.counts)


def test_a_counter_that_began_anew_tells_no_energy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    sampler = usage.Sampler(tmp_path / "usage.json", 0.01, nvml=_Reloaded).start()  # type: ignore[arg-type]
    deadline = time.time() + 10
    while not (tmp_path / "usage.json").exists() and time.time() < deadline:
        time.sleep(0.01)
    assert sampler.finish()["gpu_energy_joules"] is None


def test_without_a_driver_gpu_use_is_unknown_and_costs_nothing(tmp_path: Path) -> None:
    sampler = usage.Sampler(tmp_path / "usage.json", 10.0, nvml=lambda: None).start()
    numbers = sampler.finish()
    assert numbers["gpu_utilisation"] is None
    assert numbers["elapsed_seconds"] < 2
