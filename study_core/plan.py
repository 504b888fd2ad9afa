"""Plans as data: frozen pydantic models, what differs between two, and the hash that names a plan's results.

A plan says *what* is computed. Where it runs (the Slurm profile, folders of this machine) is no part of it, so that
moving to another cluster renames nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from study_core.errors import BadInput


class Frozen(BaseModel):
    """Immutable, and strict about names: a misspelt option is an error, never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")


P = TypeVar("P", bound=BaseModel)


def changed(plan: P, changes: Mapping[str, Any]) -> P:
    """`plan` with nested `changes` laid over it, validated anew.

    Raises:
        BadInput: an option that the plan does not have, with those that it has; or a value that it does not take.
    """
    try:
        return type(plan).model_validate(_overlaid(plan, changes, ""))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        what = first["msg"].removeprefix("Value error, ")
        raise BadInput(f"{'.'.join(map(str, first['loc']))}: {what}", remedy="correct the plan") from error


def _overlaid(plan: BaseModel, changes: Mapping[str, Any], inside: str) -> dict[str, Any]:
    merged = plan.model_dump()
    for name, value in changes.items():
        if name not in merged:
            raise BadInput(f"no option {inside}{name}", remedy=f"one of {', '.join(merged)}")
        inner = getattr(plan, name)
        if isinstance(value, Mapping) and isinstance(inner, BaseModel):
            merged[name] = _overlaid(inner, value, f"{inside}{name}.")
        elif isinstance(value, Mapping) and isinstance(inner, Mapping):
            merged[name] = {**merged[name], **value}  # an open table: its keys are data, not options
        else:
            merged[name] = value
    return merged


def difference(one: BaseModel, other: BaseModel) -> dict[str, tuple[Any, Any]]:
    """Every leaf that differs between two plans, by dotted name: (in one, in the other); None where it is absent."""
    first, second = flat(one.model_dump(mode="json")), flat(other.model_dump(mode="json"))
    names = [*first, *(name for name in second if name not in first)]
    return {name: (first.get(name), second.get(name)) for name in names if first.get(name) != second.get(name)}


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, names joined by dots; lists are leaves."""
    leaves: dict[str, Any] = {}
    for name, inner in value.items():
        if isinstance(inner, Mapping):
            leaves |= flat(inner, f"{prefix}{name}.")
        else:
            leaves[f"{prefix}{name}"] = inner
    return leaves


def canonical_json(value: BaseModel | dict[str, Any] | list[Any]) -> str:
    """Sorted keys, no white space, no NaN: equal values give equal text on every machine."""
    data = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)


def identity(value: BaseModel | dict[str, Any] | list[Any]) -> str:
    """SHA-256 of the canonical JSON: the name of a plan's results."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
