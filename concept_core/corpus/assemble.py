"""From labelled rows to the table of windows: guardrail, strata of negatives, homology groups, held-out part, folds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from concept_core.corpus.decoys import enriched, matches, nearest_windows, off_window, scrambled, shuffled
from concept_core.corpus.guardrail import Correction, TokensOf, checked
from concept_core.corpus.homology import groups
from concept_core.corpus.rows import Protein, Row, Span, refuse_duplicates
from concept_core.corpus.splits import split
from concept_core.corpus.windows import Part, Window, centred, key_of, overlap
from concept_core.plans import NEGATIVES, DataPlan
from study_core.errors import BadInput


@dataclass(frozen=True)
class Source:
    """The two files of one source, read."""

    positives: tuple[Row, ...]
    negatives: tuple[Row, ...]
    positives_file: Path
    negatives_file: Path


@dataclass
class Assembled:
    """The windows, and what a person should know of how they came about."""

    windows: list[Window] = field(default_factory=list)
    corrections: list[Correction] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


def assemble(
    source: Source,
    plan: DataPlan,
    *,
    external: Source | None = None,
    pool: Sequence[Protein] = (),
    tokens_of: TokensOf | None = None,
) -> Assembled:
    """The table of windows of a source; an `external` one becomes the held-out part. `pool`: more proteins for `hard`.

    Relatives of a training protein in the external source are left out and counted.

    Raises:
        BadInput: duplicates across classes or parts, an empty class, too few positives or groups.
    """
    _check(source, external)
    made = Assembled()
    rng = np.random.default_rng((plan.seed, 0))
    kept, lost = _guarded(source, plan, made, tokens_of)
    windows = _strata(kept, plan, pool, rng, "train")
    rows = len(source.positives) + len(source.negatives)
    if external is not None:
        kept_external, lost_external = _guarded(external, plan, made, tokens_of)
        windows += _strata(kept_external, plan, (), rng, "held_out")
        rows, lost = rows + len(external.positives) + len(external.negatives), lost + lost_external
    windows = _grouped(windows, plan)
    related = 0
    if external is not None:
        training = {window.group for window in windows if window.part == "train"}
        before = len(windows)
        windows = [window for window in windows if window.part == "train" or window.group not in training]
        related = before - len(windows)
    _enough(windows, plan, source.positives_file)
    made.windows = split(windows, held_out=plan.held_out, folds=plan.folds, seed=plan.seed, fixed=external is not None)
    made.facts = _facts(made, plan, rows, lost, related, source)
    return made


def _check(source: Source, external: Source | None) -> None:
    refuse_duplicates(source.positives, source.negatives, source.positives_file, source.negatives_file)
    if external is not None:
        refuse_duplicates(external.positives, external.negatives, external.positives_file, external.negatives_file)
        for held, file in (
            (external.positives, external.positives_file),
            (external.negatives, external.negatives_file),
        ):
            refuse_duplicates(held, source.positives, file, source.positives_file)
            refuse_duplicates(held, source.negatives, file, source.negatives_file)
    for one in (source, external):
        for rows, file, label in () if one is None else (
            (one.positives, one.positives_file, "positive"),
            (one.negatives, one.negatives_file, "negative"),
        ):  # fmt: skip
            for number, row in enumerate(rows, start=1):
                if row.set != label:
                    raise BadInput(
                        f"set is {row.set}, expected {label}", file=file, row=number, remedy="swap the files?"
                    )


def _guarded(
    source: Source, plan: DataPlan, made: Assembled, tokens_of: TokensOf | None
) -> tuple[list[tuple[Row, Span]], int]:
    """Rows with windows of the plan's length, and how many were dropped."""
    kept: list[tuple[Row, Span]] = []
    dropped = 0
    for row in (*source.positives, *source.negatives):
        span, correction = checked(row, tokens_of(row.sequence) if tokens_of else None)
        if span is not None and span[1] - span[0] != plan.window:
            resized = centred(row.domain or span, plan.window, len(row.sequence))
            usable = resized if resized[1] - resized[0] == plan.window else None
            original = correction.original if correction else row.window
            correction = Correction(
                accession=row.accession, original=original, corrected=usable, length=len(row.sequence),
                reason="resized" if usable else "unresolvable",
            )  # fmt: skip
            span = usable
        if correction is not None:
            made.corrections.append(correction)
        if span is None:
            dropped += 1
        else:
            kept.append((row, span))
    return kept, dropped


def _strata(
    kept: Sequence[tuple[Row, Span]], plan: DataPlan, pool: Sequence[Protein], rng: np.random.Generator, part: Part
) -> list[Window]:
    """Positives, and every stratum of negatives that belongs to them."""
    concept = plan.concept
    positives = [(row, span) for row, span in kept if row.positive]
    negatives = [(row, span) for row, span in kept if not row.positive]
    if not positives or not negatives:
        missing = "negative" if positives else "positive"
        raise BadInput(f"no usable {missing} row", remedy="see logs/indexing_corrections.jsonl")
    ligands = concept.ligand_residues or enriched(
        [row.sequence[slice(*span)] for row, span in positives], [row.sequence for row, _ in negatives]
    )
    windows = [_window(row.accession, row.sequence, span, "pos", part, domains=row.domains) for row, span in positives]
    windows += [_window(row.accession, row.sequence, span, "rand", part) for row, span in negatives]
    windows += _hard(positives, negatives, plan, pool, rng, part)
    for row, span in positives:
        parent = key_of(row.accession, span[0], "pos")
        elsewhere = tuple(one for one in row.domains if one[1] <= span[0] or one[0] >= span[1])
        shuf = shuffled(row.sequence, span, concept.pattern, rng)
        scr = scrambled(row.sequence, span, ligands, concept.pattern, rng)
        for stratum, letters in (("shuf", shuf), ("scr", scr)):
            if letters != row.sequence:  # one letter throughout, or none to move: no decoy can be made
                windows.append(_window(row.accession, letters, span, stratum, part, parent=parent, domains=elsewhere))
        shifts = (plan.off_shift_min, plan.off_shift_max)
        known = tuple({*row.domains, *matches(row.sequence, concept.pattern)})
        moved = off_window(span, known, len(row.sequence), shifts, plan.off_iou_max, rng)
        if moved is not None:
            windows.append(_window(row.accession, row.sequence, moved, "off", part, parent=parent, domains=row.domains))
    return windows


