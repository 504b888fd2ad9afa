"""The files of a training: audit lines, train.log, metrics.csv, TensorBoard events, speed record, full state.

Everything an observer reads is rebuilt from the state's own history at each epoch, so that a resumed run leaves
no epoch twice and none out.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from tensorboardX import SummaryWriter

from denoise_core.model.checkpoints import read_checkpoint, save_plain
from denoise_core.plans import FilePlan, TrainingPlan
from study_core.errors import BadInput
from study_core.files import replacing
from study_core.paths import below
from study_core.plan import identity


class TrainingFiles:
    """Paths and writers of one training in `folder`. The audit log must be there before: no audit, no training."""

    def __init__(self, plan: FilePlan, folder: Path) -> None:
        self.logs, self.checkpoints = below(folder, plan.log_dir), below(folder, plan.checkpoint_dir)
        self.audit_log = below(folder, plan.audit_log)
        self.speed_json = below(folder, plan.speed_log_json) if plan.speed_log_json else None
        if not self.audit_log.is_file() or not os.access(self.audit_log, os.W_OK):
            raise BadInput(
                "no audit log to write to: training does not start without one",
                file=self.audit_log,
                remedy="create the file first; the flow and `python -m denoise_core train` do",
            )
        self.logs.mkdir(parents=True, exist_ok=True)
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        self._events: Any = None

    @property
    def state(self) -> Path:
        return self.checkpoints / "state.pt"

    @property
    def best(self) -> Path:
        return self.checkpoints / "mamba_tiny_uv_best.pt"

    @property
    def metrics_csv(self) -> Path:
        return self.logs / "metrics.csv"

    def audit(self, text: str) -> None:
        """One `TIMESTAMP | text` line in the audit log, and in train.log."""
        with open(self.audit_log, "a", encoding="utf-8") as handle:
            handle.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S} | {text}\n")
        self.log(text)

    def log(self, text: str, *, shown: bool = True) -> None:
        """One line in train.log and, unless not `shown`, on standard output, which people follow while it trains."""
        if shown:
            print(text, flush=True)
        with open(self.logs / "train.log", "a", encoding="utf-8") as handle:
            handle.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S} {text}\n")

    def write_metrics(self, history: Sequence[Mapping[str, Any]]) -> None:
        """metrics.csv: one row an epoch, the whole file anew."""
        with replacing(self.metrics_csv) as temporary:
            pd.DataFrame(list(history)).to_csv(temporary, index=False, lineterminator="\n")

    def write_events(self, row: Mapping[str, Any]) -> None:
        """One epoch for TensorBoard; a resumed run purges what an unfinished epoch left."""
        if self._events is None:
            self._events = SummaryWriter(str(self.logs / "tensorboard"), purge_step=int(row["epoch"]))
        for name, value in row.items():
            if name != "epoch" and isinstance(value, (int, float)):
                self._events.add_scalar(name, value, int(row["epoch"]))
        self._events.flush()

    def write_speed(self, speeds: Sequence[Mapping[str, Any]]) -> None:
        if self.speed_json is not None:
            with replacing(self.speed_json) as temporary:
                temporary.write_text(json.dumps({"epochs": list(speeds)}, indent=2) + "\n", encoding="utf-8")

    def close(self) -> None:
        if self._events is not None:
            self._events.close()


def identity_of(plan: TrainingPlan, inputs: Mapping[str, str]) -> str:
    """What a saved state belongs to: plan and input hashes. A state of another training is never continued."""
    return identity({"plan": plan.model_dump(mode="json", exclude={"files"}), "inputs": dict(inputs)})


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    save_plain(path, state)


def load_state(path: Path, belongs_to: str) -> dict[str, Any] | None:
    """The state to go on from, None when there is none. A state of another plan is an error, not a start."""
    if not path.exists():
        return None
    state = read_checkpoint(path)
    if state.get("belongs_to") != belongs_to:
        raise BadInput(
            "this folder holds the state of another training (plan or inputs differ)",
            file=path,
            remedy="use a new folder, or delete this one",
        )
    return state


def optimiser_state(saved: Mapping[str, Any]) -> dict[str, Any]:
    """An optimiser's state_dict as torch wants it: parameter numbers are ints again."""
    return {
        "state": {int(number): dict(entry) for number, entry in saved["state"].items()},
        "param_groups": [dict(group) for group in saved["param_groups"]],
    }


def generator_from(state: torch.Tensor, device: torch.device) -> torch.Generator:
    generator = torch.Generator(device=device)
    generator.set_state(state.cpu().to(torch.uint8))
    return generator


class GpuUse:
    """Use of a GPU in percent, sampled beside a training until `close`; nothing on the CPU."""

    def __init__(
        self, device: torch.device, read: Callable[[torch.device], float] = torch.cuda.utilization, every_s: float = 0.5
    ) -> None:
        self._device, self._read, self._every_s = device, read, every_s
        self._samples: list[float] = []
        self._stop = threading.Event()
        if device.type == "cuda":
            threading.Thread(target=self._run, name="gpu-use", daemon=True).start()

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            self._sample()

    def _sample(self) -> None:
        with contextlib.suppress(Exception):  # a figure for people must not end a training; a MIG share tells nothing
            self._samples.append(float(self._read(self._device)))

    def take(self) -> float | None:
        """Mean of the samples since the last `take`, after a short while one taken now; None where nothing tells."""
        if not self._samples and self._device.type == "cuda":
            self._sample()
        taken, self._samples = self._samples, []
        return sum(taken) / len(taken) if taken else None

    def close(self) -> None:
        self._stop.set()


def speed(epoch: int, samples: int, seconds: float, device: torch.device, gpu_use: float | None) -> dict[str, Any]:
    """Throughput, peak memory and GPU use (percent) of an epoch."""
    cuda = device.type == "cuda"
    peak = torch.cuda.max_memory_allocated(device) if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    return {
        "epoch": epoch,
        "samples_per_s": samples / seconds,
        "seconds": seconds,
        "peak_memory_mb": peak / 2**20,
        "gpu_utilisation_pct": gpu_use,
    }
