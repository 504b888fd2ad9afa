"""What a scan says of proteins: a shard on disk, and the merged predictions.json, hits.tsv, detection_summary.json.

Annotation is incomplete: a hit on a match of the pattern, and a match without a hit, are counted in columns of their
own; none is called true or false here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from concept_core.cav.rows import Floats
from concept_core.corpus.decoys import matches
from concept_core.corpus.windows import overlap
from concept_core.detection import Call
from concept_core.layout import DetectionFiles
from concept_core.npz import read_arrays
from study_core.errors import UNREADABLE, BadInput
from study_core.files import read_json, replacing, write_json, write_text

SHOWN = 13
"""Proteins whose track is kept and drawn."""
HITS_HEADER = ("accession", "first_1based", "last_1based", "score", "z", "p", "confidence", "pattern")


class Prediction(NamedTuple):
    """One protein: the call, its record, its track."""

    call: Call
    record: dict[str, Any]
    track: Floats


@dataclass(frozen=True)
class Shard:
    """Records of a shard in the order of the file; tracks of its best proteins."""

    predictions: tuple[dict[str, Any], ...]
    tracks: Mapping[str, Floats]


def prediction(one: Call, track: Floats, letters: str, pattern: str | None) -> Prediction:
    """A call as a record: hits best first, each with whether the pattern lies under it."""
    known = matches(letters, pattern)
    found = [
        {
            "start": hit.start, "end": hit.end, "score": hit.score, "coarse_start": hit.coarse,
            "pattern": any(overlap((hit.start, hit.end), span) > 0 for span in known) if pattern else None,
        }
        for hit in one.hits
    ]  # fmt: skip
    missed = sum(not any(overlap(span, (hit.start, hit.end)) > 0 for hit in one.hits) for span in known)
    record = {
        "accession": one.accession, "length": one.length, "positive": one.positive, "score": one.score, "z": one.z,
        "p": one.p, "confidence": one.confidence, "hits": found, "pattern_matches": len(known) if pattern else None,
        "pattern_matches_without_hit": missed if pattern else None, "patterns": [list(span) for span in known],
    }  # fmt: skip
    return Prediction(one, record, track)


def write_shard(folder: Path, shard: Shard) -> Path:
    """Replace a shard's two files. Tracks bear their record's number: an accession may be any word."""
    write_json(folder / "predictions.json", list(shard.predictions))
    names = [record["accession"] for record in shard.predictions]
    tracks = {str(names.index(name)): np.asarray(one) for name, one in shard.tracks.items()}
    with replacing(folder / "tracks.npz") as temporary:
        np.savez(temporary, allow_pickle=False, **tracks)
    return folder


def read_shard(folder: Path) -> Shard:
    """A shard. Raises BadInput where it is not whole."""
    try:
        arrays = read_arrays(folder / "tracks.npz")
        records = tuple(read_json(folder / "predictions.json"))
        return Shard(records, {records[int(number)]["accession"]: one for number, one in arrays.items()})
    except (*UNREADABLE, IndexError) as error:
        raise BadInput(f"no shard of predictions ({error})", file=folder, remedy="scan again") from None


@dataclass(frozen=True)
class Merged:
    """All shards: records best first, tracks of the best, the summary."""

    predictions: tuple[dict[str, Any], ...]
    tracks: Mapping[str, Floats]
    summary: dict[str, Any]


def merge(files: DetectionFiles, shards: Sequence[Path], facts: Mapping[str, Any]) -> Merged:
    """Write the three files of a scan from its shards.

    Raises:
        BadInput: a shard that is not whole, or an accession in two shards.
    """
    read = [read_shard(folder) for folder in shards]
    records = sorted(
        (record for shard in read for record in shard.predictions), key=lambda one: (-one["score"], one["accession"])
    )
    names = [record["accession"] for record in records]
    if len(set(names)) < len(names):
        raise BadInput("an accession stands in two shards", file=files.root, remedy="scan again into an empty folder")
    tracks = {name: track for shard in read for name, track in shard.tracks.items()}
    summary = {**facts, **_summary(records)}
    write_json(files.predictions, records)
    write_text(files.hits, _table(records))
    write_json(files.summary, summary)
    return Merged(tuple(records), {name: tracks[name] for name in names[:SHOWN] if name in tracks}, summary)


def _summary(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    hits = [hit for record in records for hit in record["hits"]]
    with_pattern = [record for record in records if record["pattern_matches"]]
    known = any(record["pattern_matches"] is not None for record in records)
    return {
        "proteins": len(records),
        "positive": sum(record["positive"] for record in records),
        "hits": len(hits),
        "confidence": {str(level): sum(record["confidence"] == level for record in records) for level in (3, 2, 1)},
        "hits_on_pattern": sum(bool(hit["pattern"]) for hit in hits) if known else None,
        "pattern_matches_without_hit": sum(one["pattern_matches_without_hit"] for one in with_pattern)
        if known
        else None,
        "proteins_with_pattern": len(with_pattern) if known else None,
        "positive_with_pattern": sum(record["positive"] for record in with_pattern) if known else None,
    }


def _table(records: Sequence[Mapping[str, Any]]) -> str:
    lines = ["\t".join(HITS_HEADER)]
    for record in records:
        for hit in record["hits"]:
            pattern = "" if hit["pattern"] is None else str(hit["pattern"]).lower()
            numbers = (hit["score"], record["z"], record["p"])
            cells = [record["accession"], hit["start"] + 1, hit["end"], *(f"{number:.4g}" for number in numbers)]
            lines.append("\t".join(map(str, [*cells, record["confidence"], pattern])))
    return "\n".join(lines) + "\n"
