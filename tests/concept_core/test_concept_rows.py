"""Rows and FASTA: a fault names its file and row, in one line (T14)."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from concept_core.corpus.label import read_spans
from concept_core.corpus.rows import Protein, read_fasta, read_rows, write_fasta, write_rows
from study_core.errors import BadInput

ROW = {
    "accession": "P1", "sequence": "MKTAYIAKQR", "window_span_0based_halfopen": [0, 5], "set": "positive",
    "domain_span_1based_inclusive": [1, 5], "domain_source": "Pfam",
}  # fmt: skip


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "row 2: not JSON"),
        (json.dumps({**ROW, "set": "maybe"}), "row 2: set: "),
        (json.dumps({**ROW, "colour": 1}), "row 2: colour: "),
        (json.dumps({name: value for name, value in ROW.items() if name != "accession"}), "row 2: accession: "),
        (json.dumps({**ROW, "sequence": "MKTAY1AKQR"}), "row 2: '1' is no residue"),
        ("[1]", "row 2: no object with a row's fields"),
        (json.dumps({**ROW, "domain_span_1based_inclusive": [0, 5]}), "row 2: domain span 0-5 outside 1-10"),
        (json.dumps({**ROW, "domain_span_1based_inclusive": [5, 1]}), "row 2: domain span 5-1 outside 1-10"),
        (json.dumps({**ROW, "all_domain_spans_1based_inclusive": [[8, 11]]}), "row 2: domain span 8-11 outside 1-10"),
        (json.dumps({**ROW, "sequence": "MKTAYIAKQQ"}), "row 2: accession P1 has another sequence in row 1"),
        (json.dumps({**ROW, "sequence": "BBZJMKTAYI"}), "row 2: 4 of 10 letters are outside the twenty"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, line: str, told: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(ROW) + "\n" + line + "\n")
    with pytest.raises(BadInput, match=told) as caught:
        read_rows(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_rows_read_back(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({**ROW, "sequence": "mktayiakqu"}) + "\n\n")
    rows = read_rows(file)
    assert rows[0].sequence == "MKTAYIAKQX"
    assert (rows[0].domain, rows[0].domains, rows[0].window) == ((0, 5), ((0, 5),), (0, 5))
    assert read_rows(write_rows(tmp_path / "again.jsonl", rows)) == rows


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no FASTA record"),
        ("MKT\n", "line 1 stands before the first header"),
        (">a\n>b\nMK\n", "row 1: empty sequence"),
        (">a\nMK\n>a\nMK\n", "row 2: id a again"),
        ("> \nMK\n", "row 1: header without an id"),
        (">a\nMK-T\n", "row 1: '-' is no residue"),
        (">a\nACGTTGCAACGTAGNCAT\n", "nearly every letter is A, C, G or T"),
    ],
)
def test_a_bad_fasta_is_named(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "in.fasta"
    file.write_text(text)
    with pytest.raises(BadInput, match=told):
        read_fasta(file)


def test_fasta_reads_back_and_gzip_by_its_name(tmp_path: Path) -> None:
    proteins = [Protein("a", "MKT" * 50), Protein("b", "MX" * 5)]
    plain = write_fasta(tmp_path / "a.fasta", proteins)
    packed = tmp_path / "a.fasta.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert read_fasta(plain, unknown_max=1) == read_fasta(packed, unknown_max=1) == proteins
    broken = tmp_path / "b.fasta.gz"
    broken.write_bytes(plain.read_bytes())
    with pytest.raises(BadInput, match="cannot be read as text"):
        read_fasta(broken)
    with pytest.raises(BadInput, match="no such file"):
        read_fasta(tmp_path / "none.fasta")


def test_letters_that_editors_and_databases_leave_are_read(tmp_path: Path) -> None:
    file = tmp_path / "in.fasta"
    file.write_bytes(b"\xef\xbb\xbf>a some words\r\nmkt u\r\nWVB*\r\n\r\n>b\r\nMKLLZ\r\n>a again\r\nMKTUWVB\r\n")
    assert read_fasta(file, unknown_max=1, repeated=True) == [Protein("a", "MKTXWVX"), Protein("b", "MKLLX")]
    file.write_text(">a\nMKT\n>a\nMKL\n")
    with pytest.raises(BadInput, match=r"row 2: id a again in other letters \(first in record 1\)"):
        read_fasta(file, repeated=True)


def test_known_spans_are_checked_against_the_sequences(tmp_path: Path) -> None:
    file = tmp_path / "spans.tsv"
    proteins = [Protein("a", "M" * 30)]
    file.write_text("accession\tfirst\tlast\na\t3\t9\tPF1\na\t1\t2\n")
    assert read_spans(file, proteins) == {"a": ((0, 2), (2, 9))}
    file.write_bytes(b"\xef\xbb\xbfa\t3\t9\tPF1\r\n")  # no heading: the first line counts, whatever its last column
    assert read_spans(file, proteins) == {"a": ((2, 9),)}
    for line, told in (("a\t3\t31", "row 1: span 3-31 outside 1-30"), ("b\t1\t2", "row 1: b is not in the FASTA"),
        ("a 1 2", "row 1: no accession, first, last"),
    ):  # fmt: skip
        file.write_text(line + "\n")
        with pytest.raises(BadInput, match=told):
            read_spans(file, proteins)
