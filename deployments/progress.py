"""A job's progress in words: `train-god_run: 40 %, epoch 4 of 10, 43.2 dB, 2 min left`."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any

_PLUMBING = ("state", "reason", "node", "attempt", "slurm_id", "elapsed_s")  # for the web page; here the science
_PAIRS = {"epoch": "epochs", "done": "total"}


class Pace:
    """How fast a job's percentage grows, from what was seen of it: a training that went on did not begin at zero."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first: tuple[float, float] | None = None
        self._last: tuple[float, float] | None = None

    def left(self, percent: float) -> float | None:
        """Seconds to 100 %; None until it moved."""
        now = self._clock()
        if self._first is None or percent < self._first[1]:
            self._first = self._last = (now, percent)
        elif self._last is None or percent > self._last[1]:
            self._last = (now, percent)
        assert self._last is not None
        (began, start), (moved, reached) = self._first, self._last
        if reached <= start or moved <= began:
            return None
        rate = (reached - start) / (moved - began)
        return max((100.0 - reached) / rate - (now - moved), 0.0)


def said(name: str, artifact: Mapping[str, Any] | None, pace: Pace, words: Mapping[str, str]) -> str:
    """A step under way: its name, and from its progress artifact how far it is; `words` says a tenant's figures."""
    if artifact is None:
        return name
    percent = float(artifact["data"])
    fields = _fields(str(artifact["description"] or ""))
    parts = [f"{percent:.0f} %"]
    for key, whole in _PAIRS.items():
        if key in fields and whole in fields:
            parts.append(f"{'' if key == 'done' else f'{key} '}{fields[key]} of {fields[whole]}")
    for key in sorted(fields.keys() - {*_PLUMBING, *_PAIRS, *_PAIRS.values()}, key=lambda key: _rank(key, words)):
        parts.append(words[key].format(fields[key]) if key in words else f"{key} {fields[key]}")
    left = pace.left(percent)
    if left is not None:
        parts.append(f"{duration(left)} left")
    return f"{name}: {', '.join(parts)}"


def _rank(key: str, words: Mapping[str, str]) -> tuple[int, str]:
    """A study's own words first, in its order."""
    return (list(words).index(key), key) if key in words else (len(words), key)


def _fields(description: str) -> dict[str, str]:
    """`epoch 4, epochs 10` as pairs, in order; what a job has nothing to say of is left out."""
    pairs = (part.partition(" ") for part in description.split(", "))
    return {key: _short(value) for key, gap, value in pairs if gap and value not in ("null", "None")}


def _short(value: str) -> str:
    """A number of many digits with four of them."""
    return f"{float(value):.4g}" if re.fullmatch(r"-?\d+\.\d{5,}(e-?\d+)?", value) else value


def duration(seconds: float) -> str:
    """For people: `40 s`, `12 min`, `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
