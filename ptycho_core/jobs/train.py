"""One training on a node: the network, its bundle, and how well it explains patterns that it never saw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ptycho_core.bundle import write_bundle
from ptycho_core.contract import Dataset, read_dataset
from ptycho_core.inference import explained, flat_object, stitch
from ptycho_core.network import precision
from ptycho_core.npz import read_arrays
from ptycho_core.recipes import Recipe
from ptycho_core.training import LOSS_KINDS, Hooks, training_identity, write_history
from ptycho_core.training import train as run_training
from study_core.device import device_for
from study_core.errors import BadInput
from study_core.files import peek_json, sha256_of, write_json
from study_core.job import Content, Context, Receipt, Request, Where

BUNDLE, HISTORY, RECORD, STATE = "bundle.zip", "history.csv", "training.json", "state.pt"


class Train(Request):
    """`test` is looked at when the training is over, for its patterns alone; `truth` only for the supervised arm."""

    recipe: Recipe
    train: Content
    test: Content
    truth: Content | None = None
    device: Where[str] = "auto"


class Trained(Receipt):
    """Ratios are reduced deviances on the test view: of the joined object, of single patches, of a flat object."""

    bundle: Content
    history: Content
    record: Content
    final_loss: float
    loss_kind: str
    deviance_ratio_test: float
    deviance_ratio_patch: float
    deviance_ratio_flat: float
    iterations_completed: int
    seconds: float


def train(request: Train, context: Context) -> Trained:
    """Train, write bundle.zip, history.csv and training.json into the job's folder; finished work is not repeated.

    Raises:
        TrainingInterrupted, NonFiniteLoss, BadInput: as `training.train`.
    """
    folder = Path(context.folder)
    belongs_to = training_identity(request.recipe, request.inputs())
    known = peek_json(folder / RECORD)
    if known is None or known.get("belongs_to") != belongs_to or not _whole(folder, known):
        known = _train(request, context, folder, belongs_to)
    contents = {name: Content.of(folder / file) for name, file in _FILES.items()}
    return Trained.model_validate({**contents, **{name: known[name] for name in Trained.model_fields if name in known}})


_FILES = {"bundle": BUNDLE, "history": HISTORY, "record": RECORD}


def _whole(folder: Path, known: dict[str, Any]) -> bool:
    bundle = folder / BUNDLE
    return bundle.exists() and (folder / HISTORY).exists() and sha256_of(bundle) == known.get("bundle_sha256")


def _train(request: Train, context: Context, folder: Path, belongs_to: str) -> dict[str, Any]:
    device = device_for(request.device)
    data, test = read_dataset(request.train.checked()), read_dataset(request.test.checked())
    truth = _truth(request.truth.checked(), data) if request.truth else None
    hooks = Hooks(context.progress, context.should_stop, context.adjustments)
    done = run_training(
        request.recipe, data, folder, belongs_to=belongs_to, truth=truth, device=device, hooks=hooks
    )  # fmt: skip
    bundle = write_bundle(folder / BUNDLE, done.network)
    write_history(folder / HISTORY, done.history)
    context.progress(done=len(done.history), total=len(done.history), stage="score")
    stitched = stitch(done.network, test, device)
    record = {
        "belongs_to": belongs_to,
        "recipe": done.network.recipe.model_dump(mode="json"),
        "backend": "pytorch",
        "network_dtype": str(precision(torch.device(device), request.recipe.bf16)).removeprefix("torch."),
        "truth_used": "train half" if truth is not None else "none",
        "final_loss": done.final_loss,
        "loss_kind": LOSS_KINDS[request.recipe.arm],
        "deviance_ratio_test": explained(stitched.image, test),
        "deviance_ratio_patch": stitched.deviance_ratio_patch,
        "deviance_ratio_flat": explained(flat_object(test), test),
        "iterations_completed": len(done.history),
        "seconds": done.seconds,
        "bundle_sha256": sha256_of(bundle),
    }
    write_json(folder / RECORD, record)
    (folder / STATE).unlink(missing_ok=True)
    return record


def _truth(path: Path, data: Dataset) -> np.ndarray[Any, np.dtype[np.complex64]]:
    """The train half's truth. Raises BadInput where it does not cover the patterns."""
    image = read_arrays(path)[0].get("objectTruth")
    if image is None or image.shape != data.flat.shape:
        raise BadInput("holds no objectTruth of the patterns' frame", file=path, remedy="run generate again")
    half = data.probe.shape[0] // 2
    rows, columns = slice(data.y.min() - half, data.y.max() + half), slice(data.x.min() - half, data.x.max() + half)
    if not np.isfinite(image[rows, columns]).all():
        raise BadInput("knows not all of the train half", file=path, remedy="run generate again")
    return image.astype(np.complex64)
