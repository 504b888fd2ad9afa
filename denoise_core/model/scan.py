"""One door to the selective scan (Gu & Dao 2023, "Mamba"), whatever computes it.

    dt = softplus(delta + bias);   h_t = exp(dt_t A) h_{t-1} + dt_t u_t B_t;   y_t = Σ_n C_t h_t + D u_t;   y · silu(z)

Shapes in names: B batch, D channels, N states, L time. Semantics equal `mamba_ssm`'s `selective_scan_fn`.
Backends: `reference` (a plain loop, the truth), `blocked` (pure torch), `native` (C++), `triton`, `mamba_ssm` (CUDA).
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from study_core.errors import BadInput

BACKENDS = ("auto", "reference", "blocked", "native", "triton", "mamba_ssm")
BACKEND_VARIABLE = "GATED_SCAN_BACKEND"


def selective_scan(
    u_BDL: Tensor,
    delta_BDL: Tensor,
    A_DN: Tensor,
    B_BNL: Tensor,
    C_BNL: Tensor,
    D_D: Tensor | None = None,
    z_BDL: Tensor | None = None,
    delta_bias_D: Tensor | None = None,
    delta_softplus: bool = True,
    backend: str = "auto",
) -> Tensor:
    """Scan `u` along L; returns (B, D, L) in u's dtype. Differentiable in every tensor.

    Computes in float32 (float64 when an input is float64, which `native` and the CUDA backends do not take).
    `auto` picks what the device and the machine offer; the environment variable GATED_SCAN_BACKEND overrides it.
    Raises ValueError on shapes that do not fit, BadInput on a backend that this machine cannot run.
    """
    _check_shapes(u_BDL, delta_BDL, A_DN, B_BNL, C_BNL, D_D, z_BDL, delta_bias_D)
    tensors = [u_BDL, delta_BDL, A_DN, B_BNL, C_BNL, D_D, z_BDL, delta_bias_D]
    double = any(t is not None and t.dtype == torch.float64 for t in tensors)
    run = _BACKENDS[resolve_backend(backend, u_BDL.device, double=double)]
    exact = torch.float64 if double else torch.float32
    with torch.autocast(u_BDL.device.type, enabled=False):
        u, delta, A, B, C = (t.to(exact) for t in (u_BDL, delta_BDL, A_DN, B_BNL, C_BNL))
        D, z, bias = (None if t is None else t.to(exact) for t in (D_D, z_BDL, delta_bias_D))
        return run(u, delta, A, B, C, D, z, bias, delta_softplus).to(u_BDL.dtype)


def resolve_backend(backend: str, device: torch.device, *, double: bool = False) -> str:
    """The backend that will run; BadInput when it is unknown or cannot run here."""
    asked = os.environ.get(BACKEND_VARIABLE, "auto") if backend == "auto" else backend
    if asked not in BACKENDS:
        raise BadInput(f"unknown scan backend {asked!r}", remedy=f"use one of {', '.join(BACKENDS)}")
    if asked == "auto":
        return _automatic(device, double)
    if asked == "native":
        from denoise_core.model.scan_native import why_not

        reason = "it runs on the CPU only" if device.type != "cpu" else why_not()
        if reason:
            raise BadInput(f"scan backend 'native' cannot run: {reason}", remedy="use 'auto' or 'blocked'")
    if asked in ("triton", "mamba_ssm") and not (_importable(asked) and _on_gpu(asked, device)):
        raise BadInput(f"scan backend {asked!r} needs CUDA and the package", remedy="use 'auto' or 'blocked'")
    if double and asked in ("native", "triton", "mamba_ssm"):
        raise BadInput(f"scan backend {asked!r} takes no float64", remedy="use 'reference' or 'blocked'")
    return asked


def _automatic(device: torch.device, double: bool) -> str:
    if double:
        return "blocked"
    if device.type == "cuda":
        return next((name for name in ("mamba_ssm", "triton") if _importable(name)), "blocked")
    if device.type == "cpu":
        from denoise_core.model.scan_native import why_not

        return "blocked" if why_not() else "native"
    return "blocked"


@cache
def _importable(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _on_gpu(name: str, device: torch.device) -> bool:
    return device.type == "cuda" or (name == "triton" and os.environ.get("TRITON_INTERPRET") == "1")


def _check_shapes(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, *rest: Tensor | None) -> None:
    if u.ndim != 3 or A.ndim != 2:
        raise ValueError(f"expected u (B, D, L) and A (D, N), got {tuple(u.shape)} and {tuple(A.shape)}")
    (batch, d, length), n = u.shape, A.shape[1]
    D, z, bias = rest
    expected: list[tuple[str, Tensor | None, tuple[int, ...]]] = [
        ("delta", delta, (batch, d, length)),
        ("A", A, (d, n)),
        ("B", B, (batch, n, length)),
        ("C", C, (batch, n, length)),
        ("D", D, (d,)),
        ("z", z, (batch, d, length)),
        ("delta_bias", bias, (d,)),
    ]
    for name, tensor, shape in expected:
        if tensor is not None and tuple(tensor.shape) != shape:
            raise ValueError(f"{name}: expected shape {shape}, got {tuple(tensor.shape)}")


Scan = Callable[
    [Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None, bool],
    Tensor,
]


def _step_sizes(delta: Tensor, bias: Tensor | None, softplus: bool) -> Tensor:
    delta = delta if bias is None else delta + bias[:, None]
    return F.softplus(delta) if softplus else delta


def _skip_and_gate(y: Tensor, u: Tensor, D: Tensor | None, z: Tensor | None) -> Tensor:
    y = y if D is None else y + u * D[:, None]
    return y if z is None else y * F.silu(z)


def _reference(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor,
    D: Tensor | None, z: Tensor | None, bias: Tensor | None, softplus: bool,
) -> Tensor:  # fmt: skip
    """The definition, step by step; autograd does the rest. Slow: every other backend is tested against it."""
    dt = _step_sizes(delta, bias, softplus)
    state_BDN = u.new_zeros((*u.shape[:2], A.shape[1]))
    outputs = []
    for t in range(u.shape[2]):
        decay = torch.exp(dt[:, :, t, None] * A)
        state_BDN = decay * state_BDN + (dt[:, :, t] * u[:, :, t])[:, :, None] * B[:, None, :, t]
        outputs.append((state_BDN * C[:, None, :, t]).sum(-1))
    return _skip_and_gate(torch.stack(outputs, dim=2), u, D, z)


def _blocked(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor,
    D: Tensor | None, z: Tensor | None, bias: Tensor | None, softplus: bool,
) -> Tensor:  # fmt: skip
    from denoise_core.model.scan_blocked import blocked_core

    return _skip_and_gate(blocked_core(u, _step_sizes(delta, bias, softplus), A, B, C), u, D, z)


def _native(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor,
    D: Tensor | None, z: Tensor | None, bias: Tensor | None, softplus: bool,
) -> Tensor:  # fmt: skip
    from denoise_core.model.scan_native import native_scan

    return native_scan(u, delta, A, B, C, D, z, bias, softplus)


def _triton(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor,
    D: Tensor | None, z: Tensor | None, bias: Tensor | None, softplus: bool,
) -> Tensor:  # fmt: skip
    from denoise_core.model.scan_triton import triton_scan

    return triton_scan(u, delta, A, B, C, D, z, bias, softplus)


def _mamba_ssm(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor,
    D: Tensor | None, z: Tensor | None, bias: Tensor | None, softplus: bool,
) -> Tensor:  # fmt: skip
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    y: Tensor = selective_scan_fn(u, delta, A, B, C, D, z=z, delta_bias=bias, delta_softplus=softplus)
    return y


_BACKENDS: dict[str, Scan] = {
    "reference": _reference,
    "blocked": _blocked,
    "native": _native,
    "triton": _triton,
    "mamba_ssm": _mamba_ssm,
}
