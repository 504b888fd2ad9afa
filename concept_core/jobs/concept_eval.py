"""The job that measures: tables of unseen scores from every source, thresholds, figures. It gives no verdict."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd

from concept_core import controls
from concept_core.cav.artifacts import Cav, read_cav, read_folds
from concept_core.cav.rows import Rows
from concept_core.corpus.windows import Window, read_windows
from concept_core.evaluation.measures import Measured, by_layer, measured, null_name, nulls, role_rows
from concept_core.evaluation.proteins import TestProtein, test_proteins
from concept_core.evaluation.tables import Facts, Tables, write_tables
from concept_core.evaluation.threshold_registry import ThresholdRegistry, set_thresholds, write_registry
from concept_core.evaluation.tracks import Tracks, bag_pairs, protein_table, pssm_pairs
from concept_core.frames import read_csv
from concept_core.jobs.train_cav import figures_record, unseen_table
from concept_core.layout import CavFiles, EvaluationFiles
from concept_core.plans import NEGATIVES, ConceptSpec, ControlsPlan, DetectionPlan, EvaluationPlan
from study_core.errors import BadInput
from study_core.files import place, write_json
from study_core.gates import Measure
from study_core.job import Content, Context, Receipt, Request
from study_core.paths import Name
from study_core.plan import Frozen

Role = Literal["model", "untrained", "concept_free", "bag20", "dipeptide"]


class Source(Frozen):
    """What one training job left."""

    name: Name
    role: Role
    layer: int
    cav: Content
    scores: Content
    null: Content | None = None


class ScanSource(Frozen):
    """Tracks of one network."""

    name: Name
    role: Role
    tracks: Content


class ConceptEval(Request):
    """Everything trained on one table of windows. `dropped_share` and `smoke_passed` come from the steps before."""

    evaluation: EvaluationPlan
    detection: DetectionPlan
    controls: ControlsPlan
    concept: ConceptSpec
    model: Name
    context: int | None
    null_refits: int
    seed: int
    dropped_share: float
    smoke_passed: int | None
    sources: tuple[Source, ...]
    scans: tuple[ScanSource, ...]
    windows: Content
    version: Name = "v1"


class Evaluated(Receipt):
    """The evaluation's folder, the chosen layer and its CAV, the numbers for the gates."""

    evaluation: Content
    layer: int
    cav_sha256: str
    measures: tuple[Measure, ...]


def concept_eval(request: ConceptEval, context: Context) -> Evaluated:
    """Write tables, thresholds and figures below the job's folder.

    Raises:
        BadInput: no source of the model, or scores of other windows than these.
    """
    windows = read_windows(request.windows.checked())
    rows = Rows.of(windows)
    scores = _scores(request, windows, rows)
    proteins = test_proteins(
        windows, pattern=request.concept.pattern, longest=request.detection.longest, seed=request.seed
    )
    context.progress(done=1, total=3, stage="scores")
    tables = Tables(
        scores, _nulls(request), _protein_rows(request, windows, proteins), _facts(request, windows, rows, scores)
    )
    files = EvaluationFiles(context.folder / "evaluation")
    write_tables(files, tables)
    for one in request.scans:
        if one.role == "model":
            place(one.tracks.path, files.tracks)
    context.progress(done=2, total=3, stage="measures")
    found = measured(tables)
    cav = _cav(request, found.layer)
    write_registry(files.thresholds, _registry(request, tables, found.layer, cav))
    write_json(files.projection, projection(request.model, tables, found))
    write_json(files.controls, [one.model_dump(mode="json") for one in found.measures if "control" in one.slice])
    context.progress(done=3, total=3, stage="done")
    return Evaluated(
        evaluation=Content.of(files.root), layer=found.layer, cav_sha256=cav.sha256, measures=found.measures
    )


def _scores(request: ConceptEval, windows: list[Window], rows: Rows) -> pd.DataFrame:
    if not any(source.role == "model" for source in request.sources):
        raise BadInput("no CAV of the model", remedy="train a layer first")
    judged = rows[rows.judged]
    expected = set(judged.keys.tolist())
    found = []
    for source in request.sources:
        table = read_csv(source.scores.checked())
        if set(table.key) != expected:
            what = f"scores of {len(table)} windows, the table has {len(expected)} others"
            raise BadInput(what, file=source.scores.path, remedy="train again on these windows")
        found.append(table.assign(source=source.name, role=source.role, layer=source.layer))
    for name, values in _references(request, windows, rows).items():
        table = unseen_table(name, 0, judged, values[rows.judged], "oof").assign(role=name)
        found.append(table.assign(part=np.where(judged.held_out, "held_out", "oof")))
    columns = ["source", "role", "layer", "key", "stratum", "group", "part", "score"]
    return pd.concat(found, ignore_index=True)[columns]


