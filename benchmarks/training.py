"""A training step fed from tensors, against the same step fed by a DataLoader that reads the seed's files.

    OMP_NUM_THREADS=1 python -m benchmarks.training [--steps 20] [--smoke] [--json FILE]

Prints one JSON object: median CPU seconds of a whole step of the mini plan on one core, fed both ways; what feeding
alone takes, at the mini's batch and at the recipe's 600; and the share of model and loss in our step. CPU seconds,
because a step's wall time on a shared machine says more about its neighbours. The loader reads the seed's layout as it
stands: one `.npy` file a capture, its partner's file beside it, jitter and cutout on one spectrum at a time. Files come
from a warm page cache and model, loss and optimiser are the same, so only the feeding differs.
"""

from __future__ import annotations

import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.harness import parser, report
from denoise_core.augment import augment
from denoise_core.corpus.store import Corpus, open_corpus
from denoise_core.corpus.synthetic import generate
from denoise_core.losses import total_loss
from denoise_core.model import preprocess
from denoise_core.model.checkpoints import FilmScaling
from denoise_core.model.mamba_uv import MambaUV
from denoise_core.optimising import parameter_groups
from denoise_core.pairs import PairSampler
from denoise_core.plans import OptimiserPlan, TrainingPlan
from denoise_core.recipes import named

Example = tuple[Tensor, Tensor, Tensor]  # input (B, L), target (B, L), features (B, F)
CPU = torch.device("cpu")


class Files(Dataset[Example]):
    """Captures as the seed's training reads them: two files an example, augmented one spectrum at a time."""

    def __init__(self, corpus: Corpus, plan: TrainingPlan, noise_sd_L: NDArray[np.float32], seed: int = 0) -> None:
        frame = corpus.manifest("manifest_train").frame
        self.plan, self.noise_sd_L, self.rng = plan.data, noise_sd_L, np.random.default_rng(seed)
        self.wavelength = corpus.wavelength_nm
        self.paths = [corpus.root / "spectra_for_fold" / path for path in frame["relative_path"]]
        self.groups = frame["group_id"].to_numpy(dtype=np.str_)
        self.members = {group: np.flatnonzero(self.groups == group) for group in np.unique(self.groups)}
        self.features = torch.from_numpy(standardised(corpus, corpus.rows(corpus.manifest("manifest_train"))))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Example:
        partner = index
        while self.paths[partner] == self.paths[index]:  # a twin row is the capture itself
            partner = int(self.rng.choice(self.members[self.groups[index]]))
        x_L, target_L = (np.load(self.paths[row]).astype(np.float32) for row in (index, partner))
        return torch.from_numpy(self._augmented(x_L)), torch.from_numpy(target_L), self.features[index]

    def _augmented(self, x_L: NDArray[np.float32]) -> NDArray[np.float32]:
        rng, plan, step = self.rng, self.plan, self.wavelength[1] - self.wavelength[0]
        shift_nm = rng.uniform(-plan.jitter_shift_nm, plan.jitter_shift_nm)
        moved_L = np.interp(self.wavelength + shift_nm, self.wavelength, x_L)
        noise_L = plan.jitter_noise * self.noise_sd_L * rng.standard_normal(len(x_L))
        x = (1 + rng.uniform(-plan.jitter_gain, plan.jitter_gain)) * moved_L + noise_L
        width = round(rng.uniform(plan.cutout_min_nm, plan.cutout_max_nm) / step)
        first = int(rng.integers(0, len(x) - width))
        x[first : first + width + 1] = np.linspace(x[first], x[first + width], width + 1)
        return x.clip(0, 1).astype(np.float32)


