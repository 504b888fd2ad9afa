"""The selective scan's CPU backends against the plain loop (`unbind`) and mambapy's parallel scan, CPU-seconds.

    OMP_NUM_THREADS=1 python -m benchmarks.scan [--repeats 3] [--smoke] [--json FILE]

Every method gets the same time-first inputs and computes step size, recurrence, skip and gate; "both" is forward and
backward to every input. Medians of the process's CPU time on one thread, after one warm-up, methods taking turns, so
that a busy machine troubles all alike. Prints one JSON object with the figures, the ratios, and each method's largest
relative difference from the loop's output and gradients: a fast scan that computes something else is no scan.

mambapy is measured where it can be imported (`pip install --no-deps --target DIR mambapy`, then PYTHONPATH=DIR).
"""

from __future__ import annotations

import importlib
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.harness import parser, report
from denoise_core.model.scan import selective_scan
from denoise_core.model.scan_native import why_not

SHAPES = {"large": (16, 601, 768, 16), "small": (32, 601, 64, 8)}  # B, L, D, N: the recipe's block, a CPU-sized one
SMOKE = {"smoke": (2, 70, 24, 4)}
Method = Callable[[list[Tensor]], Tensor]


def inputs(batch: int, length: int, d: int, n: int) -> list[Tensor]:
    """u, delta, A, B, C, D, z, bias with gradients wanted; (B, D, L) views of time-first memory, as in a block."""
    g = torch.Generator().manual_seed(0)

    def time_first(width: int) -> Tensor:
        return torch.randn(batch, length, width, generator=g).transpose(1, 2)

    A = -torch.arange(1.0, n + 1).repeat(d, 1)
    bias = -7 + 5 * torch.rand(d, generator=g)
    tensors = [time_first(d), time_first(d), A, time_first(n), time_first(n), torch.ones(d), time_first(d), bias]
    return [t.requires_grad_() for t in tensors]


def backend(name: str) -> Method:
    """One of ours, by name."""

    def method(tensors: list[Tensor]) -> Tensor:
        u, delta, A, B, C, D, z, bias = tensors
        return selective_scan(u, delta, A, B, C, D, z, bias, backend=name)

    return method


def around(core: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Method:
    """Step size, skip and gate around a rival's recurrence: core(decay, input, C) on (B, L, D, N), (B, L, N)."""

    def method(tensors: list[Tensor]) -> Tensor:
        u, delta, A, B, C, D, z, bias = tensors
        u_BLD, dt_BLD = u.transpose(1, 2), F.softplus(delta.transpose(1, 2) + bias)
        decay_BLDN = torch.exp(dt_BLD.unsqueeze(-1) * A)
        input_BLDN = (dt_BLD * u_BLD).unsqueeze(-1) * B.transpose(1, 2).unsqueeze(2)
        y_BLD = core(decay_BLDN, input_BLDN, C.transpose(1, 2))
        return ((y_BLD + u_BLD * D) * F.silu(z.transpose(1, 2))).transpose(1, 2)

    return method


def unbind_loop(decay_BLDN: Tensor, input_BLDN: Tensor, C_BLN: Tensor) -> Tensor:
    """The definition, without slicing x[:, t] (whose backward is quadratic in L)."""
    state_BDN, outputs = torch.zeros_like(input_BLDN[:, 0]), []
    for decay, entry, C_BN in zip(decay_BLDN.unbind(1), input_BLDN.unbind(1), C_BLN.unbind(1), strict=True):
        state_BDN = decay * state_BDN + entry
        outputs.append((state_BDN * C_BN.unsqueeze(1)).sum(-1))  # faster here than @, and than one @ at the end
    return torch.stack(outputs, 1)


def methods() -> tuple[dict[str, Method], dict[str, str]]:
    """What can be measured here, and why the rest cannot."""
    found: dict[str, Method] = {"unbind": around(unbind_loop), "blocked": backend("blocked")}
    missing = {}
    try:
        pscan = importlib.import_module("mambapy.pscan").pscan
        found["mambapy"] = around(lambda a, x, C: (pscan(a, x) @ C.unsqueeze(-1)).squeeze(-1))
    except ImportError as error:
        missing["mambapy"] = f"not installed ({error})"
    if reason := why_not():
        missing["native"] = reason
    else:
        found["native"] = backend("native")
    return found, missing


def once(method: Method, tensors: list[Tensor], weight: Tensor) -> tuple[float, float, list[Tensor]]:
    """CPU-seconds forward without gradients, CPU-seconds of both passes, output and gradients."""
    start = time.process_time()
    with torch.no_grad():
        method(tensors)
    forward = time.process_time() - start
    start = time.process_time()
    y = method(tensors)
    gradients = torch.autograd.grad(y, tensors, weight)
    return forward, time.process_time() - start, [y.detach(), *gradients]


def difference(found: list[Tensor], truth: list[Tensor]) -> float:
    """Largest relative difference (norms) over output and gradients."""
    return max(float((a - b).norm() / b.norm()) for a, b in zip(found, truth, strict=True))


def measure(shape: tuple[int, int, int, int], repeats: int, found: dict[str, Method]) -> dict[str, Any]:
    """Medians in ms and ratios at one size (B, L, D, N)."""
    tensors = inputs(*shape)
    weight = torch.randn(tensors[0].shape, generator=torch.Generator().manual_seed(1))
    truth = once(found["unbind"], tensors, weight)[2]
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in found}
    differences = dict.fromkeys(found, 0.0)
    for turn in range(repeats + 1):
        for name, method in found.items():
            forward, both, results = once(method, tensors, weight)
            differences[name] = difference(results, truth)
            del results
            if turn:
                times[name].append((forward, both))
    figures = {
        name: {
            "forward_ms": round(1e3 * statistics.median(f for f, _ in pairs), 2),
            "both_ms": round(1e3 * statistics.median(b for _, b in pairs), 2),
            "difference": differences[name],
        }
        for name, pairs in times.items()
    }
    return {"shape_BLDN": shape, "methods": figures, "ratios": ratios(figures)}


def ratios(figures: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """How many times faster, forward and both, for the pairs that matter."""
    pairs = [("blocked", "unbind"), ("blocked", "mambapy"), ("native", "blocked"), ("native", "mambapy")]
    return {
        f"{fast} over {slow}": {
            kind: round(figures[slow][f"{kind}_ms"] / max(figures[fast][f"{kind}_ms"], 1e-9), 2)
            for kind in ("forward", "both")
        }
        for fast, slow in pairs
        if fast in figures and slow in figures
    }


def run(*, smoke: bool = False, repeats: int = 3) -> dict[str, Any]:
    """The whole benchmark on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found, missing = methods()
        shapes = SMOKE if smoke else SHAPES
        sizes = {name: measure(shape, 1 if smoke else repeats, found) for name, shape in shapes.items()}
    finally:
        torch.set_num_threads(before)
    machine = {
        "machine": platform.machine(),
        "torch": torch.__version__,
        "capability": torch.backends.cpu.get_cpu_capability(),
    }
    return {"benchmark": "scan", **machine, "repeats": repeats, "sizes": sizes, "missing": missing}


def main() -> None:
    """Command line."""
    line = parser(__doc__, "one small size, one repeat")
    line.add_argument("--repeats", type=int, default=3)
    options = line.parse_args()
    report(run(smoke=options.smoke, repeats=options.repeats), options)


if __name__ == "__main__":
    main()
