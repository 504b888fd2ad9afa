"""The tables that a verdict is computed from, and nothing else: what is archived, and what replay reads again.

oof_scores.csv  a score a window and source: source, role, layer, key, stratum, group, part, score
nulls.npz       AUROC of every refit, an array a source
proteins.csv    a whole protein a source: source, role, layer, accession, kind, group, fold, length, maximum, iou …
facts.json      integrity of the corpus and the settings of the bootstrap
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from concept_core.cav.rows import Floats
from concept_core.frames import read_csv, write_csv
from concept_core.layout import EvaluationFiles
from concept_core.npz import read_arrays
from study_core.errors import UNREADABLE, BadInput
from study_core.files import read_json, replacing, write_json
from study_core.plan import Frozen


class Facts(Frozen):
    """What a verdict needs beside scores: integrity counts and the settings of the bootstrap."""

    dropped_share: float
    shared_groups: int
    not_finite: int
    strata_missing: int
    smoke_passed: int | None
    null_refits: int
    layers: tuple[int, ...]
    window: int
    bootstrap: int
    confidence: float
    seed: int


@dataclass(frozen=True)
class Tables:
    """All of it in memory."""

    scores: pd.DataFrame
    nulls: Mapping[str, Floats]
    proteins: pd.DataFrame
    facts: Facts


def write_tables(files: EvaluationFiles, tables: Tables) -> None:
    """Replace the four files."""
    write_csv(files.scores, tables.scores)
    write_csv(files.proteins, tables.proteins)
    with replacing(files.nulls) as temporary:
        np.savez(temporary, allow_pickle=False, **{name: np.asarray(array) for name, array in tables.nulls.items()})
    write_json(files.facts, tables.facts.model_dump(mode="json"))


def read_tables(files: EvaluationFiles) -> Tables:
    """The four files. Raises BadInput where one is missing or cannot be read."""
    try:
        nulls = read_arrays(files.nulls)
        facts = Facts.model_validate(read_json(files.facts))
    except FileNotFoundError as error:
        raise BadInput("no such file", file=error.filename, remedy="run evaluate first") from None
    except UNREADABLE as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadInput(f"cannot be read ({first})", file=files.root, remedy="run evaluate again") from None
    return Tables(read_csv(files.scores), nulls, read_csv(files.proteins), facts)
