"""What a run shows: files in its folder, verdict, page and tables as artifacts, the auditor's bundle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from concept_core.evaluation.thresholds import seed_lines
from concept_core.jobs.detect import Detected
from concept_core.layout import DetectionFiles, Layout
from concept_core.predictions import Merged, merge
from concept_core.replay import judged
from concept_core.verdict import write_verdict
from study_core.files import place, place_tree, read_json, sha256_of, write_json
from study_core.verdict import Verdict
from tasks import artifacts, comparison
from tasks.bundle import write_bundle
from tasks.concept.inputs import Scan, Study, line_of
from tasks.concept.steps import Measured
from tasks.run import Run

REPLAY = """# Replay

`gated replay --bundle auditors_bundle.zip --corpus FOLDER` computes every measure again from the archived scores,
judges them by the recorded thresholds, makes the table of windows anew from the rows in FOLDER, and says `equal` or
what differs. The model is not needed and not here; its SHA-256 stands in `candidate/scan.json`.
"""
SHOWN_ROWS = 200


def collect(layout: Layout, study: Study, found: Measured) -> None:
    """Bring CAVs, evaluation and smoke test into the run's folder, under the seed's names; no embeddings."""
    for name, receipts in found.trained.items():
        for one in receipts:
            place_tree(one.cav.checked(), layout.cavs(name).root)
    evaluation = layout.evaluation(study.model)
    place_tree(found.evaluated.evaluation.checked(), evaluation.root)
    if found.sensed is not None:
        place(found.sensed.table.checked(), evaluation.sensitivity)
    place(found.smoke.metrics.checked(), layout.smoke_metrics)


def publish(run: Run, study: Study, found: Measured, incumbent: Verdict | None) -> Verdict:
    """Judge, write report, candidate and verdict, show them, and bundle the run."""
    from concept_core.report.page import write_report  # matplotlib takes a second: only a verdict pays

    layout = Layout(run.folder)
    collect(layout, study, found)
    records = judged(found.evaluated.measures, study.plan)
    page = write_report(layout, study.plan, study.model)
    own = write_verdict(layout, study.plan, study.networks[0], found.evaluated, records)
    line = line_of(study, read_json(layout.corpus))
    own = own.model_copy(update={"data": line.data, "data_sha256": line.data_sha256})
    verdict = comparison.beside(own, incumbent, study.form.production.margin, other_data=run.channel_named)
    write_json(layout.verdict, verdict.model_dump(mode="json"))
    run.event("verdict", verdict.sentence(), gates=verdict.table(), candidate=verdict.candidate_sha256)
    artifacts.publish_table(run, "gates", verdict.table(), verdict.sentence())
    artifacts.publish_table(run, "controls", controls(found), "Worst-stratum AUROC: the model and what it must beat")
    artifacts.publish_table(run, "layers", layers(found), "Worst stratum of each layer, out of fold")
    artifacts.publish_table(run, "first-thresholds", seed(found), "The first thresholds, and what each is worth")
    run.event("report", f"Report: {layout.report}", sha256=sha256_of(layout.report))
    artifacts.publish_page(run, "report", page, "Start here")
    bundle = write_bundle(run.folder, {"REPLAY.md": REPLAY}, run.folder / "auditors_bundle.zip")
    run.event("bundle", f"Auditor's bundle: {bundle}", sha256=sha256_of(bundle))
    return verdict


def controls(found: Measured) -> list[dict[str, Any]]:
    """A row a source: worst stratum of both parts, and how far the model stands above it."""
    values = {(one.metric, tuple(sorted(one.slice.items()))): one.value for one in found.evaluated.measures}
    sources = dict.fromkeys(one.slice["source"] for one in found.evaluated.measures if one.metric == "worst_auroc")
    return [
        {
            "source": source,
            **{part: values.get(("worst_auroc", (("part", part), ("source", source)))) for part in ("oof", "held_out")},
            "model above it, lower bound": values.get(("skill_low", (("control", source),))),
        }
        for source in sources
    ]


def layers(found: Measured) -> list[dict[str, Any]]:
    """A row a layer of the model and its twins: the worst stratum out of fold, and whether there is a direction."""
    return [
        {"network": name, "layer": one.layer, "worst stratum": one.worst_oof, "direction": not one.no_direction}
        for name, receipts in found.trained.items()
        for one in receipts
    ]


def seed(found: Measured) -> list[dict[str, Any]]:
    """The thresholds that the study was first given, each with what a bag of residues reaches."""
    return [line._asdict() for line in seed_lines(found.evaluated.measures)]


def publish_scan(run: Run, wanted: Scan, shards: Sequence[Detected]) -> Merged:
    """Merge the shards into the run's folder, write the page with the best tracks, show the best proteins."""
    from concept_core.report.scan_page import write_scan_page

    files = DetectionFiles(run.folder)
    facts = {**wanted.facts, "residues": sum(one.residues for one in shards)}
    merged = merge(files, [one.shard.checked() for one in shards], facts)
    page = write_scan_page(files, merged)
    tracks = len(merged.tracks)
    run.event("merged", f"{len(shards)} shards in {files.root}", sha256=sha256_of(files.predictions), tracks=tracks)
    artifacts.publish_page(run, "report", page, "Start here")
    artifacts.publish_table(run, "summary", [merged.summary], "What the scan found")
    best = [_row(record) for record in merged.predictions[:SHOWN_ROWS]]
    artifacts.publish_table(
        run, "best", best, f"The best {len(best)} of {len(merged.predictions)} proteins; all in hits.tsv"
    )
    return merged


def _row(record: dict[str, Any]) -> dict[str, Any]:
    first = record["hits"][0] if record["hits"] else None
    return {
        "accession": record["accession"], "length": record["length"], "positive": record["positive"],
        "score": record["score"], "confidence": record["confidence"], "hits": len(record["hits"]),
        "best from": first["start"] + 1 if first else None, "to": first["end"] if first else None,
        "pattern matches": record["pattern_matches"],
    }  # fmt: skip
