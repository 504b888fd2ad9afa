"""Homology without a tool: proteins that share enough identical words are relatives, and relatives stay together.

A word is a k-mer without X. Two proteins are joined where they share at least `shared` different words; a group is a
connected component. Words that many proteins carry (a common linker) are counted like any other.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence


def words(sequence: str, k: int) -> set[str]:
    """The different k-mers of a sequence, without those that hold an X."""
    found = {sequence[start : start + k] for start in range(len(sequence) - k + 1)}
    return {word for word in found if "X" not in word}


def groups(sequences: Sequence[str], *, k: int = 9, shared: int = 8) -> list[int]:
    """Group number of each sequence; groups are numbered by their first member, equal sequences share one."""
    parent = list(range(len(sequences)))

    def root(one: int) -> int:
        while parent[one] != one:
            parent[one] = parent[parent[one]]
            one = parent[one]
        return one

    first: dict[str, int] = {}
    for number, sequence in enumerate(sequences):
        parent[number] = first.setdefault(sequence, number)
    for (one, other), count in _shared(sequences, sorted(first.values()), k).items():
        if count >= shared:
            parent[max(root(one), root(other))] = min(root(one), root(other))
    numbers: dict[int, int] = {}
    return [numbers.setdefault(root(number), len(numbers)) for number in range(len(sequences))]


def _shared(sequences: Sequence[str], members: Iterable[int], k: int) -> Counter[tuple[int, int]]:
    """How many words each pair of sequences shares, for pairs that share any."""
    carriers: dict[str, list[int]] = defaultdict(list)
    for number in members:
        for word in words(sequences[number], k):
            carriers[word].append(number)
    counts: Counter[tuple[int, int]] = Counter()
    for found in carriers.values():
        for position, one in enumerate(found):
            for other in found[position + 1 :]:
                counts[one, other] += 1
    return counts


def related(sequence: str, reference: dict[str, set[int]], *, k: int = 9, shared: int = 8) -> bool:
    """Whether a sequence shares enough words with one of the proteins of a `word_index`."""
    counts: Counter[int] = Counter()
    for word in words(sequence, k):
        counts.update(reference.get(word, ()))
    return any(count >= shared for count in counts.values())


def word_index(sequences: Sequence[str], *, k: int = 9) -> dict[str, set[int]]:
    """Which of the sequences carry a word."""
    index: dict[str, set[int]] = defaultdict(set)
    for number, sequence in enumerate(sequences):
        for word in words(sequence, k):
            index[word].add(number)
    return dict(index)
