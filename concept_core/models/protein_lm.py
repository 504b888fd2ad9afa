"""What the rest of the package asks of a protein language model, whoever made it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


class ProteinLM(Protocol):
    """Hidden states per residue. Layer 0 is the embedding of single letters, layer l the state after block l."""

    @property
    def name(self) -> str:
        """Its key in the registry."""

    @property
    def hidden_size(self) -> int:
        """Width of a hidden state."""

    @property
    def num_layers(self) -> int:
        """Layers 0 … num_layers can be asked for."""

    @property
    def max_residues(self) -> int:
        """Longest piece of a protein that one forward takes."""

    @property
    def most_tokens(self) -> int | None:
        """Tokens of a forward beyond which it only gets slower where it computes; None: memory alone is the limit."""

    @property
    def causal(self) -> bool:
        """Whether a residue's state knows only what stands before it."""

    def hidden_states(self, sequences: Sequence[str], layers: Sequence[int]) -> list[Mapping[int, FloatArray]]:
        """One batch, one forward: for each sequence its states a layer, (residues, width), special tokens left out.

        A sequence's states do not depend on the others of the batch.
        """


class MaskedLM(ProteinLM, Protocol):
    """A model that fills in masked residues; `network` is differentiable (true TCAV goes through it)."""

    @property
    def network(self) -> Any:
        """The `EsmForMaskedLM`."""

    def tokens(self, sequences: Sequence[str]) -> tuple[Any, Any]:
        """Token numbers and attention mask, both int64 tensors (sequences, longest + 2); residue i is token i + 1."""
