"""Seconds for waiting: a clock that nobody sets, and ages that a clock which was set does not spoil."""

from __future__ import annotations

import time

_BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # goes on while a machine sleeps
_BEGAN = time.time() - time.clock_gettime(_BOOT)


def steady() -> float:
    """Unix seconds by the clock of this process's start: a correction of the machine's clock moves no deadline."""
    return _BEGAN + time.clock_gettime(_BOOT)


def age(now: float, then: float) -> float:
    """Seconds since a time that another process wrote down; for ever, where that lies in the future of this clock."""
    return now - then if then <= now else float("inf")