def _hard(
    positives: Sequence[tuple[Row, Span]],
    negatives: Sequence[tuple[Row, Span]],
    plan: DataPlan,
    pool: Sequence[Protein],
    rng: np.random.Generator,
    part: Part,
) -> list[Window]:
    own: dict[str, list[Span]] = {}
    proteins: dict[str, str] = {}
    for row, span in negatives:
        proteins[row.accession] = row.sequence
        own.setdefault(row.accession, []).append(span)
    taken = {row.accession for row, _ in positives} | {row.sequence for row, _ in positives}
    for accession, sequence in pool:
        if accession not in taken and sequence not in taken:
            proteins.setdefault(accession, sequence)
    natural = [Protein(accession, sequence) for accession, sequence in proteins.items()]
    forbidden = [[*own.get(one.accession, []), *matches(one.sequence, plan.concept.pattern)] for one in natural]
    targets = [row.sequence[slice(*span)] for row, span in positives]
    found = nearest_windows(targets, natural, plan.window, forbidden, rng)
    chosen = [(natural[one[0]], one[1]) for one in found if one is not None]
    return [_window(protein.accession, protein.sequence, span, "hard", part) for protein, span in chosen]


def _window(
    accession: str,
    sequence: str,
    span: Span,
    stratum: Any,
    part: Part,
    *,
    parent: str | None = None,
    domains: tuple[Span, ...] = (),
) -> Window:
    return Window(
        key=key_of(accession, span[0], stratum), accession=accession, sequence=sequence, start=span[0], end=span[1],
        stratum=stratum, group="", part=part, parent=parent, domains=domains,
    )  # fmt: skip


def _grouped(windows: Sequence[Window], plan: DataPlan) -> list[Window]:
    """Groups of the natural proteins; a decoy takes its positive's. Raises BadInput where a key stands twice."""
    twice = [key for key, count in Counter(window.key for window in windows).items() if count > 1]
    if twice:
        raise BadInput(f"window {twice[0]} stands twice", remedy="remove one of the equal rows")
    natural: dict[str, str] = {}
    for window in windows:
        if window.stratum in ("pos", "rand", "hard"):
            natural.setdefault(window.accession, window.sequence)
    numbers = groups(list(natural.values()), k=plan.kmer, shared=plan.shared_kmers)
    named = {accession: f"g{number:04d}" for accession, number in zip(natural, numbers, strict=True)}
    return [window.model_copy(update={"group": named[window.accession]}) for window in windows]


def _enough(windows: Sequence[Window], plan: DataPlan, file: Path) -> None:
    positives = [window for window in windows if window.positive]
    count = len({window.group for window in positives})
    if len(positives) < plan.min_positives or count < plan.min_groups:
        what = f"{len(positives)} positive windows in {count} homology groups"
        least = f"at least {plan.min_positives} in {plan.min_groups}"
        raise BadInput(what, file=file, remedy=f"{least} are needed for a verdict")


def _facts(made: Assembled, plan: DataPlan, rows: int, lost: int, related: int, source: Source) -> dict[str, Any]:
    counts: dict[str, dict[str, int]] = {}
    for window in made.windows:
        part = counts.setdefault(window.part, {})
        part[window.stratum] = part.get(window.stratum, 0) + 1
    parts: dict[str, set[str]] = {"train": set(), "held_out": set()}
    for window in made.windows:
        parts[window.part].add(window.group)
    pattern = plan.concept.pattern
    unannotated = known = 0
    for row in source.positives:
        for hit in matches(row.sequence, pattern):
            if any(overlap(hit, domain) > 0 for domain in row.domains):
                known += 1
            else:
                unannotated += 1
    return {
        "rows": rows,
        "dropped": lost,
        "dropped_share": lost / rows,
        "corrections": dict(Counter(one.reason for one in made.corrections)),
        "related_left_out": related,
        "windows": counts,
        "strata_present": all(all(part.get(name, 0) for name in ("pos", *NEGATIVES)) for part in counts.values()),
        "groups": {name: len(found) for name, found in parts.items()},
        "shared_groups": len(parts["train"] & parts["held_out"]),
        "pattern": {
            "hits_annotated": known,
            "hits_unannotated": unannotated,
            "in_positive_windows": sum(bool(matches(w.letters, pattern)) for w in made.windows if w.positive),
            "negative_proteins_with_it": sum(bool(matches(row.sequence, pattern)) for row in source.negatives),
            "decoys_with_it": sum(
                bool(matches(w.letters, pattern)) for w in made.windows if w.parent and w.stratum != "off"
            ),
        },
        "unknown_letters": sum(row.sequence.count("X") for row in (*source.positives, *source.negatives)),
    }
