"""ESM-2's alphabet: 33 tokens in the order of the published checkpoints. A file of them is a tokenizer."""

from __future__ import annotations

TOKENS = ("<cls>", "<pad>", "<eos>", "<unk>", *"LAGVSERTIDPKQNFYMHWCXBUZO.-", "<null_1>", "<mask>")
CLS, PAD, EOS, MASK = 0, 1, 2, 32
FIRST_RESIDUE, LAST_RESIDUE = 4, 23
"""Numbers of the twenty residues: L … C."""
_NUMBER = {token: number for number, token in enumerate(TOKENS)}


def numbers(sequence: str) -> list[int]:
    """Token numbers of a sequence's letters, without `<cls>` and `<eos>`; a letter that is none becomes X.

    >>> numbers("CH")
    [23, 21]
    """
    unknown = _NUMBER["X"]
    return [_NUMBER.get(letter, unknown) for letter in sequence]
