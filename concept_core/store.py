"""The per-residue store of one model: states of every labelled window, on disk, written in shards and read by layer.

Making it is resumable: shards that were finished for the same windows, model and layers are kept. The finished store
is `L<l>_pos.npy` and `L<l>_neg.npy` (float16: windows × window length × width, in the order of the table of windows),
`L<l>_meta.json`, and `store.json`, which says what it was made from.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from concept_core.corpus.windows import Window
from concept_core.embedding import residue_states, seen
from concept_core.layout import EmbeddingFiles
from concept_core.models.protein_lm import FloatArray, ProteinLM
from concept_core.plans import EmbeddingPlan
from study_core.errors import BadInput, TrainingInterrupted
from study_core.files import peek_json, read_json, replacing, sha256_of, write_json
from study_core.plan import identity


@dataclass(frozen=True)
class Made:
    """What a store is made of; equal values, equal store."""

    model: str
    model_sha256: str
    windows_sha256: str
    layers: tuple[int, ...]
    untrained_seed: int | None
    context: int | None
    overlap: int

    def to_dict(self) -> dict[str, Any]:
        return {**self.__dict__, "layers": list(self.layers)}


def write_store(
    files: EmbeddingFiles,
    windows: Sequence[Window],
    model: ProteinLM,
    made: Made,
    plan: EmbeddingPlan,
    *,
    halvings: int = 0,
    tell: Callable[[int, int], None] = lambda done, total: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> int:
    """Embed every window and write the store. Returns the residues that went through the model in this call.

    Raises:
        BadInput: windows of different lengths, or a state that is not finite.
        TrainingInterrupted: between two shards, when asked to stop; the same call goes on from there.
    """
    widths = {window.end - window.start for window in windows}
    if len(widths) != 1:
        raise BadInput(f"windows of {len(widths)} different lengths", remedy="run the data step again")
    if peek_json(files.store) == made.to_dict() and all(files.meta(layer).exists() for layer in made.layers):
        return 0
    if peek_json(files.shards / "made.json") != made.to_dict():
        shutil.rmtree(files.shards, ignore_errors=True)
        write_json(files.shards / "made.json", made.to_dict())
    shown = [seen(window, plan.context) for window in windows]
    order = sorted(range(len(windows)), key=lambda number: (-len(shown[number].letters), shown[number].letters, number))
    shards = [order[at : at + plan.sequences_per_shard] for at in range(0, len(order), plan.sequences_per_shard)]
    budget = max(64, plan.tokens_per_batch >> halvings)
    residues = 0
    for number, members in enumerate(shards):
        path = files.shards / f"{number:05d}.safetensors"
        if not path.exists():
            if should_stop():
                raise TrainingInterrupted(f"stopped after {number} of {len(shards)} shards")
            residues += _write_shard(path, [shown[one] for one in members], model, made.layers, budget, plan.overlap)
        tell(number + 1, len(shards))
    _merge(files, windows, shards, made)
    shutil.rmtree(files.shards)
    return residues


def _write_shard(
    path: Path, shown: Sequence[Any], model: ProteinLM, layers: Sequence[int], budget: int, overlap: int
) -> int:
    """States of some windows; windows of one protein share its forward."""
    from safetensors.numpy import save_file

    letters = list(dict.fromkeys(one.letters for one in shown))
    users: dict[str, list[int]] = {}
    for row, one in enumerate(shown):
        users.setdefault(one.letters, []).append(row)
    width = shown[0].end - shown[0].start
    tapped: dict[int, npt.NDArray[np.float16]] = {}
    for number, states in residue_states(model, letters, layers, tokens_per_batch=budget, overlap=overlap):
        for row in users[letters[number]]:
            for layer in layers:
                size = (len(shown), width, states[layer].shape[1])  # layer 0 may be narrower
                tapped.setdefault(layer, np.empty(size, dtype=np.float16))[row] = states[layer][
                    shown[row].start : shown[row].end
                ]
    for layer, array in tapped.items():
        if not np.isfinite(array).all():
            what = f"model {model.name}: a state of layer {layer} is not finite in half precision"
            raise BadInput(what, remedy="embed with dtype fp32, or leave the layer out")
    with replacing(path) as temporary:
        save_file({f"L{layer}": array for layer, array in tapped.items()}, temporary)
    return sum(len(one) for one in letters)


def _merge(files: EmbeddingFiles, windows: Sequence[Window], shards: Sequence[Sequence[int]], made: Made) -> None:
    from safetensors import safe_open

    positive = np.array([window.positive for window in windows])
    place = np.where(positive, np.cumsum(positive) - 1, np.cumsum(~positive) - 1)
    for layer in made.layers:
        arrays: dict[bool, npt.NDArray[np.float16]] = {}
        for number, members in enumerate(shards):
            with safe_open(files.shards / f"{number:05d}.safetensors", framework="numpy") as shard:
                block = shard.get_tensor(f"L{layer}")
            for label in (True, False):
                rows = [row for row, one in enumerate(members) if positive[one] == label]
                target = arrays.setdefault(
                    label, np.empty((int((positive == label).sum()), *block.shape[1:]), dtype=np.float16)
                )
                target[[place[members[row]] for row in rows]] = block[rows]
        hashes = {}
        for label, path in ((True, files.positives(layer)), (False, files.negatives(layer))):
            with replacing(path) as temporary:
                np.save(temporary, arrays[label], allow_pickle=False)
            hashes[path.name] = sha256_of(path)
        if len(set(hashes.values())) == 1:
            raise BadInput(f"layer {layer}: positives and negatives are the same bytes", file=files.root)
        write_json(files.meta(layer), _meta(layer, windows, made, hashes))
    write_json(files.store, made.to_dict())


def _meta(layer: int, windows: Sequence[Window], made: Made, hashes: dict[str, str]) -> dict[str, Any]:
    def rows(label: bool) -> list[dict[str, Any]]:
        fields = {"key", "accession", "start", "end", "stratum", "group", "part", "fold"}
        return [window.model_dump(include=fields) for window in windows if window.positive == label]

    return {
        "layer": layer,
        "made": made.to_dict(),
        "made_sha256": identity(made.to_dict()),
        "files": hashes,
        "positive": rows(True),
        "negative": rows(False),
    }


@dataclass(frozen=True)
class Store:
    """A finished store beside its table of windows; rows are in the table's order."""

    files: EmbeddingFiles
    windows: tuple[Window, ...]
    made: Made

    @property
    def layers(self) -> tuple[int, ...]:
        return self.made.layers

    def residues(self, layer: int) -> npt.NDArray[np.float16]:
        """(windows, window length, width) in the table's order."""
        if layer not in self.layers:
            raise BadInput(f"layer {layer} was not embedded", file=self.files.root, remedy=f"one of {self.layers}")
        positive = np.load(self.files.positives(layer), allow_pickle=False)
        negative = np.load(self.files.negatives(layer), allow_pickle=False)
        labels = np.array([window.positive for window in self.windows])
        if (len(positive), len(negative)) != (labels.sum(), (~labels).sum()):
            raise BadInput("another number of windows", file=self.files.positives(layer), remedy="embed again")
        rows: npt.NDArray[np.float16] = np.empty((len(labels), *positive.shape[1:]), dtype=np.float16)
        rows[labels], rows[~labels] = positive, negative
        return rows

    def pooled(self, layer: int) -> FloatArray:
        """Mean over each window: (windows, width), float32."""
        return np.asarray(self.residues(layer).mean(axis=1, dtype=np.float32))


def open_store(files: EmbeddingFiles, windows_file: Path) -> Store:
    """A finished store, checked against the table of windows that it was made from.

    Raises:
        BadInput: no store, or it was made from other windows.
    """
    from concept_core.corpus.windows import read_windows

    try:
        raw = read_json(files.store)
        made = Made(**{**raw, "layers": tuple(raw["layers"])})
    except FileNotFoundError:
        raise BadInput("no finished embeddings", file=files.root, remedy="run the embed step first") from None
    except (ValueError, TypeError, KeyError) as error:
        raise BadInput(f"no store ({error})", file=files.store, remedy="embed again") from None
    found = sha256_of(windows_file)
    if made.windows_sha256 != found:
        what = f"made from windows {made.windows_sha256[:12]}, these are {found[:12]}"
        raise BadInput(what, file=files.store, remedy="embed again")
    return Store(files, tuple(read_windows(windows_file)), made)
