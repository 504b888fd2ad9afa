"""From a configuration to a run's first files: the table of windows and what is known of it.

Used by the command line and by the flow alike, so that both start from the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from concept_core.config import Config, Paths
from concept_core.corpus.assemble import Assembled, Source, assemble
from concept_core.corpus.rows import Protein, read_fasta, read_rows
from concept_core.corpus.windows import read_windows, write_windows
from concept_core.layout import Layout
from concept_core.plans import ConceptPlan
from study_core.errors import BadInput
from study_core.files import peek_json, sha256_of, write_json, write_text
from study_core.plan import identity


def make_windows(config: Config, layout: Layout) -> dict[str, Any]:
    """Write `windows.jsonl`, `corpus.json` and the corrections' log; what is there for the same data is kept.

    Returns the facts of `corpus.json`.

    Raises:
        BadInput: rows that cannot be used, named by file and row; nothing is written then.
    """
    made_from = _made_from(config)
    if (facts := current_facts(layout, made_from)) is not None:
        return facts
    made = assembled(config.plan, config.paths)
    write_windows(layout.windows, made.windows)
    lines = "".join(one.model_dump_json() + "\n" for one in made.corrections)
    write_text(layout.corrections, lines)
    facts = {**made.facts, "made_from": made_from, "windows_sha256": sha256_of(layout.windows)}
    write_json(layout.corpus, facts)
    return facts


def assembled(plan: ConceptPlan, paths: Paths) -> Assembled:
    """The table of windows of a plan's files. Raises BadInput."""
    data = plan.data

    def source(positives: Any, negatives: Any) -> Source:
        read = [tuple(read_rows(file, unknown_max=data.unknown_max)) for file in (positives, negatives)]
        return Source(read[0], read[1], positives, negatives)

    if (paths.external_positives is None) != (paths.external_negatives is None):
        raise BadInput("an external source needs positives and negatives", remedy="name both under paths, or neither")
    external = source(paths.external_positives, paths.external_negatives) if paths.external_positives else None
    pool: list[Protein] = read_fasta(paths.pool, unknown_max=1.0) if paths.pool else []
    return assemble(source(paths.positives, paths.negatives), data, external=external, pool=pool)


def _made_from(config: Config) -> dict[str, Any]:
    names = ("positives", "negatives", "external_positives", "external_negatives", "pool")
    files = {name: getattr(config.paths, name) for name in names}
    missing = [file for file in files.values() if file is not None and not file.is_file()]
    if missing:
        raise BadInput("no such file", file=missing[0], remedy=f"correct paths in {config.file}")
    hashes = {name: sha256_of(file) for name, file in files.items() if file is not None}
    return {"data": identity(config.plan.data), **hashes}


def current_facts(layout: Layout, made_from: dict[str, Any]) -> dict[str, Any] | None:
    """The facts of a table that is there, unchanged, and made from the same files and plan; else None."""
    facts = peek_json(layout.corpus)
    if not isinstance(facts, dict) or facts.get("made_from") != made_from or not layout.windows.exists():
        return None
    return facts if sha256_of(layout.windows) == facts.get("windows_sha256") else None


SECONDS_PER_1000 = {"esm2_t6": 0.23, "esm2_t12": 0.91, "esm2_t30": 3.70, "esm2_t33": 14.0, "unirep_256": 0.09}
"""Measured on one thread of a CPU, single precision: what to expect where there is no GPU."""


def expected_on_cpu(networks: Sequence[str], windows: Path) -> str:
    """How long a CPU will take to embed the windows, in words; empty for models that were never measured."""
    rates = [rate for name in networks for start, rate in SECONDS_PER_1000.items() if name.startswith(start)]
    if not rates:
        return ""
    residues = sum(len(letters) for letters in {window.sequence for window in read_windows(windows)})
    minutes = residues / 1000 * sum(rates) / 60
    return f"about {minutes:.1f} minutes of one core for {residues:,} residues in {len(rates)} networks"


def windows_in_words(counts: Mapping[str, Mapping[str, int]]) -> str:
    """How many windows each part has, from `corpus.json`'s counts by part and stratum."""
    parts = {"train": "in training", "held_out": "held out"}
    told = [
        f"{sum(found.values())} {parts[part]}, {found.get('pos', 0)} of them with the concept"
        for part, found in sorted(counts.items(), reverse=True)
    ]
    return f"windows: {'; '.join(told)}"
