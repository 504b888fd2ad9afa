"""Decoys (T10), homology groups and the split (T11), and the table of windows as a whole."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from concept_core.config import Config
from concept_core.corpus.assemble import Source, assemble
from concept_core.corpus.decoys import matches, nearest_windows, off_window, scrambled, shuffled
from concept_core.corpus.homology import groups, related, word_index
from concept_core.corpus.label import by_pattern, labelled
from concept_core.corpus.rows import Protein, read_rows
from concept_core.corpus.windows import best_overlap, read_windows, write_windows
from concept_core.plans import NEGATIVES, ConceptSpec, DataPlan
from study_core.errors import BadInput

pytestmark = pytest.mark.concept
pytest.importorskip("sklearn")
PATTERN = ConceptSpec().pattern
FINGER = "MKTAYIAKQRCPECGKSFSQSSNLQKHQRTHTGEKPYVVLWDNERG"
WINDOW = (3, 44)


@pytest.fixture(scope="module")
def source(concept_config: Config) -> Source:
    paths = concept_config.paths
    rows = [tuple(read_rows(file)) for file in (paths.positives, paths.negatives)]
    return Source(rows[0], rows[1], paths.positives, paths.negatives)


def test_a_shuffle_keeps_the_letters_and_the_flanks_and_loses_the_pattern() -> None:
    for seed in range(20):
        made = shuffled(FINGER, WINDOW, PATTERN, np.random.default_rng(seed))
        assert (made[:3], made[44:]) == (FINGER[:3], FINGER[44:])
        assert Counter(made[3:44]) == Counter(FINGER[3:44])
        assert made != FINGER
        assert not matches(made, PATTERN)


def test_a_scramble_moves_ligands_alone() -> None:
    for seed in range(20):
        made = scrambled(FINGER, WINDOW, "CH", PATTERN, np.random.default_rng(seed))
        before = [at for at, letter in enumerate(FINGER[3:44]) if letter in "CH"]
        after = [at for at, letter in enumerate(made[3:44]) if letter in "CH"]
        assert Counter(made) == Counter(FINGER)
        assert not set(before) & set(after)
        moved = sum(one != other for one, other in zip(FINGER, made, strict=True))
        assert moved == 2 * len(before)  # each ligand swapped with one other letter, everything else in its place
        assert not matches(made, PATTERN)


def test_off_windows_stay_clear_of_every_known_span() -> None:
    rng = np.random.default_rng(0)
    for domains in ([(60, 81)], [(60, 81), (88, 109)]):
        moved = off_window((50, 91), domains, 200, (9, 19), 0.65, rng)
        assert moved is not None
        assert 9 <= abs(moved[0] - 50) <= 19
        assert best_overlap(moved, domains, 200) < 0.65
    assert off_window((0, 41), [(10, 31)], 41, (9, 19), 0.65, rng) is None


def test_hard_negatives_are_nearest_in_composition_and_one_a_protein() -> None:
    proteins = [Protein("a", "C" * 30 + "A" * 60), Protein("b", "A" * 90), Protein("c", "H" * 90)]
    found = nearest_windows(["C" * 30, "H" * 30], proteins, 30, [[], [], []], np.random.default_rng(0))
    assert found == [(0, (0, 30)), (2, (0, 30))]


def test_relatives_are_joined_and_strangers_are_not() -> None:
    rng = np.random.default_rng(0)
    one, other = ("".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), 200)) for _ in range(2))
    relative = one[:100] + other[150:]
    assert groups([one, other, relative, one]) == [0, 0, 0, 0]
    assert groups([one, other, one[:15] + other[15:150]]) == [0, 1, 1]
    assert related(one[50:80], word_index([one]))
    assert not related(one[50:65], word_index([one]))


def test_the_committed_set_gives_every_stratum_and_no_group_on_both_sides(source: Source) -> None:
    made = assemble(source, DataPlan(seed=3))
    parts = {part: {w.stratum for w in made.windows if w.part == part} for part in ("train", "held_out")}
    assert all({"pos", *NEGATIVES} <= strata for strata in parts.values())
    assert not {w.group for w in made.windows if w.part == "train"} & {
        w.group for w in made.windows if w.part == "held_out"
    }
    folds: dict[str, set[int]] = {}
    for window in made.windows:
        folds.setdefault(window.group, set()).add(window.fold)
    assert all(len(found) == 1 for found in folds.values())
    by_key = {window.key: window for window in made.windows}
    decoys = [window for window in made.windows if window.parent]
    assert all(by_key[window.parent].group == window.group for window in decoys if window.parent)
    assert made.facts["shared_groups"] == 0
    assert made.facts["pattern"]["decoys_with_it"] <= 0.011 * len(decoys)


def test_equal_seeds_give_equal_tables_and_a_table_reads_back(source: Source, tmp_path) -> None:  # type: ignore[no-untyped-def]
    one, other = (assemble(source, DataPlan(seed=5)).windows for _ in range(2))
    assert one == other
    assert one != assemble(source, DataPlan(seed=6)).windows
    assert read_windows(write_windows(tmp_path / "windows.jsonl", one)) == one


def test_an_external_source_is_the_held_out_part(source: Source) -> None:
    half = len(source.positives) // 2
    external = replace(source, positives=source.positives[half:], negatives=source.negatives[60:])
    main = replace(source, positives=source.positives[:half], negatives=source.negatives[:60])
    made = assemble(main, DataPlan(folds=3), external=external)
    known = {row.accession for row in (*external.positives, *external.negatives)}
    held = {window.accession for window in made.windows if window.part == "held_out"}
    assert held
    assert held <= known
    assert made.facts["shared_groups"] == 0
    assert made.facts["related_left_out"] > 0  # the halves hold relatives of each other


@pytest.mark.parametrize("what", ["accession", "sequence"])
def test_a_row_on_both_sides_is_refused_with_both_rows(source: Source, what: str) -> None:
    copied = {what: getattr(source.positives[4], what)}
    twin = source.negatives[2].model_copy(update=copied)
    doubled = replace(source, negatives=(*source.negatives[:2], twin, *source.negatives[3:]))
    with pytest.raises(BadInput, match=r"row 5: .* is also row 3 of .*c2h2_mini_neg"):
        assemble(doubled, DataPlan())


def test_too_few_positives_are_refused(source: Source) -> None:
    with pytest.raises(BadInput, match="at least 20 in 10 are needed"):
        assemble(replace(source, positives=source.positives[:12]), DataPlan())


def test_a_fasta_is_labelled_by_the_pattern() -> None:
    rng = np.random.default_rng(0)
    letters = list("ADEFGIKLMNPQRSTVWY")
    plain = [Protein(f"n{n}", "".join(rng.choice(letters, 120))) for n in range(5)]
    fingers = [Protein(f"p{n}", one.sequence[:30] + FINGER + one.sequence[30:]) for n, one in enumerate(plain)]
    found = by_pattern([*plain, *fingers], str(PATTERN))
    assert set(found) == {f"p{n}" for n in range(5)}
    positives, negatives = labelled([*plain, *fingers], found, source="pattern", width=41, seed=0)
    assert [row.accession for row in positives] == list(found)
    assert all(matches(row.sequence[slice(*row.window)], PATTERN) for row in positives)
    assert {row.accession for row in negatives} == {f"n{n}" for n in range(5)}


def test_a_pattern_is_any_expression_and_an_occurrence_must_fit_the_window() -> None:
    assert matches("AAACC", r"(.)\1") == [(0, 2), (1, 3), (3, 5)]
    assert matches("ACCA", "C*") == [(1, 3), (2, 3)]  # nothing at all is no occurrence
    with pytest.raises(ValueError, match="no regular expression"):
        ConceptSpec(pattern="(C")
    with pytest.raises(ValueError, match="not letters of the twenty"):
        ConceptSpec(ligand_residues="ch")
    with pytest.raises(ValueError, match="off_shift_min 30 is above off_shift_max 9"):
        DataPlan(off_shift_min=30, off_shift_max=9)
    proteins = [Protein("a", "M" * 50), Protein("b", "K" * 50), Protein("x", "X" * 50)]
    spans = {"a": ((0, 20), (0, 45))}
    positives, negatives = labelled(proteins, spans, source="spans", width=21, seed=0)
    assert [row.domain for row in positives] == [(0, 20)]
    assert [row.accession for row in negatives] == ["b"]
    with pytest.raises(BadInput, match="no occurrence fits a window of 11 residues, the shortest has 20"):
        labelled(proteins, spans, source="spans", width=11, seed=0)
