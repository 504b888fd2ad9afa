"""The page of a scan: what was found in a FASTA file, the best proteins as a table, the best of them as tracks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from concept_core.layout import DetectionFiles
from concept_core.predictions import Merged
from concept_core.report.protein_figures import write_tracks
from study_core.files import write_text
from study_core.report.blocks import Items, Page, Picture, Section, Table

ROWS = 50
CAPTION = "Bars: hits; triangles: matches of the pattern; dashed: threshold."


def write_scan_page(files: DetectionFiles, merged: Merged) -> Page:
    """Draw the tracks and write `report.html` beside the scan's tables: one file, nothing from outside; its page."""
    tracks = [_track(merged, accession, content) for accession, content in write_tracks(files, merged)]
    found = merged.summary
    page = Page(
        title=f"Scan of {found['input']}",
        status="none",
        sentence=f"{found['positive']:,} of {found['proteins']:,} proteins score above the threshold, "
        f"{found['hits']:,} hits",
        lead=(
            "Each protein was scored window by window with one direction of a language model, its place refined by a "
            "second one. The score is a logit; p is the share of proteins without the concept that score as high.",
        ),
        facts=_facts(found),
        sections=(
            Section("best", "Best proteins", (_best(merged),)),
            Section("tracks", "Tracks", tuple(tracks)),
            Section("notices", "What the figures do not say", (Items(_notices(found)),)),
        ),
        footer="Every protein is in predictions.json, every hit in hits.tsv.",
    )
    write_text(files.report, page.html())
    return page


def _facts(found: Mapping[str, Any]) -> dict[str, str]:
    facts = {
        "model": f"{found['model']}, layer {found['layer']}",
        "threshold": f"{found['threshold']:.3g} ({found['method']})",
        "residues": f"{found['residues']:,}",
    }
    if found["hits_on_pattern"] is not None:
        facts["hits on the pattern"] = f"{found['hits_on_pattern']:,} of {found['hits']:,}"
        facts["matches without a hit"] = f"{found['pattern_matches_without_hit']:,}"
    return facts


def _best(merged: Merged) -> Table:
    shown = merged.predictions[:ROWS]
    rows = tuple(_row(one) for one in shown)
    columns = ("accession", "residues", "score", "p", "confidence", "hits", "best at", "pattern matches")
    note = f"The best {len(rows)} of {len(merged.predictions):,}. Marked rows are above the threshold."
    return Table("By score", columns, rows, tuple("pass" if one["positive"] else "none" for one in shown), note=note)


def _row(one: Mapping[str, Any]) -> tuple[str, ...]:
    first = one["hits"][0] if one["hits"] else None
    p, matches = one["p"], one["pattern_matches"]
    return (
        one["accession"], f"{one['length']:,}", f"{one['score']:.2f}", "–" if p is None else f"{p:.3f}",
        str(one["confidence"]), str(len(one["hits"])), f"{first['start'] + 1}-{first['end']}" if first else "–",
        "–" if matches is None else str(matches),
    )  # fmt: skip


def _track(merged: Merged, accession: str, content: bytes) -> Picture:
    one = next(record for record in merged.predictions if record["accession"] == accession)
    places = ", ".join(f"{hit['start'] + 1}-{hit['end']}" for hit in one["hits"]) or "none"
    return Picture(accession, content, f"Score along {accession}; hits, best first: {places}", CAPTION)


def _notices(found: Mapping[str, Any]) -> tuple[str, ...]:
    told = [
        "That a direction finds a window is no evidence that the model uses it.",
        "The longer a protein, the more windows may pass the threshold by chance; p does not correct for that.",
    ]
    if found["hits_on_pattern"] is not None:
        told.append("Annotation is incomplete: a hit away from the pattern is neither true nor false by itself.")
    if found["model"].startswith("house"):
        told.append("The house model is a fixture that knows one family, not a general protein language model.")
    return tuple(told)
