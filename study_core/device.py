"""Which device a job computes on. Apart from `job`, so that only what uses torch depends on its version."""

from __future__ import annotations


def device_for(wanted: str) -> str:
    """`auto` is CUDA where there is one, else the CPU; anything else is taken at its word."""
    if wanted != "auto":
        return wanted
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
