"""The training loop: one flat function, resumable at any saved state, with equal bits either way on the CPU.

Iteration i draws its groups and thins its photons from `default_rng([seed, i])`, so nothing of the random streams has
to be saved. Names: G groups, C members, B = G·C patterns.
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptycho_core.bundle import Network, channels, is_grouped
from ptycho_core.contract import Dataset, singles
from ptycho_core.inference import truth_patches
from ptycho_core.metrics.deviance import reduced_deviance
from ptycho_core.network import PatchNet, autocast, new_network
from ptycho_core.physics import Optics, canvas_of, held_out_loss
from ptycho_core.recipes import Recipe
from ptycho_core.thinning import thin
from study_core.errors import BadInput, NonFiniteLoss, TrainingInterrupted
from study_core.files import replacing
from study_core.plan import identity

LAST = 20
"""Iterations whose mean is the final loss: one alone is noise of its batch."""
LOSS_KINDS = {"pinn": "poisson_nll_heldout", "baseline": "weighted_mse"}


@dataclass(frozen=True)
class Hooks:
    """How the caller watches and steers: `progress` each iteration, `should_stop` before it, remedies as `adjustments`.

    Adjustments: `batch_halvings` (patterns of a step halved, each time), `lr_factor`, `grad_clip`.
    """

    progress: Callable[..., None] = lambda **fields: None
    should_stop: Callable[[], bool] = lambda: False
    adjustments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Training:
    """A finished training: the network, one row an iteration, and the time it took over all attempts."""

    network: Network
    history: list[dict[str, Any]]
    seconds: float

    @property
    def final_loss(self) -> float:
        """Mean over the last iterations."""
        return float(np.mean([row["loss"] for row in self.history[-LAST:]]))


def train(
    recipe: Recipe,
    data: Dataset,
    folder: Path,
    *,
    belongs_to: str,
    truth: NDArray[np.complex64] | None = None,
    device: str = "cpu",
    hooks: Hooks | None = None,
) -> Training:
    """Train to the end, going on from `folder/state.pt` where it `belongs_to` the same recipe and data.

    `truth` (H, W), NaN outside the train half, is what the supervised arm is trained on.

    Raises:
        TrainingInterrupted: asked to stop; the same call goes on from there.
        NonFiniteLoss: the loss is not a number; the last saved state stays.
        BadInput: the data do not fit the recipe.
    """
    hooks = hooks or Hooks()
    recipe = _adjusted(recipe, hooks.adjustments)
    run = _Run(recipe, _fitting(recipe, data, truth), truth, torch.device(device))
    state = folder / "state.pt"
    begun, before = time.monotonic(), run.load(state, belongs_to)
    while run.iteration < recipe.iterations:
        if hooks.should_stop():
            run.save(state, belongs_to, before + time.monotonic() - begun)
            raise TrainingInterrupted(f"stopped after {run.iteration} of {recipe.iterations} iterations")
        loss = run.step()
        hooks.progress(done=run.iteration, total=recipe.iterations, loss=loss)
        if run.iteration % recipe.state_every == 0 and run.iteration < recipe.iterations:
            run.save(state, belongs_to, before + time.monotonic() - begun)
    run.net.eval()
    return Training(Network(run.net, recipe, run.optics.n), run.history, before + time.monotonic() - begun)


def learning_rate(recipe: Recipe, iteration: int) -> float:
    """Linear rise over the warm-up, then a cosine down to `final_lr`; `iteration` counts from 0."""
    if iteration < recipe.warmup:
        return recipe.lr * (iteration + 1) / recipe.warmup
    progress = (iteration - recipe.warmup) / max(1, recipe.iterations - recipe.warmup)
    return recipe.lr * (recipe.final_lr + (1 - recipe.final_lr) * (1 + math.cos(math.pi * progress)) / 2)


class _Run:
    """The state of one training between its iterations."""

    def __init__(
        self, recipe: Recipe, data: Dataset, truth: NDArray[np.complex64] | None, device: torch.device
    ) -> None:
        self.recipe, self.data, self.truth, self.device = recipe, data, truth, device
        self.optics = Optics.of(data, device)
        self.counts = np.fft.ifftshift(data.counts(), axes=(1, 2))
        self.net: PatchNet = new_network(channels(recipe), recipe.width, recipe.seed, self.optics.n).to(device)
        self.optimiser = torch.optim.AdamW(self.net.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
        self.iteration = 0
        self.history: list[dict[str, Any]] = []

    def step(self) -> float:
        """One iteration: draw, thin, infer, join, compare, descend."""
        recipe = self.recipe
        rng = np.random.default_rng([recipe.seed, self.iteration])
        size = self.data.groups.shape[1]
        wanted = max(1, recipe.batch_patterns // size)
        chosen = rng.choice(len(self.data.groups), min(wanted, len(self.data.groups)), replace=False)
        groups = self.data.groups[chosen]
        lr = learning_rate(recipe, self.iteration)
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        self.optimiser.zero_grad(set_to_none=True)
        loss, ratio = self._loss(groups, rng)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise NonFiniteLoss(f"loss is {value} at iteration {self.iteration + 1}")
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), recipe.clip)
        self.optimiser.step()
        self.iteration += 1
        self.history.append({"iteration": self.iteration, "loss": value, "lr": lr, "deviance_ratio": ratio})
        return value

    def _loss(self, groups: NDArray[np.int64], rng: np.random.Generator) -> tuple[Tensor, float | None]:
        recipe, rows = self.recipe, groups.reshape(-1)
        seen, held = thin(self.counts[rows], recipe.thinning, rng)
        canvas = None
        if is_grouped(recipe):
            canvas = canvas_of(self.data.y[groups], self.data.x[groups], self.optics.n, self.device)
        with torch.no_grad():
            shown = self.optics.channels(self._tensor(seen), recipe.thinning, canvas)
        with autocast(self.device, recipe.bf16):
            patches = self.net(shown)
        if self.truth is not None:
            target = torch.from_numpy(truth_patches(self.truth, self.data, rows)).to(self.device)
            difference = patches - target
            return (self.optics.weight * (difference.real.square() + difference.imag.square())).mean(), None
        joined = patches if canvas is None else self.optics.assemble(patches, canvas)
        rates = self.optics.rates(joined)
        loss = held_out_loss(rates, self._tensor(held), recipe.thinning)
        if (self.iteration + 1) % recipe.state_every:
            return loss, None
        rest = 1 - recipe.thinning if recipe.thinning < 1 else 1.0
        return loss, reduced_deviance(held, rest * rates.detach().cpu().numpy())

    def _tensor(self, counts: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(counts.astype(np.float32)).to(self.device)

    def save(self, path: Path, belongs_to: str, seconds: float) -> None:
        state = {
            "belongs_to": belongs_to, "iteration": self.iteration, "seconds": seconds, "history": self.history,
            "net": self.net.state_dict(), "optimiser": self.optimiser.state_dict(),
        }  # fmt: skip
        with replacing(path) as temporary:
            torch.save(state, temporary)

    def load(self, path: Path, belongs_to: str) -> float:
        """Go on from a saved state; the seconds it had taken. A state of another recipe or other data is left alone."""
        if not path.exists():
            return 0.0
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
        except (RuntimeError, OSError, EOFError, ValueError) as error:
            first = str(error).splitlines()[0]
            raise BadInput(f"cannot be read ({first})", file=path, remedy="delete it to begin anew") from None
        if state["belongs_to"] != belongs_to:
            return 0.0
        self.net.load_state_dict(state["net"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.iteration, self.history = state["iteration"], state["history"]
        return float(state["seconds"])


def training_identity(recipe: Recipe, inputs: Mapping[str, str]) -> str:
    """What a saved state belongs to: the recipe and the hashes of what is trained on."""
    return identity({"recipe": recipe.model_dump(mode="json"), "inputs": dict(inputs)})


def write_history(path: Path, history: list[dict[str, Any]]) -> Path:
    """history.csv: iteration, nll, lr, and the deviance ratio of photons that were held out, where it was measured."""
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["iteration", "nll", "lr", "validation_deviance_ratio"])
        for row in history:
            ratio = row["deviance_ratio"]
            writer.writerow(
                [row["iteration"], repr(row["loss"]), repr(row["lr"]), "" if ratio is None else repr(ratio)]
            )
    return path


def _adjusted(recipe: Recipe, adjustments: Mapping[str, Any]) -> Recipe:
    """What a remedy changed, laid over the recipe; a remedy that was not needed is missing or None."""
    halvings, clip = int(adjustments.get("batch_halvings") or 0), adjustments.get("grad_clip")
    return Recipe.model_validate({
        **recipe.model_dump(),
        "batch_patterns": max(recipe.gridsize**2, recipe.batch_patterns >> halvings),
        "lr": recipe.lr * float(adjustments.get("lr_factor") or 1.0),
        "clip": recipe.clip if clip is None else min(recipe.clip, float(clip)),
    })  # fmt: skip


def _fitting(recipe: Recipe, data: Dataset, truth: NDArray[np.complex64] | None) -> Dataset:
    """The dataset with the groups that the recipe wants."""
    if recipe.arm == "baseline" and truth is None:
        raise BadInput("the supervised arm needs the train half's truth", remedy="give truth_train.npz")
    if recipe.arm == "pinn" and truth is not None:
        raise BadInput("this arm must not see a truth", remedy="leave it out")
    if not is_grouped(recipe):
        return singles(data)
    if data.groups.shape[1] != recipe.gridsize**2:
        what = f"groups of {data.groups.shape[1]}, gridsize {recipe.gridsize} needs {recipe.gridsize**2}"
        raise BadInput(what, remedy="use a view's file, or --gridsize 1")
    return data
