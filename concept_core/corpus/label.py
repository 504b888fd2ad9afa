"""Label any FASTA: by a pattern, or by a file of known spans. One window a protein, positives and as many negatives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from concept_core.corpus.decoys import matches
from concept_core.corpus.rows import Protein, Row, Span, lines
from concept_core.corpus.windows import centred
from study_core.errors import BadInput


def by_pattern(proteins: Sequence[Protein], pattern: str) -> dict[str, tuple[Span, ...]]:
    """Occurrences of the pattern in each protein that has any, 0-based half-open."""
    found = {protein.accession: tuple(matches(protein.sequence, pattern)) for protein in proteins}
    return {accession: spans for accession, spans in found.items() if spans}


def read_spans(file: Path, proteins: Sequence[Protein]) -> dict[str, tuple[Span, ...]]:
    """Known spans of a tab-separated file: accession, first, last (1-based inclusive), further columns ignored.

    Raises:
        BadInput: not read as text, a line without two numbers, an accession that the FASTA lacks, a span outside.
    """
    lengths = {protein.accession: len(protein.sequence) for protein in proteins}
    spans: dict[str, list[Span]] = {}
    for number, line in enumerate(lines(file), start=1):
        fields = line.rstrip("\r\n").split("\t")
        heading = number == 1 and len(fields) > 2 and not any(letter.isdigit() for letter in fields[1] + fields[2])
        if not line.strip() or line.startswith("#") or heading:
            continue
        try:
            accession, first, last = fields[0], int(fields[1]), int(fields[2])
        except (IndexError, ValueError):
            raise BadInput(
                "no accession, first, last", file=file, row=number, remedy="three tab-separated columns, 1-based"
            ) from None
        if accession not in lengths:
            raise BadInput(f"{accession} is not in the FASTA file", file=file, row=number, remedy="use its first word")
        if not 1 <= first <= last <= lengths[accession]:
            what = f"span {first}-{last} outside 1-{lengths[accession]} of {accession}"
            raise BadInput(what, file=file, row=number, remedy="1-based, inclusive")
        spans.setdefault(accession, []).append((first - 1, last))
    if not spans:
        raise BadInput("no spans", file=file, remedy="accession, first, last; tab-separated")
    return {accession: tuple(sorted(found)) for accession, found in spans.items()}


def labelled(
    proteins: Sequence[Protein],
    spans: Mapping[str, Sequence[Span]],
    *,
    source: str,
    width: int,
    seed: int,
    pattern: str | None = None,
    longest: int = 2000,
    unknown_max: float = 0.10,
) -> tuple[list[Row], list[Row]]:
    """Positive and negative rows. A positive's window is centred on one of its spans, drawn; a negative's anywhere.

    Equal sequences count once; proteins shorter than the window, longer than `longest` or with too many unknown letters
    not at all; a protein with the pattern but without a known span is neither, nor is one whose spans all exceed the
    window.

    Raises:
        BadInput: no protein with, or none without the concept, or no occurrence that fits the window.
    """
    rng = np.random.default_rng((seed, 2))
    distinct = {
        protein.sequence: protein
        for protein in proteins
        if width <= len(protein.sequence) <= longest
        and protein.sequence.count("X") <= unknown_max * len(protein.sequence)
    }
    fitting = {accession: [span for span in known if span[1] - span[0] <= width] for accession, known in spans.items()}
    if spans and not any(fitting.values()):
        shortest = min(span[1] - span[0] for known in spans.values() for span in known)
        what = f"no occurrence fits a window of {width} residues, the shortest has {shortest}"
        raise BadInput(what, remedy="a longer window, or another pattern")
    having = [one for one in distinct.values() if fitting.get(one.accession)]
    without = [one for one in distinct.values() if not spans.get(one.accession) and not matches(one.sequence, pattern)]
    if not having or not without:
        what = "with" if not having else "without"
        raise BadInput(f"no protein {what} the concept", remedy="check the pattern, or give more sequences")
    positives = []
    for protein in having:
        known = spans[protein.accession]
        chosen = fitting[protein.accession][int(rng.integers(len(fitting[protein.accession])))]
        window = centred(chosen, width, len(protein.sequence))
        positives.append(_row(protein, window, chosen, known, source))
    negatives = []
    for number in sorted(rng.permutation(len(without))[: len(having)]):
        protein = without[number]
        start = int(rng.integers(len(protein.sequence) - width + 1))
        negatives.append(_row(protein, (start, start + width), None, (), None))
    return positives, negatives


def _row(protein: Protein, window: Span, domain: Span | None, known: Sequence[Span], source: str | None) -> Row:
    return Row(
        accession=protein.accession,
        sequence=protein.sequence,
        window_span_0based_halfopen=window,
        set="negative" if domain is None else "positive",
        domain_span_1based_inclusive=None if domain is None else (domain[0] + 1, domain[1]),
        domain_source=source,
        all_domain_spans_1based_inclusive=tuple((first + 1, last) for first, last in known),
    )
