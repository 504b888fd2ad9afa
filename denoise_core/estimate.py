"""What a training will take, asked before it starts: memory from its plan, time from one step of it.

A CPU's memory is a fit, not a theory: peak resident memory of one step (forward, loss, backward, AdamW) of eleven
networks on Linux with the native scan: widths 32 to 384, 1 to 8 blocks, 8 or 16 states, batches of 4 to 128, grids of
301 and 601 points. The fit is within 10 % of every one; `tests/denoise_core/test_estimate.py` measures two again.

A GPU's memory is counted: what autograd keeps for the backward pass under CUDA's casts (layer norm in float32, products
in bfloat16, the scan in float32 with its states every 32 steps, as the Triton kernel keeps them), counted on a CPU. No
GPU was at hand to measure a peak: what is counted is held for certain, so a training is refused by that alone; the
batch that is named leaves room for the block under way as well, as much as it takes on a CPU.

Names: B captures of a batch, L wavelengths, e inner channels of a block, N states.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from denoise_core.plans import TrainingPlan
from study_core.errors import BadInput

FLOAT = 4  # bytes
PER_CHANNEL_AND_BLOCK = 8.0  # floats kept for the backward pass, by capture and wavelength
PER_STATE_AND_BLOCK = 14.0
PER_CHANNEL = 12.0  # of the block that is under way
PER_VALUE = 68.0  # losses, augmentation, channels
PER_PARAMETER = 8.0  # weights, gradient, two moments, average, copies
KEPT_PER_CHANNEL_AND_BLOCK = {True: 27.1, False: 34.2}  # bytes on a GPU, by capture and wavelength; True: bf16 or fp16
KEPT_PER_STATE_AND_BLOCK = {True: 14.3, False: 10.3}
KEPT_PER_WIDTH = {True: 8.0, False: 8.1}  # first and last layers
SCAN_STEPS = 32  # of which the Triton scan keeps the state once
PROGRAM = 500e6  # torch and what it brings
PER_CORPUS_VALUE = 8.0  # captures, held-out base, targets, noise
SPREAD = 1.1  # over the fit's worst miss
PROBE = 2_000_000  # capture-wavelength-channel-blocks of the step that is timed


@dataclass(frozen=True)
class Memory:
    """Bytes: `fixed`, and `capture` for each capture of a batch; `spread` over both."""

    fixed: float
    capture: float
    spread: float = SPREAD

    def of(self, batch: int) -> int:
        """Peak resident bytes with so many captures at once."""
        return int(self.spread * (self.fixed + batch * self.capture))

    def batch(self, limit: int) -> int:
        """The largest batch that `limit` bytes hold; below 1 where none does."""
        return int((limit / self.spread - self.fixed) // self.capture)


def memory(plan: TrainingPlan, captures: int) -> Memory:
    """Peak resident memory of training `plan` on the CPU with a corpus of so many captures."""
    model = plan.model
    inner, length = model.expand * model.d_model, model.sequence_length
    blocks = model.n_layers * (PER_CHANNEL_AND_BLOCK * inner + PER_STATE_AND_BLOCK * model.d_state)
    return Memory(
        fixed=PROGRAM + FLOAT * (PER_PARAMETER * parameters(plan) + PER_CORPUS_VALUE * captures * length),
        capture=FLOAT * length * (blocks + PER_CHANNEL * inner + PER_VALUE),
    )


def gpu_kept(plan: TrainingPlan, captures: int) -> Memory:
    """What training `plan` holds on a GPU for certain: parameters and moments, the corpus, what autograd keeps."""
    model, half = plan.model, plan.optimiser.amp and plan.optimiser.amp_dtype != "fp32"
    inner, length = model.expand * model.d_model, model.sequence_length
    states = model.d_state * (FLOAT * inner / SCAN_STEPS + KEPT_PER_STATE_AND_BLOCK[half])
    blocks = model.n_layers * (KEPT_PER_CHANNEL_AND_BLOCK[half] * inner + states)
    return Memory(
        fixed=FLOAT * (PER_PARAMETER * parameters(plan) + PER_CORPUS_VALUE * captures * length),
        capture=length * (blocks + KEPT_PER_WIDTH[half] * model.d_model),
        spread=1.0,
    )


def gpu_memory(plan: TrainingPlan, captures: int) -> Memory:
    """`gpu_kept`, and what the block under way, the losses and CUDA itself take, as much as on a CPU."""
    kept, model = gpu_kept(plan, captures), plan.model
    under_way = FLOAT * model.sequence_length * (PER_CHANNEL * model.expand * model.d_model + PER_VALUE)
    return Memory(kept.fixed + PROGRAM, kept.capture + under_way)


def parameters(plan: TrainingPlan) -> int:
    """Weights of a plan's network, to a per cent: projections of its blocks, and FiLM."""
    model = plan.model
    d, inner = model.d_model, model.expand * model.d_model
    rank = -(-d // 16)
    block = 3 * d * inner + inner * (2 * rank + 3 * model.d_state + model.d_conv + 4) + 2 * d
    film = 2 * model.n_layers * d * (model.film_hidden_dim + 1) if model.geometry_film else 0
    return model.n_layers * block + film + 14 * d


def verify_memory(plan: TrainingPlan, captures: int, limit: int, what: str) -> int:
    """The bytes that a training on the CPU needs; BadInput where `limit` bytes (`what` they are) cannot hold them.

    Names the batch that would fit at the same effective batch, or the smaller recipe where none does.
    """
    needs = memory(plan, captures)
    wanted = needs.of(plan.optimiser.bs)
    if wanted > limit:
        _refuse(plan, wanted, needs.batch(limit), limit, "memory", what)
    return wanted


def verify_gpu_memory(plan: TrainingPlan, captures: int, limit: int, what: str) -> int:
    """The bytes that a training on a GPU holds for certain; BadInput where its `limit` (`what` it is) is smaller."""
    certain = gpu_kept(plan, captures).of(plan.optimiser.bs)
    if certain > limit:
        _refuse(plan, certain, gpu_memory(plan, captures).batch(limit), limit, "GPU memory at least", what)
    return certain


def _refuse(plan: TrainingPlan, wanted: int, largest: int, limit: int, kind: str, what: str) -> NoReturn:
    """`largest`: batch that fits; below 1: none does."""
    smaller = "the recipe act_of_god_mini fits any machine; a GPU trains the full size"
    if largest >= 1:
        effective = plan.optimiser.bs * plan.optimiser.grad_accum
        accumulate = -(-effective // largest)
        batch = -(-effective // accumulate)
        fits = f"set optimiser.bs to {batch} and optimiser.grad_accum to {accumulate} (the same effective batch); or: "
        smaller = fits + smaller
    model = plan.model
    raise BadInput(
        f"training {plan.name} needs about {gigabytes(wanted)} of {kind} (batch {plan.optimiser.bs}, width "
        f"{model.d_model}, {model.n_layers} blocks, {model.sequence_length} wavelengths), {what} {gigabytes(limit)}",
        remedy=smaller,
    )


def available_memory() -> int:
    """Bytes that a new process may take here: free memory, and what a container's limit leaves of it."""
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(fields["MemAvailable"].split()[0]) * 1024
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = (group / "memory.max").read_text().strip(), (group / "memory.current").read_text()
    except OSError:
        return free
    return free if limit == "max" else min(free, int(limit) - int(used))


def gigabytes(count: float) -> str:
    """`1.4 GB`."""
    return f"{count / 1e9:.1f} GB"


def step_seconds(plan: TrainingPlan, wavelength_nm: Sequence[float], device: str) -> float:
    """Seconds of one step at the plan's batch on this machine, from a timed step of a part of it."""
    import torch

    from denoise_core.model.mamba_uv import MambaUV

    model = MambaUV(plan.model, np.asarray(wavelength_nm)).to(device)
    work = plan.model.sequence_length * plan.model.n_layers * plan.model.d_model
    captures = max(1, min(plan.optimiser.bs, PROBE // work))
    x_BL = torch.rand(captures, plan.model.sequence_length, device=device)
    features_BF = torch.zeros(captures, len(plan.model.film_features), device=device)
    for _ in range(2):  # the first one builds and warms what the second one is timed with
        started = time.perf_counter()
        loss = model(x_BL, features_BF, x_BL).square().mean()
        loss.backward()
        loss.item()  # waits for the device
    return (time.perf_counter() - started) * plan.optimiser.bs / captures


def training_seconds(plan: TrainingPlan, rows: int, wavelength_nm: Sequence[float], device: str) -> float:
    """Seconds until the last epoch, where none ends it earlier."""
    steps = plan.optimiser.steps_per_epoch or -(-rows // plan.optimiser.bs)
    return plan.optimiser.epochs * steps * step_seconds(plan, wavelength_nm, device)
