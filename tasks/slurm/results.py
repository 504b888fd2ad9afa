"""What a node leaves in a job's folder, as forms: a result that certifies itself, a marker, a request to end.

Standard library: the node writes them, whoever follows the job reads them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.slurm import files


def result_bytes(result: Any, attempt: int) -> bytes:
    """The content of result.json: the result, who made it, and its own sha256, so that the file certifies itself."""
    content = {"attempt": attempt, "result": result}
    return files.encode({**content, "sha256": hashlib.sha256(files.encode(content)).hexdigest()}) + b"\n"


@dataclass(frozen=True)
class Result:
    """A whole result.json."""

    value: dict[str, Any]
    attempt: int
    file_sha256: str


def read_result(folder: Path) -> Result | None:
    """The result of a finished job; None where it is missing or damaged."""
    content = files.peek_json(folder / "result.json")
    if not isinstance(content, dict) or set(content) != {"attempt", "result", "sha256"}:
        return None
    expected = result_bytes(content["result"], content["attempt"])
    if files.encode(content) + b"\n" != expected:
        return None
    return Result(content["result"], content["attempt"], hashlib.sha256(expected).hexdigest())


def not_json(value: Any, place: str = "result") -> str:
    """The first thing in `value` that is no JSON, as "result.loss is nan"; empty where all of it is."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"{place} is {value}"
    inner: Iterable[tuple[str, Any]] = ()
    if isinstance(value, Mapping):
        inner = ((f"{place}.{key}", one) for key, one in value.items())
        if strange := [key for key in value if not_json(key) or isinstance(key, Mapping | list | tuple)]:
            return f"a key of {place} is {strange[0]!r}"
    elif isinstance(value, list | tuple):
        inner = ((f"{place}[{number}]", one) for number, one in enumerate(value))
    elif value is not None and not isinstance(value, str | int | float):
        return f"{place} is a {type(value).__name__}"
    return next((found for name, one in inner if (found := not_json(one, name))), "")


def marker(
    attempt: int, state: str, cause: str, message: str, result_sha256: str, slurm_id: str, node: str
) -> dict[str, Any]:
    """The content of marker-N.json but for who wrote it when."""
    return {
        "attempt": attempt, "state": state, "cause": cause, "message": message, "result_sha256": result_sha256,
        "slurm_id": slurm_id, "node": node,
    }  # fmt: skip


def cancel_request(attempts: list[dict[str, Any]]) -> str:
    """Name of the file that asks for the end of a job, of this round of attempts and no other."""
    first = max(place for place, one in enumerate(attempts) if one["opens_round"])
    return f"cancel-{attempts[first]['number']}.json"
