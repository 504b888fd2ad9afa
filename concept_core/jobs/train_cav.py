"""The job that trains a layer's CAV, or a control's: cross-validated probe, centred probe, random CAVs, null."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from concept_core import controls
from concept_core.cav import artifacts, direction, nulls, probe
from concept_core.cav.rows import Floats, Rows
from concept_core.corpus.windows import Window, read_windows
from concept_core.evaluation import scores
from concept_core.frames import write_csv
from concept_core.layout import CavFiles, EmbeddingFiles
from concept_core.plans import CavPlan
from study_core.errors import TrainingInterrupted
from study_core.files import peek_json, write_json
from study_core.job import Content, Context, Receipt, Request
from study_core.paths import Name

SAVE_EVERY = 20


class TrainCav(Request):
    """One feature matrix: a layer of a store, or (without a store) a control computed from the windows' letters."""

    plan: CavPlan
    source: Name
    layer: int = 0
    features: Literal["layer", "bag20", "dipeptide"] = "layer"
    windows: Content
    store: Content | None = None
    null: bool = True


class TrainedCav(Receipt):
    """The CAV's folder, unseen scores a window, the null's AUROCs (no file where none was asked)."""

    source: Name
    layer: int
    cav: Content
    cav_sha256: str
    scores: Content
    null: Content | None
    no_direction: bool
    worst_oof: float


def train_cav(request: TrainCav, context: Context) -> TrainedCav:
    """Train, draw random CAVs, refit the null; goes on with the null where an earlier attempt stopped.

    Raises:
        TrainingInterrupted: between two saves of the null, when asked to stop.
    """
    windows = read_windows(request.windows.checked())
    rows = Rows.of(windows)
    x_nd = _features(request, windows)
    plain = probe.train(x_nd, rows, request.plan)
    centred = probe.train(x_nd, rows, request.plan, strata=probe.CENTRED) if rows.among(["off"]).any() else plain
    files = CavFiles(context.folder / "cav", request.plan.version)
    table = score_table(request.source, request.layer, plain)
    null = _null(request, x_nd, rows, context) if request.null else None
    _write(request, files, x_nd, rows, (plain, centred), null)
    write_csv(context.folder / "scores.csv", table)
    figures = scores.evaluate(plain.oof)
    return TrainedCav(
        source=request.source,
        layer=request.layer,
        cav=Content.of(files.root),
        cav_sha256=artifacts.read_cav(files, request.layer).sha256,
        scores=Content.of(context.folder / "scores.csv"),
        null=Content.of(_save_null(context.folder / "null.npy", null)) if null else None,
        no_direction=not plain.final.has_direction,
        worst_oof=figures.worst if np.isfinite(figures.worst) else 0.0,
    )


def _features(request: TrainCav, windows: list[Window]) -> Floats:
    if request.features != "layer" or request.store is None:
        return controls.features(request.features, windows)
    from concept_core.store import open_store

    store = open_store(EmbeddingFiles(request.store.checked()), request.windows.path)
    return np.asarray(store.pooled(request.layer), dtype=float)


def score_table(source: Name, layer: int, trained: probe.Training) -> Any:
    """Unseen scores of both parts as rows (a `DataFrame`)."""
    import pandas as pd

    parts = [part for part in (trained.oof, trained.held_out) if part is not None]
    return pd.concat([unseen_table(source, layer, part.rows, part.scores, part.part) for part in parts])


def unseen_table(source: Name, layer: int, rows: Rows, values: Floats, part: str) -> Any:
    """One part's rows with their scores."""
    import pandas as pd

    columns = {"key": rows.keys, "stratum": rows.strata, "group": rows.groups}
    return pd.DataFrame({"source": source, "layer": layer, **columns, "part": part, "score": values})


