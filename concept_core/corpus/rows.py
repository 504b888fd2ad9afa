"""Labelled proteins: the seed's JSONL rows, and FASTA. Every fault names its file and row.

A row of JSONL: `{accession, sequence, window_span_0based_halfopen, set, domain_span_1based_inclusive, domain_source}`,
with optional `all_domain_spans_1based_inclusive` (every known occurrence) and `homology_group`. A FASTA record is the
first word of its header and its letters, unlabelled.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field, ValidationError

from study_core.errors import BadInput
from study_core.files import write_text
from study_core.plan import Frozen

RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
"""The twenty; every other letter becomes X."""
_KNOWN = frozenset(RESIDUES)
NUCLEOTIDES = 0.95
"""Share of A, C, G, T and N, residues too, above which a file holds no proteins: of those they are under a third."""

Span = tuple[int, int]


class Protein(NamedTuple):
    """An accession and its sequence, letters outside the twenty already X."""

    accession: str
    sequence: str


class Row(Frozen):
    """One labelled protein. Spans as the seed writes them: the window 0-based half-open, domains 1-based inclusive."""

    accession: str = Field(min_length=1)
    sequence: str = Field(min_length=1)
    window_span_0based_halfopen: Span
    set: Literal["positive", "negative"]
    domain_span_1based_inclusive: Span | None = None
    domain_source: str | None = None
    all_domain_spans_1based_inclusive: tuple[Span, ...] = ()
    homology_group: str | None = None

    @property
    def window(self) -> Span:
        """0-based half-open."""
        return self.window_span_0based_halfopen

    @property
    def positive(self) -> bool:
        return self.set == "positive"

    @property
    def domain(self) -> Span | None:
        """The window's own domain, 0-based half-open; None for a negative."""
        span = self.domain_span_1based_inclusive
        return None if span is None else (span[0] - 1, span[1])

    @property
    def domains(self) -> tuple[Span, ...]:
        """Every known domain of the protein, 0-based half-open, sorted."""
        spans = {(first - 1, last) for first, last in self.all_domain_spans_1based_inclusive}
        if self.domain:
            spans.add(self.domain)
        return tuple(sorted(spans))


def cleaned(sequence: str) -> tuple[str, int]:
    """Upper case, letters outside the twenty as X; and how many were not of the twenty."""
    letters = "".join(letter if letter in _KNOWN else "X" for letter in sequence.upper())
    return letters, letters.count("X")


def _checked(sequence: str, unknown_max: float, file: Path, row: int) -> str:
    sequence = "".join(sequence.split()).rstrip("*")
    if not sequence:
        raise BadInput("empty sequence", file=file, row=row, remedy="remove the record")
    if not (sequence.isascii() and sequence.isalpha()):
        odd = next(letter for letter in sequence if not (letter.isascii() and letter.isalpha()))
        raise BadInput(f"{odd!r} is no residue", file=file, row=row, remedy="one letter a residue, unaligned")
    letters, unknown = cleaned(sequence)
    if unknown > unknown_max * len(letters):
        what = f"{unknown} of {len(letters)} letters are outside the twenty"
        raise BadInput(what, file=file, row=row, remedy=f"at most {unknown_max:.0%} may be; is this a protein?")
    return letters


def read_rows(file: Path, *, unknown_max: float = 0.10) -> list[Row]:
    """The rows of a JSONL file, sequences cleaned.

    Raises:
        BadInput: no such file, no rows, a row that is no JSON, misses or has an unknown field, is no protein, has a
            domain outside its sequence, or an earlier row's accession with another sequence.
    """
    rows: list[Row] = []
    seen: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(lines(file), start=1):
        if not line.strip():
            continue
        try:
            row = Row.model_validate(json.loads(line))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            what = f"{where}: {first['msg']}" if where else "no object with a row's fields"
            raise BadInput(what, file=file, row=number, remedy="see data/concept/README.md for the fields") from None
        except ValueError as error:
            raise BadInput(f"not JSON ({error})", file=file, row=number, remedy="one JSON object a line") from None
        row = row.model_copy(update={"sequence": _checked(row.sequence, unknown_max, file, number)})
        _refuse_spans_outside(row, file, number)
        first_row, letters = seen.setdefault(row.accession, (number, row.sequence))
        if letters != row.sequence:
            what = f"accession {row.accession} has another sequence in row {first_row}"
            raise BadInput(what, file=file, row=number, remedy="one sequence an accession")
        rows.append(row)
    if not rows:
        raise BadInput("no rows", file=file, remedy="one JSON object a line")
    return rows


