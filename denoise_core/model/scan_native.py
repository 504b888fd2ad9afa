"""The compiled scan (native/scan.cpp) behind torch's autograd: float32, CPU, any D and N, any layout of its inputs.

Skip, step size and gate are fused into the kernel. Results do not depend on the number of threads.
B batch, D channels, N states, L time; G groups of LANES channels, K chunks of time.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from denoise_core.model.native.build import BuildFailed, load_library

_Pointer = ctypes.c_void_p


class _Tensor(ctypes.Structure):
    """scan.cpp's Tensor: an address and the strides (in elements) of batch, channel or state, time."""

    _fields_ = (
        ("data", _Pointer),
        ("batch", ctypes.c_int64),
        ("channel", ctypes.c_int64),
        ("time", ctypes.c_int64),
    )


class _Problem(ctypes.Structure):
    """scan.cpp's Problem, field for field."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("batch", "channels", "length", "states", "softplus", "threads")),
        *((name, _Tensor) for name in ("u", "delta", "z", "b", "c")),
        *((name, _Pointer) for name in ("a", "skip", "bias", "starts")),
        *((name, _Tensor) for name in ("out", "d_out", "d_u", "d_delta", "d_z", "d_b", "d_c")),
        *((name, _Pointer) for name in ("d_a", "d_skip", "d_bias")),
    )


@cache
def _library() -> ctypes.CDLL:
    library = load_library("scan.cpp")
    library.scan_problem_size.restype = ctypes.c_int64
    if library.scan_problem_size() != ctypes.sizeof(_Problem):
        raise BuildFailed("the library's Problem has another layout than ours")
    return library


@cache
def why_not() -> str | None:
    """Why the compiled scan cannot run here; None when it can. The first call builds it (about two seconds)."""
    try:
        _library()
    except (BuildFailed, OSError) as error:
        return str(error)
    return None


def _describe(t: Tensor | None) -> _Tensor:
    return _Tensor(None, 0, 0, 0) if t is None else _Tensor(t.data_ptr(), *t.stride())


def _address(t: Tensor | None) -> int | None:
    return None if t is None else t.data_ptr()


def _time_first(like: Tensor) -> Tensor:
    """An empty (B, D, L) whose memory is (B, L, D): what the kernel and the matrix products around it read best."""
    batch, d, length = like.shape
    return like.new_empty((batch, length, d)).transpose(1, 2)


def _problem(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor,
    D: Tensor | None, z: Tensor | None, bias: Tensor | None, softplus: bool, starts: Tensor | None,
) -> _Problem:  # fmt: skip
    return _Problem(
        batch=u.shape[0],
        channels=u.shape[1],
        length=u.shape[2],
        states=A.shape[1],
        softplus=int(softplus),
        threads=torch.get_num_threads(),
        u=_describe(u),
        delta=_describe(delta),
        z=_describe(z),
        b=_describe(B),
        c=_describe(C),
        a=_address(A),
        skip=_address(D),
        bias=_address(bias),
        starts=_address(starts),
    )


def _run(function: str, problem: _Problem) -> None:
    if getattr(_library(), function)(ctypes.byref(problem)):
        raise MemoryError(f"{function}: no memory or no threads left")


class _NativeScan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor,
        D: Tensor | None, z: Tensor | None, bias: Tensor | None, softplus: bool,
    ) -> Tensor:  # fmt: skip
        starts = None
        if any(ctx.needs_input_grad):
            (batch, d, length), n = u.shape, A.shape[1]
            lanes, steps = _library().scan_lanes(), _library().scan_steps()
            starts = u.new_empty((batch, -(-length // steps), -(-d // lanes), n, lanes))
        out = _time_first(u)
        problem = _problem(u, delta, A, B, C, D, z, bias, softplus, starts)
        problem.out = _describe(out)
        _run("scan_forward", problem)
        ctx.save_for_backward(u, delta, A, B, C, D, z, bias, starts)
        ctx.softplus = softplus
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        u, delta, A, B, C, D, z, bias, starts = ctx.saved_tensors
        (batch, d, _), (n, lanes) = u.shape, starts.shape[-2:]
        du, ddelta, dB, dC = (_time_first(t) for t in (u, delta, B, C))
        dz = None if z is None else _time_first(z)
        dA = u.new_empty((batch, starts.shape[2], n, lanes))
        dD, dbias = u.new_empty((batch, starts.shape[2], lanes)), u.new_empty((batch, starts.shape[2], lanes))
        problem = _problem(u, delta, A, B, C, D, z, bias, ctx.softplus, starts)
        gradients = {"d_out": grads[0], "d_u": du, "d_delta": ddelta, "d_z": dz, "d_b": dB, "d_c": dC}
        for name, tensor in gradients.items():
            setattr(problem, name, _describe(tensor))
        problem.d_a, problem.d_skip, problem.d_bias = _address(dA), _address(dD), _address(dbias)
        _run("scan_backward", problem)
        total_A = _sum_rows(dA).permute(0, 2, 1).reshape(-1, n)[:d]
        total_D, total_bias = (_sum_rows(part).reshape(-1)[:d] for part in (dD, dbias))
        return (
            du, ddelta, total_A, dB, dC,
            None if D is None else total_D, dz, None if bias is None else total_bias, None,
        )  # fmt: skip


def _sum_rows(partial: Tensor) -> Tensor:
    """The rows' partial sums added in double precision, always in the same order."""
    return partial.sum(0, dtype=torch.float64).to(partial.dtype)


def native_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor,
    D: Tensor | None, z: Tensor | None, bias: Tensor | None, softplus: bool,
) -> Tensor:  # fmt: skip
    """y (B, D, L), float32, its memory laid out (B, L, D)."""
    D, bias = (None if t is None else t.contiguous() for t in (D, bias))
    y: Tensor = _NativeScan.apply(u, delta, A.contiguous(), B, C, D, z, bias, softplus)  # type: ignore[no-untyped-call]
    return y