def standardised(corpus: Corpus, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """The dose features (B, F) that the network sees."""
    return FilmScaling(corpus.dose_stats.mean_F, corpus.dose_stats.std_F)(corpus.context(rows).features_BF)


def from_tensors(corpus: Corpus, plan: TrainingPlan, sampler: PairSampler) -> Iterator[Example]:
    """Our way, without end."""
    generator = torch.Generator().manual_seed(0)
    features_NF = torch.from_numpy(standardised(corpus, np.arange(len(corpus))))
    step_nm = float(corpus.wavelength_nm[1] - corpus.wavelength_nm[0])
    while True:
        for row_B in sampler.epoch(generator, plan.optimiser.bs, plan.optimiser.steps_per_epoch):
            batch = sampler.batch(row_B, generator)
            x_BL = augment(batch.x_BL, plan.data, sampler.noise_sd_L, step_nm, generator)
            yield x_BL, batch.target_BL, features_NF[row_B]


def from_files(corpus: Corpus, plan: TrainingPlan, sampler: PairSampler) -> Iterator[Example]:
    """The loader's way, without end."""
    files = Files(corpus, plan, sampler.noise_sd_L.numpy())
    while True:
        yield from DataLoader(files, batch_size=plan.optimiser.bs, shuffle=True, drop_last=True)


def step_of(corpus: Corpus, plan: TrainingPlan) -> Callable[[Example], None]:
    """Forward, loss, backward and update of the plan's network: the same for both ways."""
    torch.manual_seed(0)
    rows = np.unique(corpus.rows(corpus.manifest("manifest_train")))
    data, wavelength = plan.data, corpus.wavelength_nm
    how = preprocess.for_plan(corpus.spectra_NL[rows], centre_baseline=data.centre_baseline, scale=data.scale)
    model = MambaUV(plan.model, wavelength, how)
    optimiser = torch.optim.AdamW(parameter_groups(model, plan.optimiser.weight_decay), lr=plan.optimiser.lr)
    weights_L = torch.tensor(corpus.lambda_stats.weights, dtype=torch.float32)
    roi_L = torch.from_numpy((wavelength >= plan.loss.deriv_roi_min) & (wavelength <= plan.loss.deriv_roi_max))
    step_nm = float(wavelength[1] - wavelength[0])

    def step(example: Example) -> None:
        x_BL, target_BL, features_BF = example
        loss, _ = total_loss(model(x_BL, features_BF), target_BL, plan.loss, weights_L, step_nm, roi_L)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    return step


def measure(corpus: Corpus, plan: TrainingPlan, steps: int) -> dict[str, Any]:
    """Both ways, their steps taken in turn so that a busy machine troubles both alike."""
    sampler = PairSampler(corpus, corpus.manifest("manifest_train"), plan.data, CPU)
    step = step_of(corpus, plan)
    ways = both_ways(corpus, plan, sampler)
    feed: dict[str, list[float]] = {name: [] for name in ways}
    work: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(steps + 1):
        for name, examples in ways.items():
            started = time.process_time()
            example = next(examples)
            fed = time.process_time()
            step(example)
            if number:  # the first step builds the scan and warms the caches
                feed[name].append(fed - started)
                work[name].append(time.process_time() - fed)
    feeding = {name: statistics.median(values) for name, values in feed.items()}
    model_and_loss = statistics.median(work["tensors"] + work["files"])
    whole = {name: seconds + model_and_loss for name, seconds in feeding.items()}
    recipe = feeding_alone(corpus, recipe_batch(plan), sampler, max(1, steps // 4))
    return {
        "benchmark": "training",
        "what": "one step of the mini plan: feeding, forward, loss, backward, update; CPU seconds",
        "plan": plan.name,
        "batch": plan.optimiser.bs,
        "steps": steps,
        "step_s": whole,
        "feed_s": feeding,
        "step_speedup": whole["files"] / whole["tensors"],
        "feed_speedup": feeding["files"] / feeding["tensors"],
        "recipe_feed_s": recipe,
        "recipe_feed_speedup": recipe["files"] / recipe["tensors"],
        "share_of_model_and_loss": model_and_loss / whole["tensors"],
        "machine": {
            "cpu": platform.processor() or platform.machine(),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
        },
    }


def both_ways(corpus: Corpus, plan: TrainingPlan, sampler: PairSampler) -> dict[str, Iterator[Example]]:
    return {"tensors": from_tensors(corpus, plan, sampler), "files": from_files(corpus, plan, sampler)}


def recipe_batch(plan: TrainingPlan) -> TrainingPlan:
    """The same plan fed in the full recipe's batches."""
    options = plan.optimiser.model_copy(update={"bs": OptimiserPlan().bs, "steps_per_epoch": None})
    return plan.model_copy(update={"optimiser": options})


def feeding_alone(corpus: Corpus, plan: TrainingPlan, sampler: PairSampler, times: int) -> dict[str, float]:
    """Median CPU seconds of one batch, after a first one."""
    medians = {}
    for name, examples in both_ways(corpus, plan, sampler).items():
        seconds = []
        for _ in range(times + 1):
            started = time.process_time()
            next(examples)
            seconds.append(time.process_time() - started)
        medians[name] = statistics.median(seconds[1:])
    return medians


def main() -> None:
    """Command line."""
    line = parser(__doc__, "seconds: two steps")
    line.add_argument("--steps", type=int, default=20)
    options = line.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        corpus = open_corpus(generate(Path(folder) / "corpus", size="mini", seed=1))
        result = measure(corpus, named("act_of_god_seed_mini"), 2 if options.smoke else options.steps)
    report(result, options)


if __name__ == "__main__":
    main()
