"""The Triton kernel in Triton's interpreter, where Triton is installed: its mathematics, not its speed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
COMPARE = """
import torch, test_scan
for shape in [(2, 40, 70, 5), (1, 3, 33, 16)]:
    truth = test_scan.outputs("reference", test_scan.inputs(*shape), torch.float64)
    found = test_scan.outputs("triton", test_scan.inputs(*shape), torch.float32)
    print(max(test_scan.relative(a, b) for a, b in zip(found, truth, strict=True)))
"""


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed (CUDA builds bring it)")
def test_kernel_equals_the_reference_in_the_interpreter() -> None:
    paths = [str(HERE), str(HERE.parents[2]), os.environ.get("PYTHONPATH", "")]
    result = subprocess.run(
        [sys.executable, "-c", COMPARE],
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert max(float(line) for line in result.stdout.split()) < 1e-5
