"""The full recipe's training step on one GPU: scan backends, what fusing and CUDA graphs add, memory, use of the card.

    python -m benchmarks.gpu [--corpus FOLDER] [--batch 600] [--steps 20] [--json FILE]
    python -m benchmarks.gpu --smoke

A step is what `training` does: a batch drawn and augmented on the device, forward in bf16, the seed's whole loss,
backward, fused AdamW, moving average. Rival: the `blocked` scan, uncompiled. Ways that this machine cannot run are
listed with the reason. A dry run, which is all that a machine without CUDA gets, is tiny and on the CPU: it shows that
the ways run and agree, and its times mean nothing. Targets: 0.25 s a step on an H200, 400 epochs under 30 minutes,
40 GB.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.harness import parser, report
from benchmarks.training import standardised
from denoise_core.augment import augment
from denoise_core.corpus.store import Corpus, open_corpus
from denoise_core.corpus.synthetic import generate
from denoise_core.losses import total_loss
from denoise_core.model.mamba_uv import MambaUV
from denoise_core.model.scan import resolve_backend
from denoise_core.optimising import parameter_groups
from denoise_core.pairs import PairSampler
from denoise_core.plans import TrainingPlan
from denoise_core.recipes import named
from study_core.errors import BadInput

PEAK_TFLOPS = {"H200": 989.0, "H100": 989.0, "A100": 312.0}  # dense bf16, the makers' data sheets
PUBLISHED_STEP_S = 9.5


@dataclass(frozen=True)
class Way:
    """One way to take a step."""

    scan: str
    compiled: bool = False  # norm + FiLM through torch.compile
    graph: bool = False  # the whole step as one CUDA graph

    @property
    def name(self) -> str:
        return self.scan + (" + compile" if self.compiled else "") + (" + CUDA graph" if self.graph else "")

    def why_not(self, device: torch.device) -> str:
        """Why this machine cannot run it; empty when it can."""
        try:
            resolve_backend(self.scan, device)
        except BadInput as error:
            return str(error)
        return "needs CUDA" if self.graph and device.type != "cuda" else ""


WAYS = (
    *(Way(scan) for scan in ("blocked", "mamba_ssm", "triton", "native")),
    Way("triton", compiled=True), Way("triton", graph=True), Way("triton", compiled=True, graph=True),
    Way("mamba_ssm", compiled=True),
)  # fmt: skip
DRY = (Way("blocked"), Way("native"), Way("blocked", compiled=True), Way("triton"), Way("triton", graph=True))


class Step:
    """Model, optimiser, average and feeding of one way; call it to take a step."""

    def __init__(self, corpus: Corpus, plan: TrainingPlan, way: Way, device: torch.device) -> None:
        torch.manual_seed(0)
        self.plan, self.device = plan, device
        self.model = MambaUV(plan.model, corpus.wavelength_nm, scan_backend=way.scan).to(device)
        with torch.no_grad():  # a head of zeros would hide every difference between backends
            torch.nn.init.normal_(self.model.output_proj.weight, std=0.1)
        if way.compiled:
            for block in self.model.blocks:
                block.modulated = torch.compile(block.modulated, dynamic=False)
        groups = parameter_groups(self.model, plan.optimiser.weight_decay)
        cuda = device.type == "cuda"
        self.optimiser = torch.optim.AdamW(groups, lr=plan.optimiser.lr, fused=cuda, capturable=cuda)
        self.average = [parameter.detach().clone() for parameter in self.model.parameters()]
        self.sampler = PairSampler(corpus, corpus.manifest("manifest_train"), plan.data, device)
        self.features = torch.from_numpy(standardised(corpus, np.arange(len(corpus)))).to(device)
        self.weights_L = torch.tensor(corpus.lambda_stats.weights, dtype=torch.float32, device=device)
        wavelength, loss = corpus.wavelength_nm, plan.loss
        inside = (wavelength >= loss.deriv_roi_min) & (wavelength <= loss.deriv_roi_max)
        self.roi_L = torch.from_numpy(inside).to(device)
        self.step_nm = float(wavelength[1] - wavelength[0])
        self.generator = torch.Generator(device=device).manual_seed(0)
        self.static = self.fed()
        self.captured = self._capture() if way.graph else None

    def fed(self) -> tuple[Tensor, Tensor, Tensor]:
        """Input (B, L), target (B, L), features (B, F): drawn, paired and augmented on the device."""
        rows = next(iter(self.sampler.epoch(self.generator, self.plan.optimiser.bs, 1)))
        batch = self.sampler.batch(rows, self.generator)
        x_BL = augment(batch.x_BL, self.plan.data, self.sampler.noise_sd_L, self.step_nm, self.generator)
        return x_BL, batch.target_BL, self.features[batch.row_B]

    def loss(self, x_BL: Tensor, target_BL: Tensor, features_BF: Tensor) -> Tensor:
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.device.type == "cuda"):
            y_BL = self.model(x_BL, features_BF, x_BL)
        return total_loss(y_BL.float(), target_BL, self.plan.loss, self.weights_L, self.step_nm, self.roi_L)[0]

    def update(self) -> None:
        self.optimiser.zero_grad(set_to_none=True)
        self.loss(*self.static).backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        with torch.no_grad():
            torch._foreach_lerp_(self.average, list(self.model.parameters()), 1 - self.plan.optimiser.ema_decay)

    def _capture(self) -> Callable[[], None]:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # warm-up outside the graph, as capture demands
            for _ in range(3):
                self.update()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.update()
        return graph.replay

    def __call__(self) -> None:
        for kept, new in zip(self.static, self.fed(), strict=True):
            kept.copy_(new)
        (self.captured or self.update)()


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measured(corpus: Corpus, plan: TrainingPlan, way: Way, device: torch.device, steps: int) -> dict[str, Any]:
    """Median seconds of a step, peak memory, and the first output against the same network on the CPU in float32."""
    if reason := way.why_not(device):
        return {"not run": reason}
    step = Step(corpus, plan, way, device)
    error = difference(corpus, plan, step)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seconds = []
    for number in range(steps + 3):
        synchronise(device)
        started = time.perf_counter()
        step()
        synchronise(device)
        if number >= 3:
            seconds.append(time.perf_counter() - started)
    found: dict[str, Any] = {"step_s": statistics.median(seconds), "largest_difference_to_cpu_float32": error}
    if device.type == "cuda":
        found["peak_memory_gb"] = torch.cuda.max_memory_allocated(device) / 2**30
    if not way.graph:
        found["kernels"] = shares(step, device)
    return found


def difference(corpus: Corpus, plan: TrainingPlan, step: Step) -> float:
    """Largest difference of the output (reflectance) on a few captures."""
    fresh = MambaUV(plan.model, corpus.wavelength_nm, scan_backend="blocked")
    fresh.load_state_dict({name: value.cpu() for name, value in step.model.state_dict().items()})
    x_BL, _, features_BF = (value[:4] for value in step.static)
    with torch.inference_mode(), torch.autocast(x_BL.device.type, torch.bfloat16, enabled=x_BL.is_cuda):
        here = step.model(x_BL, features_BF, x_BL).float().cpu()
    with torch.inference_mode():
        there = fresh(x_BL.cpu(), features_BF.cpu(), x_BL.cpu())
    return float((here - there).abs().max())


def shares(step: Step, device: torch.device) -> dict[str, float]:
    """Share of the eight dearest kernels in the device time of two steps."""
    cuda = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as watched:
        step()
        step()
        synchronise(device)
    events = watched.key_averages()
    spent = {event.key: float(event.self_device_time_total if cuda else event.self_cpu_time_total) for event in events}
    total = sum(spent.values()) or 1.0
    dearest = sorted(spent, key=lambda key: -spent[key])[:8]
    return {key: round(spent[key] / total, 3) for key in dearest}


def matrix_flop(corpus: Corpus, plan: TrainingPlan, device: torch.device) -> float:
    """Floating-point operations of the matrix products and convolutions of a step, forward and backward."""
    step = Step(corpus, plan, Way("blocked"), device)
    with FlopCounterMode(display=False) as counter:
        step.loss(*step.static).backward()  # type: ignore[no-untyped-call]
    return float(counter.get_total_flops())


def run(corpus: Corpus, plan: TrainingPlan, ways: tuple[Way, ...], device: torch.device, steps: int) -> dict[str, Any]:
    """Every way in turn; ratios against the first."""
    found = {way.name: measured(corpus, plan, way, device, steps) for way in ways}
    times = {name: row["step_s"] for name, row in found.items() if "step_s" in row}
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU (dry run: no figure here counts)"
    flop = matrix_flop(
        corpus, plan.model_copy(update={"optimiser": plan.optimiser.model_copy(update={"bs": 8})}), device
    )
    flop *= plan.optimiser.bs / 8
    peak = next((value for name, value in PEAK_TFLOPS.items() if name in card), None)
    rival = times[ways[0].name]
    return {
        "benchmark": "gpu",
        "card": card,
        "batch": plan.optimiser.bs,
        "matrix_tflop_a_step": flop / 1e12,
        "ways": found,
        "ratios": {f"{name} over {ways[0].name}": rival / s for name, s in times.items()} if peak else None,
        "published_over": {name: PUBLISHED_STEP_S / s for name, s in times.items()} if device.type == "cuda" else None,
        "mfu": {name: flop / 1e12 / seconds / peak for name, seconds in times.items()} if peak else None,
    }


def main() -> None:
    """Command line."""
    line = parser(__doc__, "on the CPU, tiny; so it is anyway without a GPU")
    line.add_argument("--corpus", type=Path, help="default: a synthetic one of full size")
    line.add_argument("--batch", type=int, default=600)
    line.add_argument("--steps", type=int, default=20)
    options = line.parse_args()
    dry = options.smoke or not torch.cuda.is_available()
    plan = named("track_h_mini" if dry else "track_h")
    batch, steps = (8, 1) if dry else (options.batch, options.steps)
    plan = plan.model_copy(
        update={
            "model": plan.model.model_copy(update={"base": "capture"}),
            "optimiser": plan.optimiser.model_copy(update={"bs": batch}),
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        size = "mini" if dry else "full"
        corpus = open_corpus(options.corpus or generate(Path(folder) / "corpus", size=size, seed=1))
        device = torch.device("cpu" if dry else "cuda")
        result = run(corpus, plan, DRY if dry else WAYS, device, steps)
    report(result, options)


if __name__ == "__main__":
    main()
