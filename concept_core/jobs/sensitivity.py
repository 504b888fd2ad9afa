"""The job of true TCAV: S of a model's directions on held-out positives, against label-shuffled CAVs, and steering."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from concept_core.cav import nulls
from concept_core.cav.artifacts import read_cav
from concept_core.cav.probe import PLAIN, chosen
from concept_core.cav.rows import Floats, Rows
from concept_core.corpus.decoys import enriched
from concept_core.corpus.windows import Window, read_windows
from concept_core.jobs.embed import Embed, network_of
from concept_core.layout import CavFiles, EmbeddingFiles
from concept_core.models.protein_lm import MaskedLM
from concept_core.plans import CavPlan, SensitivityPlan
from concept_core.sensitivity import Probed, against_random, gradients, log_probabilities, probed
from concept_core.store import open_store
from study_core.errors import BadInput, TrainingInterrupted
from study_core.files import write_json
from study_core.job import Content, Context, Receipt, Request
from study_core.paths import Words

STEERED_RANDOM = 5
"""Random CAVs that the steering curve is drawn beside."""


class MeasureSensitivity(Request):
    """A masked language model as it embedded the windows, its store, and the CAV folder of each layer."""

    plan: SensitivityPlan
    cav_plan: CavPlan
    network: Embed
    ligands: Words | None
    store: Content
    layers: tuple[int, ...]
    cavs: tuple[Content, ...]


class Sensed(Receipt):
    """The table of directions and the steering curves, as JSON."""

    table: Content
    examples: int


def sensitivity(request: MeasureSensitivity, context: Context) -> Sensed:
    """Measure every layer's logistic and pattern direction.

    Raises:
        BadInput: a model without a masked-language head, or no held-out positive to mask.
        TrainingInterrupted: between two layers, when asked to stop.
    """
    windows = read_windows(request.network.windows.checked())
    if request.network.entry.family == "unirep":
        raise BadInput("no masked-language head", remedy="sensitivity needs an ESM-2 or the house model")
    model = cast(MaskedLM, network_of(request.network))
    ligand, other = _examples(request, windows)
    grads = [gradients(model, one, request.layers) for one in (ligand, other)]
    store = open_store(EmbeddingFiles(request.store.checked()), request.network.windows.path)
    rows = Rows.of(windows)
    found: list[dict[str, Any]] = []
    curves: list[dict[str, Any]] = []
    for done, (layer, cav) in enumerate(zip(request.layers, request.cavs, strict=True)):
        if context.should_stop():
            raise TrainingInterrupted(f"stopped after {done} of {len(request.layers)} layers")
        context.progress(done=done, total=len(request.layers), stage="sensitivity")
        read = read_cav(CavFiles(cav.checked(), request.cav_plan.version), layer)
        x_nd = np.asarray(store.pooled(layer), dtype=float)
        random = _random(request, x_nd, rows)
        for name, u_d in (("logistic", read.concept_d), ("pattern", read.pattern_d)):
            figures = against_random(layer, name, u_d, random, grads[0][layer], grads[1][layer])
            found.append(figures.record())
            curves += _steering(request, model, (ligand, other), layer, name, u_d, random, _spread(x_nd, rows, u_d))
    path = write_json(context.folder / "sensitivity.json", {"directions": found, "steering": curves})
    return Sensed(table=Content.of(path), examples=len(ligand))


def _examples(request: MeasureSensitivity, windows: list[Window]) -> tuple[list[Probed], list[Probed]]:
    positives = [window for window in windows if window.positive and window.part == "held_out"]
    negatives = [window.letters for window in windows if window.stratum == "rand"]
    ligands = request.ligands or enriched([window.letters for window in positives], negatives)
    rng = np.random.default_rng([request.plan.seed, 7])
    return probed(positives, ligands, request.network.plan.context, rng)


def _random(request: MeasureSensitivity, x_nd: Floats, rows: Rows) -> Floats:
    """Label-shuffled CAVs, whatever mode the stored ones have; numbered after the stored ones."""
    plan = request.cav_plan.model_copy(update={"random_mode": "label_shuffle"})
    numbers = range(1000, 1000 + request.plan.random_cavs)
    return np.stack([nulls.random_direction(x_nd, rows, plan, number) for number in numbers])


def _spread(x_nd: Floats, rows: Rows, u_d: Floats) -> float:
    """Standard deviation of the training windows along a direction."""
    x_nd, rows = chosen(x_nd, rows, PLAIN)
    return float((x_nd[~rows.held_out] @ u_d).std(ddof=1))


def _steering(
    request: MeasureSensitivity, model: MaskedLM, examples: tuple[list[Probed], list[Probed]], layer: int, name: str,
    u_d: Floats, random_Rd: Floats, sd: float,
) -> list[dict[str, Any]]:  # fmt: skip
    """Mean change of log p for pushes of so many sd along the direction, and along random CAVs."""
    ligand, other = examples
    zero = np.zeros_like(u_d)
    base = [log_probabilities(model, one, layer=layer, push_d=zero) for one in examples]
    curve = []
    for steps in request.plan.steering_sd:
        push = steps * sd * u_d
        moved = [
            float((log_probabilities(model, one, layer=layer, push_d=push) - before).mean())
            for one, before in zip((ligand, other), base, strict=True)
        ]
        blind = [
            float((log_probabilities(model, ligand, layer=layer, push_d=steps * sd * one) - base[0]).mean())
            for one in random_Rd[:STEERED_RANDOM]
        ]
        curve.append(
            {
                "layer": layer, "direction": name, "sd": steps, "ligand": moved[0], "other": moved[1],
                "random": float(np.mean(blind)), "random_sd": float(np.std(blind, ddof=1)),
            }
        )  # fmt: skip
    return curve
