"""The indexing guardrail (T1): what fits stays, what can be mended is mended and logged, the rest is dropped."""

from __future__ import annotations

import pytest

from concept_core.corpus.guardrail import checked, tokens_of
from concept_core.corpus.rows import Row

SEQUENCE = "MKTAYIAKQRCPECGKSFSQSSNLQKHQRTHTGEKPYVVLWDNERG"
DOMAIN = (11, 31)  # 1-based inclusive: CPECGKSFSQSSNLQKHQRTH


def row(window: tuple[int, int], domain: tuple[int, int] | None = DOMAIN) -> Row:
    label = "positive" if domain else "negative"
    return Row(
        accession="P1",
        sequence=SEQUENCE,
        window_span_0based_halfopen=window,
        set=label,
        domain_span_1based_inclusive=domain,
    )


def test_a_window_with_its_domain_stays() -> None:
    assert checked(row((5, 36))) == ((5, 36), None)


def test_a_window_out_of_the_sequence_is_clipped() -> None:
    span, correction = checked(row((5, 60)))
    assert span == (5, len(SEQUENCE))
    assert correction is not None
    assert (correction.reason, correction.original, correction.length) == ("out_of_range", (5, 60), 46)


@pytest.mark.parametrize(("window", "mended"), [((11, 32), (10, 31)), ((9, 30), (10, 31))])
def test_a_window_off_by_one_is_shifted(window: tuple[int, int], mended: tuple[int, int]) -> None:
    span, correction = checked(row(window))
    assert span == mended
    assert correction is not None
    assert correction.reason == "bos_offset"


def test_a_tokenizer_without_start_token_is_noticed() -> None:
    span, correction = checked(row((5, 36)), tokens=tokens_of(SEQUENCE)[1:])
    assert span == (4, 35)
    assert correction is not None
    assert correction.reason == "bos_offset"


@pytest.mark.parametrize("window", [(0, 20), (50, 60), (20, 20), (30, 10)])
def test_what_cannot_be_mended_is_dropped(window: tuple[int, int]) -> None:
    span, correction = checked(row(window))
    assert span is None
    assert correction is not None
    assert (correction.reason, correction.corrected) == ("unresolvable", None)


def test_tokens_that_spell_something_else_drop_the_row() -> None:
    assert checked(row((5, 36)), tokens=["<cls>", *SEQUENCE[::-1], "<eos>"])[0] is None


def test_a_negative_has_no_domain_to_hold() -> None:
    assert checked(row((0, 20), domain=None)) == ((0, 20), None)