def _null(request: TrainCav, x_nd: Floats, rows: Rows, context: Context) -> nulls.Null:
    """Refits in blocks, saved after each."""
    plan, file = request.plan, context.folder / "null.json"
    saved = peek_json(file)
    values: list[float] = saved if isinstance(saved, list) else []
    refits = nulls.NullRefits(x_nd, rows, plan)
    while len(values) < plan.null_refits:
        if context.should_stop():
            raise TrainingInterrupted(f"stopped after {len(values)} of {plan.null_refits} refits")
        values += refits.values(len(values), min(len(values) + SAVE_EVERY, plan.null_refits))
        write_json(file, values)
        context.progress(done=len(values), total=plan.null_refits, stage="null")
    return nulls.Null(refits.observed(), np.array(values))


def _save_null(path: Path, null: nulls.Null) -> Path:
    return artifacts.write_array(path, null.refits)


def _write(
    request: TrainCav, files: CavFiles, x_nd: Floats, rows: Rows, trained: tuple[probe.Training, probe.Training],
    null: nulls.Null | None,
) -> None:  # fmt: skip
    plain, centred = trained
    layer, plan = request.layer, request.plan
    within = (rows.folds >= 0) & rows.judged
    artifacts.write_vector(files.concept(layer), direction.concept_direction(plain.final))
    artifacts.write_vector(files.pattern(layer), direction.pattern_direction(x_nd[within], rows[within]))
    for number in range(plan.random_cavs):
        artifacts.write_vector(files.random(layer, number), nulls.random_direction(x_nd, rows, plan, number))
    artifacts.write_probe(files, layer, plain.final)
    artifacts.write_centred(files, layer, centred.final)
    artifacts.write_folds(files, layer, {**plain.folds, -1: plain.final}, {**centred.folds, -1: centred.final})
    write_json(files.report(layer), _report(request, plain, null) | {"learning": _learning(request, x_nd, rows)})
    names = [path for path in files.root.glob(f"L{layer}_*") if path != files.manifest(layer)]
    facts = {
        "version": plan.version, "source": request.source, "features": request.features,
        "plan": plan.model_dump(mode="json"), "windows_sha256": request.windows.sha256,
        "store_sha256": request.store.sha256 if request.store else None,
    }  # fmt: skip
    artifacts.write_manifest(files, layer, names, facts)


def _report(request: TrainCav, plain: probe.Training, null: nulls.Null | None) -> dict[str, Any]:
    """Training figures of the layer, as the seed's `L<l>_report_v1.json`."""
    parts = [part for part in (plain.oof, plain.held_out) if part is not None]
    figures: dict[str, Any] = {part.part: figures_record(scores.evaluate(part)) for part in parts}
    return {
        "source": request.source,
        "layer": request.layer,
        "components": len(plain.final.weights_k),
        "features": len(plain.final.projection.mean_d),
        "no_direction": not plain.final.has_direction,
        "seed": request.plan.seed,
        **figures,
        "null": None
        if null is None
        else {
            "observed": null.observed, "mean": null.mean, "sd": _finite(null.sd), "z": _finite(null.z), "p": null.p,
            "refits": len(null.refits),
        },
    }  # fmt: skip


def _learning(request: TrainCav, x_nd: Floats, rows: Rows) -> list[dict[str, Any]]:
    """Worst stratum by the number of homology groups that the probes were given."""
    curve = probe.learning_curve(x_nd, rows, request.plan)
    return [{"groups": groups, "worst": _finite(scores.evaluate(unseen).worst)} for groups, unseen in curve]


def figures_record(figures: scores.StratumScores) -> dict[str, Any]:
    """JSON-ready."""
    return {
        "auroc": {name: _finite(value) for name, value in figures.auroc.items()},
        "ap": {name: _finite(value) for name, value in figures.ap.items()},
        "auroc_all": _finite(figures.auroc_all), "ap_all": _finite(figures.ap_all), "prevalence": figures.prevalence,
        "worst": _finite(figures.worst), "worst_stratum": figures.worst_stratum, "counts": figures.counts,
    }  # fmt: skip


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
