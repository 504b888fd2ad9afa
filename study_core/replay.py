"""What came of a replay: how many figures were compared with their records, and what differs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple


class Difference(NamedTuple):
    """One thing that is not as recorded. `where`: file and row, gate, or table."""

    where: str
    what: str
    recorded: str = ""
    recomputed: str = ""

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        values = f" was {self.recorded}, is {self.recomputed}" if self.recorded or self.recomputed else ""
        return f"{place}{self.what}{values}"


@dataclass(frozen=True)
class Replay:
    """Outcome; `notes`: what could not be compared at all, `within`: how near counts as equal, in words."""

    compared: int
    differences: tuple[Difference, ...]
    notes: tuple[str, ...] = ()
    within: str = ""

    @property
    def equal(self) -> bool:
        """Nothing differs, and something was compared."""
        return self.compared > 0 and not self.differences

    def lines(self) -> list[str]:
        """What to print: the outcome first."""
        head = (
            f"equal: {self.compared} figures are as recorded ({self.within})"
            if self.equal
            else f"DIFFERENT: {len(self.differences)} of {self.compared} figures are not as recorded ({self.within})"
        )
        return [head, *(f"  {one}" for one in self.differences), *(f"note: {note}" for note in self.notes)]


class Comparison:
    """Holds figures against their records, one by one. Numbers count as equal within `relative` or `absolute`."""

    def __init__(self, relative: float, absolute: float = 1e-9) -> None:
        self.relative, self.absolute = relative, absolute
        self.compared = 0
        self.differences: list[Difference] = []
        self.notes: list[str] = []

    def exact(self, where: str, what: str, recorded: Any, recomputed: Any) -> bool:
        """Whether both are the same."""
        return self._hold(recorded == recomputed, where, what, recorded, recomputed)

    def close(
        self, where: str, what: str, recorded: Any, recomputed: Any, *,
        relative: float | None = None, absolute: float | None = None,
    ) -> bool:  # fmt: skip
        """Numbers within the tolerance; missing and not finite (null in the files) are one and the same."""
        left, right = _finite(recorded), _finite(recomputed)
        same = left is right
        if left is not None and right is not None:
            same = math.isclose(left, right, rel_tol=relative or self.relative, abs_tol=absolute or self.absolute)
        return self._hold(same, where, what, left, right)

    def outcome(self, within: str, notes: tuple[str, ...] = ()) -> Replay:
        """What came of it."""
        return Replay(self.compared, tuple(self.differences), (*self.notes, *notes), within)

    def _hold(self, same: bool, where: str, what: str, recorded: Any, recomputed: Any) -> bool:
        self.compared += 1
        if not same:
            self.differences.append(Difference(where, what, _text(recorded), _text(recomputed)))
        return same


def _finite(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _text(value: Any) -> str:
    return "–" if value is None else f"{value:.9g}" if isinstance(value, float) else str(value)
