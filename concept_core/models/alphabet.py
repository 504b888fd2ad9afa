"""ESM-2's alphabet: 33 tokens in the order of the published checkpoints. A file of them is a tokenizer."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

TOKENS = ("<cls>", "<pad>", "<eos>", "<unk>", *"LAGVSERTIDPKQNFYMHWCXBUZO.-", "<null_1>", "<mask>")
CLS, PAD, EOS, MASK = 0, 1, 2, 32
FIRST_RESIDUE, LAST_RESIDUE = 4, 23
"""Numbers of the twenty residues: L … C."""
_TABLE = np.full(256, TOKENS.index("X"), dtype=np.int64)
for _number, _token in enumerate(TOKENS):
    if len(_token) == 1:
        _TABLE[ord(_token)] = _number


def token_numbers(sequence: str) -> npt.NDArray[np.int64]:
    """A sequence's tokens between `<cls>` and `<eos>`; a letter that is none becomes X.

    >>> token_numbers("CH").tolist()
    [0, 23, 21, 2]
    """
    inside = _TABLE[np.frombuffer(sequence.encode("ascii", "replace"), dtype=np.uint8)]
    return np.concatenate([[CLS], inside, [EOS]])
