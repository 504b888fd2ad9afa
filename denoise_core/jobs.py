"""The work of a cluster job, one function each: JSON in, JSON receipt out.

A dispatcher calls `job(arguments, context)` on a node. The receipt holds paths, hashes and metrics, never
tensors; its `files` (path to sha256) must still be there, unchanged, when it is used again. `context` offers
`folder`, `should_stop()`, `progress(**fields)` and `adjustments`; nothing here knows who provides it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from denoise_core.corpus.manifest import Manifest, read_manifest
from denoise_core.corpus.store import Corpus, open_corpus
from denoise_core.plans import TrainingPlan
from study_core.device import device_for
from study_core.files import sha256_of
from study_core.job import Context


def train(arguments: dict[str, Any], context: Context) -> dict[str, Any]:
    """Train one model.

    Arguments: `corpus`, `train_manifest`, `val_manifest` (paths), `plan` (TrainingPlan), `init_checkpoint`
    (path or None), `device`. Receipt: the checkpoints with hashes and validation figures.
    """
    from denoise_core.training import Hooks, TrainingInputs
    from denoise_core.training import train as run_training

    plan = TrainingPlan.model_validate(arguments["plan"])
    corpus, training = _corpus_and(arguments, "train_manifest")
    validation = read_manifest(Path(arguments["val_manifest"]))
    init = arguments.get("init_checkpoint")
    audit_log = context.folder / plan.files.audit_log
    audit_log.parent.mkdir(parents=True, exist_ok=True)
    audit_log.touch()
    receipt = run_training(
        plan,
        TrainingInputs(corpus, training, validation, Path(init) if init else None),
        context.folder,
        device=device_for(arguments.get("device", "auto")),
        hooks=Hooks(
            progress=lambda fields: context.progress(**fields),
            should_stop=context.should_stop,
            adjustments=dict(context.adjustments),
        ),
    )
    kept = (receipt.checkpoint, *receipt.top)
    return {**receipt.to_json(), "files": {path: sha256_of(Path(path)) for path in kept}}


def audit_panel(arguments: dict[str, Any], context: Context) -> dict[str, Any]:
    """Judge checkpoints on the panel: every gate, every control, ranked.

    Arguments: `corpus`, `panel`, `training` (manifest paths), `checkpoints` (paths), `incumbent` (path or None),
    `thresholds`, `expected_hash`, `reference`, `unseen` (a fold: checkpoint, test, train, val), `device`.
    Receipt: verdicts by rank, and the summary's path.
    """
    from denoise_core.evaluation.panel import audit_checkpoints

    corpus, panel = _corpus_and(arguments, "panel")
    training = read_manifest(Path(arguments["training"])) if arguments.get("training") else None
    receipt = audit_checkpoints(
        corpus,
        panel,
        training,
        [Path(path) for path in arguments["checkpoints"]],
        out=context.folder / "final_analytics" / "panel_eval",
        thresholds=arguments["thresholds"],
        incumbent=Path(arguments["incumbent"]) if arguments.get("incumbent") else None,
        expected_hash=arguments.get("expected_hash"),
        reference=arguments.get("reference", "loo"),
        selected_on=arguments.get("selected_on", ()),
        unseen={name: Path(path) for name, path in (arguments.get("unseen") or {}).items()},
        batch_size=int(arguments.get("batch_size", 256)),
        device=device_for(arguments.get("device", "auto")),
        progress=lambda done, total, what: context.progress(done=done, total=total, stage=what),
    )
    return {**receipt, "files": {path: sha256_of(Path(path)) for path in receipt["verdicts"]}}


def denoise(arguments: dict[str, Any], context: Context) -> dict[str, Any]:
    """Denoise whole manifests through one checkpoint.

    Arguments: `corpus`, `manifests` (name to path), `checkpoint`, `batch_size`, `layout` ("packed" or "files"),
    `device`. Receipt: `outputs`, per manifest the output folder and the number of spectra.
    """
    from denoise_core.corpus.stream import open_stream
    from denoise_core.inference import denoise_manifest
    from denoise_core.model.neural import load_denoiser

    corpus = open_stream(Path(arguments["corpus"]))
    denoiser = load_denoiser(Path(arguments["checkpoint"]), device=device_for(arguments.get("device", "auto")))
    outputs: dict[str, Any] = {}
    for number, (name, path) in enumerate(sorted(arguments["manifests"].items())):
        context.progress(done=number, total=len(arguments["manifests"]), stage=f"denoise {name}")
        out = context.folder / "denoised" / name
        manifest = read_manifest(Path(path))
        denoise_manifest(
            corpus,
            manifest,
            denoiser,
            out,
            layout=arguments.get("layout", "packed"),
            batch_size=int(arguments.get("batch_size", 64)),
        )
        outputs[name] = {
            "folder": str(out),
            "spectra": len(manifest),
            "manifest_sha256": manifest.rows_sha256,
            "sha256": sha256_of(out),
        }
    return {"outputs": outputs, "files": {row["folder"]: row["sha256"] for row in outputs.values()}}


def _corpus_and(arguments: Mapping[str, Any], which: str) -> tuple[Corpus, Manifest]:
    return open_corpus(Path(arguments["corpus"])), read_manifest(Path(arguments[which]))


def evaluate_fold(arguments: dict[str, Any], context: Context) -> dict[str, Any]:
    """Score a fold's denoised validation and test splits beside the controls.

    Arguments: `corpus`, `training` (manifest path), `splits` (name to manifest path), `denoised` (name to folder).
    Receipt: `rows` (one a split and method) and the path of the captures' table.
    """
    from denoise_core.evaluation import folds

    corpus, training = _corpus_and(arguments, "training")
    splits = {name: read_manifest(Path(path)) for name, path in arguments["splits"].items()}
    out = context.folder / "fold_eval"
    rows = folds.evaluate_fold(
        corpus, training, splits, {name: Path(path) for name, path in arguments["denoised"].items()}, out
    )
    captures = out / "captures.csv"
    return {"rows": rows, "captures": str(captures), "files": {str(captures): sha256_of(captures)}}