def _references(request: ConceptEval, windows: list[Window], rows: Rows) -> dict[str, Any]:
    """What one gets without a language model; reported beside."""
    made = {}
    if request.controls.pssm:
        made["pssm"] = controls.pssm_scores(windows, rows, width=controls.domain_width(windows))
    if request.controls.pattern and request.concept.pattern:
        made["pattern"] = controls.pattern_scores(windows, request.concept.pattern)
    return made


def _protein_rows(request: ConceptEval, windows: list[Window], proteins: list[TestProtein]) -> pd.DataFrame:
    width, reach = windows[0].end - windows[0].start, request.detection.refine
    found = []
    for scan in request.scans:
        tracks = Tracks.read(scan.tracks.checked(), len(proteins))
        for layer in tracks.layers:
            found.append(protein_table(scan.name, scan.role, layer, proteins, tracks.pairs(layer), width, reach))
    for source in request.sources:
        if source.role == "bag20":
            probes = read_folds(CavFiles(source.cav.checked(), request.version), source.layer)
            pairs = bag_pairs(proteins, probes, width)
            found.append(protein_table(source.name, source.role, source.layer, proteins, pairs, width, reach))
    if request.controls.pssm and request.scans:
        found.append(protein_table("pssm", "pssm", 0, proteins, pssm_pairs(proteins, windows), width, reach))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame({"role": [], "layer": []})


def _nulls(request: ConceptEval) -> dict[str, Any]:
    return {
        null_name(source.role, source.layer): np.load(source.null.checked(), allow_pickle=False)
        for source in request.sources
        if source.null is not None
    }


def _facts(request: ConceptEval, windows: list[Window], rows: Rows, scores: pd.DataFrame) -> Facts:
    held_out = set(rows.groups[rows.held_out].tolist())
    parts = [rows[~rows.held_out], rows[rows.held_out]]
    present = [set(part.strata.tolist()) for part in parts if len(part)]
    return Facts(
        dropped_share=request.dropped_share,
        shared_groups=len(held_out & set(rows.groups[~rows.held_out].tolist())),
        not_finite=int((~np.isfinite(scores.score.to_numpy(float))).sum()),
        strata_missing=sum(any(stratum not in strata for strata in present) for stratum in NEGATIVES),
        smoke_passed=request.smoke_passed,
        null_refits=request.null_refits,
        layers=tuple(source.layer for source in request.sources if source.role == "model"),
        window=windows[0].end - windows[0].start,
        bootstrap=request.evaluation.bootstrap,
        confidence=request.evaluation.confidence,
        seed=request.evaluation.seed,
    )


def _cav(request: ConceptEval, layer: int) -> Cav:
    source = next(one for one in request.sources if one.role == "model" and one.layer == layer)
    return read_cav(CavFiles(source.cav.checked(), request.version), layer)


def _registry(request: ConceptEval, tables: Tables, layer: int, cav: Cav) -> ThresholdRegistry:
    rows = role_rows(tables.scores, "model", layer)
    rows = rows[rows.part == "oof"]
    positive, negative = (rows[mask].score.to_numpy(float) for mask in (rows.stratum == "pos", rows.stratum != "pos"))
    proteins = role_rows(tables.proteins, "model", layer) if len(tables.proteins) else tables.proteins
    maxima = None
    if len(proteins):
        inside = proteins[proteins.fold >= 0]
        up, down = (inside[inside.kind == kind].maximum.to_numpy(float) for kind in ("positive", "negative"))
        maxima = (up, down)
    return ThresholdRegistry(
        cav_sha256=cav.sha256,
        model=request.model,
        layer=layer,
        window=tables.facts.window,
        context=request.context,
        thresholds=set_thresholds((positive, negative), maxima),
        negative_mean=float(negative.mean()),
        negative_sd=float(negative.std(ddof=1)),
        protein_null=tuple(sorted(maxima[1].tolist())) if maxima else (),
    )


def projection(model: str, tables: Tables, found: Measured) -> dict[str, Any]:
    """All figures by layer, as the seed's projection_eval.json. AP over all strata has prevalence of about .2."""
    null = {layer: nulls(tables, "model", layer) for layer in tables.facts.layers}
    return {
        "model": model,
        "chosen_layer": found.layer,
        "layers": {
            f"L{layer}": {part: figures_record(by_layer(tables, part)[layer]) for part in ("oof", "held_out")}
            | ({"p": one.p, "null_mean": one.mean} if (one := null[layer]) else {})
            for layer in tables.facts.layers
        },
        "measures": [one.model_dump(mode="json") for one in found.measures],
    }
