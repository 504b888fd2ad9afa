"""Every scan backend against the plain loop in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from denoise_core.model import scan_native
from denoise_core.model.scan import BACKEND_VARIABLE, resolve_backend, selective_scan
from study_core.errors import BadInput

NAMES = ("y", "u", "delta", "A", "B", "C", "D", "z", "bias")
TOLERANCE = 1e-5  # relative, float32 against float64

needs_native = pytest.mark.skipif(scan_native.why_not() is not None, reason=f"native scan: {scan_native.why_not()}")
FAST = ("blocked", pytest.param("native", marks=needs_native))


def inputs(batch: int, d: int, length: int, n: int, seed: int = 0) -> list[Tensor]:
    """u, delta, A, B, C, D, z, bias in float64; step sizes as mamba initialises them, 1e-3 to 0.1 and above."""
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    A = -torch.arange(1, n + 1, dtype=torch.float64).repeat(d, 1) * (1 + 0.1 * torch.rand(d, 1, generator=g))
    bias = -7 + 5 * torch.rand(d, generator=g, dtype=torch.float64)
    return [
        normal(batch, d, length), normal(batch, d, length), A, normal(batch, n, length), normal(batch, n, length),
        normal(d), normal(batch, d, length), bias,
    ]  # fmt: skip


def outputs(backend: str, tensors: list[Tensor | None], dtype: torch.dtype, softplus: bool = True) -> list[Tensor]:
    """y and the gradient of every given tensor."""
    own = [None if t is None else t.to(dtype).requires_grad_() for t in tensors]
    y = selective_scan(*own, delta_softplus=softplus, backend=backend)  # type: ignore[arg-type]
    weight = torch.sin(torch.arange(y.numel(), dtype=torch.float64)).to(dtype).view(y.shape)
    given = [t for t in own if t is not None]
    return [y.detach(), *torch.autograd.grad((y * weight).sum(), given)]


def relative(found: Tensor, truth: Tensor) -> float:
    return float((found.double() - truth).norm() / truth.norm())


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize(
    "shape", [(3, 20, 77, 5), (2, 16, 16, 16), (1, 1, 1, 1), (4, 33, 601, 8), (2, 70, 50, 3), (1, 7, 17, 20)]
)
def test_equals_the_reference(backend: str, shape: tuple[int, int, int, int]) -> None:
    truth = outputs("reference", inputs(*shape), torch.float64)
    found = outputs(backend, inputs(*shape), torch.float32)
    errors = {name: relative(a, b) for name, a, b in zip(NAMES, found, truth, strict=True)}
    assert max(errors.values()) < TOLERANCE, errors


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("absent", [(5,), (6,), (7,), (5, 6, 7)])
@pytest.mark.parametrize("softplus", [True, False])
def test_optional_arguments(backend: str, absent: tuple[int, ...], softplus: bool) -> None:
    tensors: list[Tensor | None] = list(inputs(2, 18, 40, 4))
    tensors[1] = torch.rand(2, 18, 40, dtype=torch.float64) * 0.2  # without softplus a step size is positive
    if not softplus:
        tensors[7] = torch.full((18,), 0.01, dtype=torch.float64)
    for index in absent:
        tensors[index] = None
    truth = outputs("reference", tensors, torch.float64, softplus)
    found = outputs(backend, tensors, torch.float32, softplus)
    assert max(relative(a, b) for a, b in zip(found, truth, strict=True)) < TOLERANCE


def test_blocked_in_float64_is_the_recurrence_itself() -> None:
    truth = outputs("reference", inputs(3, 10, 50, 4), torch.float64)
    found = outputs("blocked", inputs(3, 10, 50, 4), torch.float64)
    assert max(relative(a, b) for a, b in zip(found, truth, strict=True)) < 1e-13


def test_blocked_in_several_blocks_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = outputs("blocked", inputs(5, 10, 50, 4), torch.float64)
    monkeypatch.setattr("denoise_core.model.scan_blocked.BLOCK_BYTES", 1)
    for a, b in zip(outputs("blocked", inputs(5, 10, 50, 4), torch.float64), whole, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backend", FAST)
def test_extreme_step_sizes_stay_finite(backend: str) -> None:
    """Where a scan through cumulative sums of exponents overflows."""
    tensors: list[Tensor | None] = list(inputs(2, 17, 100, 4))
    tensors[1] = torch.linspace(-200, 200, 2 * 17 * 100, dtype=torch.float64).view(2, 17, 100)
    truth = outputs("reference", tensors, torch.float64)
    found = outputs(backend, tensors, torch.float32)
    assert max(relative(a, b) for a, b in zip(found, truth, strict=True)) < TOLERANCE


@pytest.mark.parametrize("backend", FAST)
def test_nan_is_passed_on_not_hidden(backend: str) -> None:
    tensors: list[Tensor | None] = [t.float() for t in inputs(2, 5, 30, 3)]
    assert tensors[1] is not None
    tensors[1][0, 2, 10] = float("nan")
    y = selective_scan(*tensors, backend=backend)  # type: ignore[arg-type]
    assert y[0, 2, 10:].isnan().all()
    assert y[1].isfinite().all()


@pytest.mark.parametrize("backend", FAST)
def test_rows_do_not_see_each_other(backend: str) -> None:
    tensors = [t.float() for t in inputs(4, 9, 40, 3)]
    together = selective_scan(*tensors, backend=backend)
    alone = [t[2:3] if t.shape[0] == 4 and t.ndim == 3 else t for t in tensors]
    torch.testing.assert_close(selective_scan(*alone, backend=backend)[0], together[2], rtol=1e-6, atol=1e-6)


@needs_native
def test_native_bits_depend_neither_on_threads_nor_on_layout() -> None:
    def bits(threads: int, time_first: bool) -> list[Tensor]:
        tensors = inputs(5, 20, 50, 4)
        if time_first:
            tensors = [t.transpose(1, 2).contiguous().transpose(1, 2) if t.ndim == 3 else t for t in tensors]
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            return outputs("native", tensors, torch.float32)  # type: ignore[arg-type]
        finally:
            torch.set_num_threads(before)

    once = bits(1, False)
    for again in (bits(1, False), bits(2, False), bits(3, True), bits(8, True)):
        assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))


def test_half_precision_inputs_scan_in_float32() -> None:
    tensors = [t.float() for t in inputs(2, 8, 30, 3)]
    u = tensors[0].bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = selective_scan(u, *tensors[1:], backend="blocked")
    assert y.dtype == torch.bfloat16
    truth = selective_scan(u.double(), *(t.double() for t in tensors[1:]), backend="reference")
    assert relative(y, truth) < 5e-3  # one rounding to eight bits


def test_shapes_that_do_not_fit_are_named() -> None:
    tensors = [t.float() for t in inputs(2, 8, 30, 3)]
    with pytest.raises(ValueError, match=r"C: expected shape \(2, 3, 30\), got \(2, 3, 29\)"):
        selective_scan(*tensors[:4], tensors[4][..., :-1], *tensors[5:])


def test_backend_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.delenv(BACKEND_VARIABLE, raising=False)
    assert resolve_backend("auto", cpu) == ("blocked" if scan_native.why_not() else "native")
    assert resolve_backend("auto", cpu, double=True) == "blocked"
    monkeypatch.setenv(BACKEND_VARIABLE, "reference")
    assert resolve_backend("auto", cpu) == "reference"
    assert resolve_backend("blocked", cpu) == "blocked"
    monkeypatch.setenv(BACKEND_VARIABLE, "fastest")
    with pytest.raises(BadInput, match="unknown scan backend 'fastest'"):
        resolve_backend("auto", cpu)
    with pytest.raises(BadInput, match="needs CUDA"):
        resolve_backend("mamba_ssm", cpu)


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["triton", "mamba_ssm", "blocked"])
def test_gpu_backends_equal_the_reference(backend: str) -> None:
    if backend == "mamba_ssm":
        pytest.importorskip("mamba_ssm")
    truth = outputs("reference", inputs(3, 70, 77, 5), torch.float64)
    found = outputs(backend, [t.cuda() for t in inputs(3, 70, 77, 5)], torch.float32)
    assert max(relative(a.cpu(), b) for a, b in zip(found, truth, strict=True)) < 1e-4
