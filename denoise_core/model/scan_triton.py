"""The selective scan on a GPU without the mamba-ssm build: one Triton kernel each way, sequential in time.

A program owns BLOCK_D channels of one batch row and keeps their states in registers; B·D/BLOCK_D programs fill a GPU,
so no parallel scan, no padding of L. The forward pass saves the state at the start of every CHUNK steps; the backward
pass runs a chunk again into a scratch buffer, then walks it backwards. Sums over channels and rows are written as
partial sums and added by torch, without atomics: equal inputs give equal bits.

Checked in Triton's interpreter and compiled for sm_90; its speed on a GPU has not been measured.
B batch, D channels, N states (BLOCK_N: the next power of two), L time, K chunks, P blocks of channels.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# (a kernel's arguments are pointers and constants of Triton's own language)

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK_D = 32
CHUNK = 32
LOG2E: tl.constexpr = tl.constexpr(1.4426950408889634)


@triton.jit
def _step_size(raw, SOFTPLUS: tl.constexpr):
    """dt: softplus in float32. log(1 + e) loses the digits of a small e; e / ((1 + e) - 1) gives them back."""
    if SOFTPLUS:
        e = tl.exp(-tl.abs(raw))
        w = 1.0 + e
        log1p = tl.where(w == 1.0, e, tl.log(w) * (e / (w - 1.0 + (w == 1.0).to(tl.float32))))
        return tl.maximum(raw, 0.0) + log1p
    return raw


@triton.jit
def _forward(
    u_ptr, delta_ptr, A_ptr, B_ptr, C_ptr, D_ptr, z_ptr, bias_ptr, out_ptr, starts_ptr,
    d_total, n_total, length,
    SOFTPLUS: tl.constexpr, HAS_D: tl.constexpr, HAS_Z: tl.constexpr, HAS_BIAS: tl.constexpr, SAVE: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    n = tl.arange(0, BLOCK_N)
    d_ok, n_ok = d < d_total, n < n_total
    both = d_ok[:, None] & n_ok[None, :]
    state_at = d[:, None] * n_total + n[None, :]
    A = tl.load(A_ptr + state_at, both, 0.0) * LOG2E
    skip = tl.load(D_ptr + d, d_ok, 0.0) if HAS_D else tl.zeros([BLOCK_D], tl.float32)
    bias = tl.load(bias_ptr + d, d_ok, 0.0) if HAS_BIAS else tl.zeros([BLOCK_D], tl.float32)
    h = tl.zeros([BLOCK_D, BLOCK_N], tl.float32)
    chunks = tl.cdiv(length, CHUNK)
    for t in range(length):
        if SAVE:  # noqa: SIM102  (a constant outside, a runtime value inside)
            if t % CHUNK == 0:
                tl.store(starts_ptr + (row * chunks + t // CHUNK) * d_total * n_total + state_at, h, both)
        at, n_at = (row * length + t) * d_total + d, (row * length + t) * n_total + n
        u = tl.load(u_ptr + at, d_ok, 0.0)
        dt = _step_size(tl.load(delta_ptr + at, d_ok, 0.0) + bias, SOFTPLUS)
        B = tl.load(B_ptr + n_at, n_ok, 0.0)
        C = tl.load(C_ptr + n_at, n_ok, 0.0)
        h = tl.exp2(dt[:, None] * A) * h + (dt * u)[:, None] * B[None, :]
        y = tl.sum(h * C[None, :], 1) + skip * u
        if HAS_Z:
            z = tl.load(z_ptr + at, d_ok, 0.0)
            y = y * z * tl.sigmoid(z)
        tl.store(out_ptr + at, y, d_ok)


@triton.jit
def _backward(
    u_ptr, delta_ptr, A_ptr, B_ptr, C_ptr, D_ptr, z_ptr, bias_ptr, starts_ptr, scratch_ptr, d_out_ptr,
    d_u_ptr, d_delta_ptr, d_A_ptr, d_B_ptr, d_C_ptr, d_D_ptr, d_z_ptr, d_bias_ptr,
    d_total, n_total, length,
    SOFTPLUS: tl.constexpr, HAS_D: tl.constexpr, HAS_Z: tl.constexpr, HAS_BIAS: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    row, block = tl.program_id(0).to(tl.int64), tl.program_id(1)
    d = block * BLOCK_D + tl.arange(0, BLOCK_D)
    n = tl.arange(0, BLOCK_N)
    d_ok, n_ok = d < d_total, n < n_total
    both = d_ok[:, None] & n_ok[None, :]
    state_at = d[:, None] * n_total + n[None, :]
    A = tl.load(A_ptr + state_at, both, 0.0)
    A2 = A * LOG2E
    skip = tl.load(D_ptr + d, d_ok, 0.0) if HAS_D else tl.zeros([BLOCK_D], tl.float32)
    bias = tl.load(bias_ptr + d, d_ok, 0.0) if HAS_BIAS else tl.zeros([BLOCK_D], tl.float32)
    carry, d_A = tl.zeros([BLOCK_D, BLOCK_N], tl.float32), tl.zeros([BLOCK_D, BLOCK_N], tl.float32)
    d_D, d_bias = tl.zeros([BLOCK_D], tl.float32), tl.zeros([BLOCK_D], tl.float32)
    chunks, blocks = tl.cdiv(length, CHUNK), tl.num_programs(1)
    # CHUNK + 1 states: the chunk's start, then the state after each of its steps
    local = tl.arange(0, BLOCK_D)[:, None] * BLOCK_N + n[None, :]
    own_scratch = scratch_ptr + (row * blocks + block) * (CHUNK + 1) * BLOCK_D * BLOCK_N + local
    for back in range(chunks):
        chunk = chunks - 1 - back
        first = chunk * CHUNK
        steps = tl.minimum(CHUNK, length - first)
        h = tl.load(starts_ptr + (row * chunks + chunk) * d_total * n_total + state_at, both, 0.0)
        tl.debug_barrier()  # the chunk before has been read by every thread
        tl.store(own_scratch, h)
        for k in range(steps):
            at, n_at = (row * length + first + k) * d_total + d, (row * length + first + k) * n_total + n
            u = tl.load(u_ptr + at, d_ok, 0.0)
            dt = _step_size(tl.load(delta_ptr + at, d_ok, 0.0) + bias, SOFTPLUS)
            B = tl.load(B_ptr + n_at, n_ok, 0.0)
            h = tl.exp2(dt[:, None] * A2) * h + (dt * u)[:, None] * B[None, :]
            tl.store(own_scratch + (k + 1) * BLOCK_D * BLOCK_N, h)
        tl.debug_barrier()
        for j in range(steps):
            k = steps - 1 - j
            t = row * length + first + k
            at, n_at = t * d_total + d, t * n_total + n
            u = tl.load(u_ptr + at, d_ok, 0.0)
            raw = tl.load(delta_ptr + at, d_ok, 0.0) + bias
            dt = _step_size(raw, SOFTPLUS)
            B = tl.load(B_ptr + n_at, n_ok, 0.0)
            C = tl.load(C_ptr + n_at, n_ok, 0.0)
            before = tl.load(own_scratch + k * BLOCK_D * BLOCK_N)
            h = tl.load(own_scratch + (k + 1) * BLOCK_D * BLOCK_N)
            d_y = tl.load(d_out_ptr + at, d_ok, 0.0)
            if HAS_Z:
                z = tl.load(z_ptr + at, d_ok, 0.0)
                s = tl.sigmoid(z)
                y = tl.sum(h * C[None, :], 1) + skip * u
                tl.store(d_z_ptr + at, d_y * y * s * (1.0 + z * (1.0 - s)), d_ok)
                d_y = d_y * z * s
            g = d_y[:, None] * C[None, :] + carry
            partial_at = ((row * blocks + block) * length + first + k) * n_total + n
            tl.store(d_C_ptr + partial_at, tl.sum(d_y[:, None] * h, 0), n_ok)
            tl.store(d_B_ptr + partial_at, tl.sum(g * (dt * u)[:, None], 0), n_ok)
            from_input = tl.sum(g * B[None, :], 1)
            carry = g * tl.exp2(dt[:, None] * A2)
            q = carry * before
            d_A += q * dt[:, None]
            d_dt = tl.sum(q * A, 1) + from_input * u
            if SOFTPLUS:
                d_dt = d_dt * tl.sigmoid(raw)
            tl.store(d_delta_ptr + at, d_dt, d_ok)
            tl.store(d_u_ptr + at, from_input * dt + skip * d_y, d_ok)
            d_bias += d_dt
            d_D += d_y * u
    tl.store(d_A_ptr + row * d_total * n_total + state_at, d_A, both)
    tl.store(d_D_ptr + row * d_total + d, d_D, d_ok)
    tl.store(d_bias_ptr + row * d_total + d, d_bias, d_ok)


def _time_first(t: Tensor | None) -> Tensor | None:
    """(B, D, L) -> contiguous (B, L, D): neighbouring lanes read neighbouring channels."""
    return None if t is None else t.transpose(1, 2).contiguous()


class _TritonScan(torch.autograd.Function):
    """Time-first tensors: u, delta, z (B, L, D); B, C (B, L, N)."""

    @staticmethod
    def forward(
        ctx: Any, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor,
        D: Tensor | None, z: Tensor | None, bias: Tensor | None, softplus: bool,
    ) -> Tensor:  # fmt: skip
        (batch, length, d), n = u.shape, A.shape[1]
        save = any(ctx.needs_input_grad)
        out = torch.empty_like(u)
        starts = u.new_empty((batch, triton.cdiv(length, CHUNK), d, n) if save else (1,))
        given = {"HAS_D": D is not None, "HAS_Z": z is not None, "HAS_BIAS": bias is not None}
        sizes = {"BLOCK_D": BLOCK_D, "BLOCK_N": triton.next_power_of_2(n), "CHUNK": CHUNK}
        ctx.options = {"SOFTPLUS": softplus, **given, **sizes}
        grid = (batch, triton.cdiv(d, BLOCK_D))
        _forward[grid](
            u, delta, A, B, C, _or(D, u), _or(z, u), _or(bias, u), out, starts, d, n, length,
            SAVE=save, num_warps=1, **ctx.options,
        )  # fmt: skip
        ctx.save_for_backward(u, delta, A, B, C, D, z, bias, starts)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        u, delta, A, B, C, D, z, bias, starts = ctx.saved_tensors
        (batch, length, d), n = u.shape, A.shape[1]
        grid = (batch, triton.cdiv(d, BLOCK_D))
        scratch = u.new_empty((*grid, CHUNK + 1, BLOCK_D, ctx.options["BLOCK_N"]))
        du, ddelta = torch.empty_like(u), torch.empty_like(delta)
        dz = None if z is None else torch.empty_like(z)
        dA, dD, dbias = u.new_empty((batch, d, n)), u.new_empty((batch, d)), u.new_empty((batch, d))
        dB, dC = (u.new_empty((*grid, length, n)) for _ in range(2))
        _backward[grid](
            u, delta, A, B, C, _or(D, u), _or(z, u), _or(bias, u), starts, scratch, grads[0].contiguous(),
            du, ddelta, dA, dB, dC, dD, _or(dz, u), dbias, d, n, length, num_warps=1, **ctx.options,
        )  # fmt: skip
        return (
            du, ddelta, dA.sum(0), dB.sum(1), dC.sum(1),
            None if D is None else dD.sum(0), dz, None if bias is None else dbias.sum(0), None,
        )  # fmt: skip


def _or(tensor: Tensor | None, stand_in: Tensor) -> Tensor:
    """A pointer that the kernel's constants say is never followed, where there is no tensor."""
    return stand_in if tensor is None else tensor


def triton_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor,
    D: Tensor | None, z: Tensor | None, bias: Tensor | None, softplus: bool,
) -> Tensor:  # fmt: skip
    """y (B, D, L), float32, its memory laid out (B, L, D)."""
    D, bias = (None if t is None else t.contiguous() for t in (D, bias))
    first = [_time_first(t) for t in (u, delta, B, C, z)]
    y: Tensor = _TritonScan.apply(  # type: ignore[no-untyped-call]
        first[0], first[1], A.contiguous(), first[2], first[3], D, first[4], bias, softplus
    )
    return y.transpose(1, 2)