def _refuse_spans_outside(row: Row, file: Path, number: int) -> None:
    """A known occurrence has no second source to correct it from, as a window has."""
    own = row.domain_span_1based_inclusive
    for first, last in (*row.all_domain_spans_1based_inclusive, *((own,) if own else ())):
        if not 1 <= first <= last <= len(row.sequence):
            what = f"domain span {first}-{last} outside 1-{len(row.sequence)}"
            raise BadInput(what, file=file, row=number, remedy="1-based, inclusive, first before last")


def read_fasta(file: Path, *, unknown_max: float = 0.10, repeated: bool = False) -> list[Protein]:
    """The records of a FASTA file (gzip by suffix `.gz`). `repeated`: an id may come twice in the same letters.

    Raises:
        BadInput: no such file, no record, letters before the first header, an empty or repeated id, no protein,
            nucleotides.
    """
    proteins = list(stream_fasta(file, unknown_max=unknown_max, repeated=repeated))
    if not proteins:
        raise BadInput("no FASTA record", file=file, remedy="a header line begins with `>`")
    bases = sum(sequence.count(letter) for _, sequence in proteins for letter in "ACGTN")
    if bases > NUCLEOTIDES * sum(len(sequence) - sequence.count("X") for _, sequence in proteins):
        raise BadInput("nearly every letter is A, C, G or T", file=file, remedy="translate nucleotides to proteins")
    return proteins


def stream_fasta(file: Path, *, unknown_max: float = 0.10, repeated: bool = False) -> Iterator[Protein]:
    """The same records one at a time: a part of a large file costs no memory for the rest."""
    seen: dict[str, tuple[int, int]] = {}
    for number, (header, letters) in enumerate(_records(file), start=1):
        words = header.split()
        if not words:
            raise BadInput("header without an id", file=file, row=number, remedy="`>` and the accession")
        accession = words[0]
        sequence = _checked(letters, unknown_max, file, number)
        first, same = seen.setdefault(accession, (number, hash(sequence)))
        if first != number:
            if repeated and same == hash(sequence):
                continue
            what = f"id {accession} again{' in other letters' if repeated else ''} (first in record {first})"
            raise BadInput(what, file=file, row=number, remedy="ids must be unique")
        yield Protein(accession, sequence)


def lines(file: Path) -> Iterator[str]:
    """The lines of a text file, plain or gzip by its name, without a byte-order mark. Raises BadInput."""
    try:
        with (
            gzip.open(file, "rt", encoding="utf-8-sig")
            if file.suffix == ".gz"
            else open(file, encoding="utf-8-sig") as handle
        ):
            yield from handle
    except FileNotFoundError:
        raise BadInput("no such file", file=file, remedy="check the path") from None
    except IsADirectoryError:
        raise BadInput("is a folder", file=file, remedy="name a file") from None
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError) as error:
        raise BadInput(f"cannot be read as text ({error})", file=file, remedy="plain text, or gzip named .gz") from None


def _records(file: Path) -> Iterator[tuple[str, str]]:
    header: str | None = None
    letters: list[str] = []
    for number, line in enumerate(lines(file), start=1):
        line = line.rstrip("\r\n")
        if line.startswith(">"):
            if header is not None:
                yield header, "".join(letters)
            header, letters = line[1:], []
        elif header is None and line.strip():
            raise BadInput(f"line {number} stands before the first header", file=file, remedy="is this FASTA?")
        else:
            letters.append(line)
    if header is not None:
        yield header, "".join(letters)


def write_rows(file: Path, rows: Iterable[Row]) -> Path:
    """Replace `file` by one JSON object a line, in the seed's field names."""
    return write_text(file, "".join(json.dumps(_dumped(row)) + "\n" for row in rows))


def _dumped(row: Row) -> dict[str, Any]:
    fields = row.model_dump(mode="json")
    return {name: value for name, value in fields.items() if name != "homology_group" or value is not None}


def write_fasta(file: Path, proteins: Iterable[Protein], *, width: int = 60) -> Path:
    """Replace `file` by FASTA."""
    lines = []
    for accession, sequence in proteins:
        lines.append(f">{accession}")
        lines += [sequence[start : start + width] for start in range(0, len(sequence), width)]
    return write_text(file, "\n".join(lines) + "\n")


def refuse_duplicates(one: Sequence[Row], other: Sequence[Row], file: Path, other_file: Path) -> None:
    """Raise BadInput, naming both rows, where two sets share an accession or a sequence."""
    by_name = {row.accession: number for number, row in enumerate(other, start=1)}
    by_letters = {row.sequence: number for number, row in enumerate(other, start=1)}
    for number, row in enumerate(one, start=1):
        for what, found in (
            (f"accession {row.accession}", by_name.get(row.accession)),
            ("the same sequence", by_letters.get(row.sequence)),
        ):
            if found is not None:
                where = f"{what} is also row {found} of {other_file}"
                raise BadInput(where, file=file, row=number, remedy="keep it in one of them")
