"""The YAML of sites and of tenants' stages, read with errors that name file and key and say what would be valid.

Site files (`slurm_templates/*.yaml`) know two classes of job. What a stage needs, its tenant says in its own
`tasks/<tenant>/stages.yaml`, found by its place: nothing here knows a tenant.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from tasks.slurm.resources import CLASSES, Resources

TENANTS = Path(__file__).resolve().parents[1]
_RESOURCES = frozenset(Resources.model_fields)


class BadProfile(ValueError):
    """A profile that cannot be used: file, key, what was found, what would be valid."""


def read(path: Path, valid: Collection[str] | None = None, *, own: bool = False) -> dict[str, Any]:
    """Keys and values of a YAML file; every key one of `valid`, where that is given.

    Raises:
        BadProfile: not YAML, not keys and values, an unknown key; with `own`, somebody else's to write.
    """
    try:
        with path.open(encoding="utf-8") as stream:
            if own:  # of what was opened: a name in a folder of several users may mean another file by now
                _own(path, os.fstat(stream.fileno()))
            content = yaml.safe_load(stream) or {}
    except UnicodeDecodeError:
        raise BadProfile(f"{path}: not UTF-8") from None
    except OSError as error:
        raise BadProfile(f"{path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise BadProfile(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise BadProfile(f"{path}: expected keys and values, found {type(content).__name__}")
    if valid is not None:
        _check(content, valid, path, "key")
    return content


def sections(content: dict[str, Any], kind: str, path: Path, valid: Collection[str]) -> dict[str, dict[str, Any]]:
    """The part `classes` or `stages` of a site file: what it gives to each of `valid` that it names.

    Raises:
        BadProfile: an unknown class or stage, or an unknown key in one.
    """
    found, what = content.get(kind) or {}, {"classes": "class", "stages": "stage"}[kind]
    if not isinstance(found, dict):
        raise BadProfile(f"{path}: {kind}: expected one section a {what}, found {type(found).__name__}")
    _check(found, valid, path, what)
    return {name: _section(section, path, f"{what} {name}", _RESOURCES) for name, section in found.items()}


def tenant_stages() -> dict[str, dict[str, Any]]:
    """What the stages of every tenant need, by `tenant/stage`: `class`, and any of the resources.

    Raises:
        BadProfile: a stage without a class, or with an unknown key or value.
    """
    found = {}
    for path in sorted(TENANTS.glob("*/stages.yaml")):
        for stage, section in read(path).items():
            asked = _section(section, path, f"stage {stage}", _RESOURCES | {"class"})
            if asked.get("class") not in CLASSES:
                raise BadProfile(f"{path}, stage {stage}: class: {' or '.join(CLASSES)}, found {asked.get('class')!r}")
            resources({key: value for key, value in asked.items() if key != "class"}, f"{path}, stage {stage}")
            found[f"{path.parent.name}/{stage}"] = asked
    return found


def resources(values: dict[str, Any], place: str) -> Resources:
    """Checked resources; `place` names file and section in the error.

    Raises:
        BadProfile: a value that is none.
    """
    try:
        return Resources(**values)
    except ValidationError as error:
        raise BadProfile(f"{place}: {first(error)}") from None


def _own(path: Path, found: os.stat_result) -> None:
    """Refuse a profile that somebody else may have written."""
    if found.st_uid != os.getuid() or found.st_mode & 0o022:
        why = "belongs to another user" if found.st_uid != os.getuid() else "can be written by other users"
        raise BadProfile(f"{path} {why}, and its set-up lines would run as you; copy it, then chmod go-w")


def first(error: ValidationError) -> str:
    """The first problem of a validation in one line: key, what is wrong, what was found."""
    problem = error.errors()[0]
    place = ".".join(str(part) for part in problem["loc"])
    if not place:  # a rule over several keys
        return problem["msg"].removeprefix("Value error, ")
    found = "" if problem["type"] == "missing" else f", found {problem['input']!r}"
    return f"{place}: {problem['msg'].removeprefix('Value error, ')}{found}"


def _section(found: Any, path: Path, place: str, valid: Collection[str]) -> dict[str, Any]:
    if not isinstance(found, dict | type(None)):
        raise BadProfile(f"{path}: {place}: expected keys and values, found {type(found).__name__}")
    _check(found or {}, valid, path, f"{place}: key")
    return dict(found or {})


def _check(found: Collection[Any], valid: Collection[str], path: Path, what: str) -> None:
    for key in found:
        if key not in valid:
            close = difflib.get_close_matches(str(key), sorted(valid), n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise BadProfile(f"{path}: unknown {what} {key!r}{hint}; valid: {', '.join(sorted(valid))}")
