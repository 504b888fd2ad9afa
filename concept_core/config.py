"""The seed's `config.yaml`: the plan's sections, and `paths`. A key that does not exist names those that do.

Relative paths are looked up beside the file itself, so that a command works from any folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from concept_core.plans import ConceptPlan
from study_core.errors import BadInput
from study_core.plan import Frozen


class Paths(Frozen):
    """Where a study's files lie. Contents decide results, these do not."""

    positives: Path
    negatives: Path
    external_positives: Path | None = None
    external_negatives: Path | None = None
    pool: Path | None = None
    model_registry: Path = Path("models/model_registry.yaml")
    output: Path = Path("outputs")


class Config(Frozen):
    """A configuration file, read: what to do, and where things lie (absolute)."""

    file: Path
    plan: ConceptPlan
    paths: Paths


def read_config(file: Path, *, model: str | None = None) -> Config:
    """A configuration file; `model` wins over the file's `model.name`.

    Raises:
        BadInput: no file, not YAML, an unknown key (with the valid ones), or a value that an option does not take.
    """
    try:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError):
        raise BadInput("no such file", file=file, remedy="name the configuration with --config") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"not YAML ({str(error).splitlines()[0]})", file=file, remedy="correct the file") from None
    if not isinstance(raw, dict):
        raise BadInput("holds no sections", file=file, remedy=f"sections are {_sections()}")
    sections = {name: value for name, value in raw.items() if name != "paths"}
    if unknown := [name for name in sections if name not in ConceptPlan.model_fields]:
        raise BadInput(f"no section {unknown[0]!r}", file=file, remedy=f"sections are {_sections()}")
    if model is not None:
        sections["model"] = {**(sections.get("model") or {}), "name": model}
        if (raw.get("model") or {}).get("name") != model:  # layers, twins and context belong to the file's own model
            sections["model"] = {k: v for k, v in sections["model"].items() if k not in ("layers", "concept_free")}
            sections["embedding"] = {k: v for k, v in (sections.get("embedding") or {}).items() if k != "context"}
    plan = _validated(ConceptPlan, {name: value or {} for name, value in sections.items()}, file)
    paths = _validated(Paths, raw.get("paths") or {}, file, inside="paths")
    base = file.resolve().parent
    fields = {name: (base / value).resolve() for name, value in paths.model_dump().items() if value is not None}
    return Config(file=file.resolve(), plan=plan, paths=Paths(**fields))


def _sections() -> str:
    return ", ".join((*ConceptPlan.model_fields, "paths"))


def _validated(kind: type[Any], values: dict[str, Any], file: Path, inside: str = "") -> Any:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        location = [str(part) for part in first["loc"]]
        where = ".".join([inside, *location] if inside else location)
        if first["type"] == "extra_forbidden":
            owner = _owner(kind, location[:-1])
            raise BadInput(f"no option {where}", file=file, remedy=f"options are {', '.join(owner)}") from None
        what = first["msg"].removeprefix("Value error, ")
        raise BadInput(f"{where}: {what}", file=file, remedy="correct the value") from None


def _owner(kind: type[BaseModel], location: list[str]) -> list[str]:
    """The option names of the section that a location leads to."""
    for part in location:
        inner = kind.model_fields[part].annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            kind = inner
    return list(kind.model_fields)
