"""Inference: spectra per second of F and of the networks, the staging manifest end to end, memory growth.

F's rival is Savitzky-Golay(61, 3), the cheapest filter there is; the network's is F.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.harness import parser, report
from denoise_core.corpus.store import Corpus, corpus_of, open_corpus, pack
from denoise_core.corpus.stream import open_stream
from denoise_core.corpus.synthetic import generate
from denoise_core.evaluation.controls import savgol
from denoise_core.inference import denoise_manifest
from denoise_core.model.checkpoints import save_checkpoint
from denoise_core.model.denoiser import Denoiser
from denoise_core.model.linear import LinearDenoiser, fit_f, save_linear
from denoise_core.model.mamba_uv import MambaUV
from denoise_core.model.neural import load_denoiser
from denoise_core.plans import ModelPlan
from denoise_core.recipes import named


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Median wall time after one warm-up."""
    work()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def run(*, smoke: bool = False) -> dict[str, Any]:
    """The whole benchmark on one thread."""
    torch.set_num_threads(1)
    repeats = 1 if smoke else 3
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        generate(folder / "corpus", size="mini" if smoke else "full", seed=1)
        corpus = open_corpus(folder / "corpus")
        fitted = fit_f(corpus, corpus.manifest("manifest_train").groups, calibrate=False)
        rows = np.arange(len(corpus.spectra_NL))
        context = corpus.context(rows)
        f_s = seconds(lambda: fitted.denoise(corpus.spectra_NL, context), repeats)
        savgol_s = seconds(lambda: savgol(corpus.spectra_NL), repeats)
        batch = 2 if smoke else 8
        network = MambaUV(ModelPlan(), corpus.wavelength_nm).eval()
        x_BL = torch.tensor(corpus.spectra_NL[:batch])
        features_BF = torch.zeros(batch, 8)
        with torch.inference_mode():
            network_s = seconds(lambda: network(x_BL, features_BF), repeats)
        network_f = mini_on(fitted, corpus, folder / "mini.pt")
        some = rows[: 32 if smoke else 512]
        mini_s = seconds(lambda: network_f.denoise(corpus.spectra_NL[some], corpus.context(some)), repeats)
        return {
            "benchmark": "inference",
            "spectra": len(rows),
            "f_spectra_per_s": len(rows) / f_s,
            "savgol_spectra_per_s": len(rows) / savgol_s,
            "network_spectra_per_s": batch / network_s,
            "mini_on_f_spectra_per_s": len(some) / mini_s,
            "ratios": {"f over savgol": savgol_s / f_s},
            "staging": {
                name: staging(folder / "corpus", folder / name, denoiser)
                for name, denoiser in {"f": fitted, **({} if smoke else {"mini_on_f": network_f})}.items()
            },
            "peak_memory_mb": (peaks := memory(corpus, fitted, folder)),
            "memory, 10 x over 1 x": peaks["10 x"] / peaks["1 x"],
        }


def mini_on(fitted: LinearDenoiser, corpus: Corpus, path: Path) -> Denoiser:
    """The default model, its network as initialised: what it costs does not depend on the weights."""
    network = MambaUV(named("act_of_god_mini").model, corpus.wavelength_nm)
    save_checkpoint(path, network, base_state=fitted.state())
    return load_denoiser(path)


def staging(root: Path, folder: Path, denoiser: Denoiser) -> dict[str, float]:
    """Seconds of reading, denoising and writing every spectrum of the staging manifest, in both layouts."""
    found: dict[str, float] = {}
    for layout in ("packed", "files"):
        started = time.perf_counter()
        corpus = open_stream(root / "_staging")
        manifest = corpus.manifest("manifest")
        denoise_manifest(corpus, manifest, denoiser, folder / layout, layout=layout)
        found |= {"spectra": len(manifest), f"{layout}_s": time.perf_counter() - started}
    return found


def times(corpus: Corpus, factor: int, out: Path) -> Path:
    """A packed corpus of `factor` times as many captures: the same ones under other names, told apart by a hair."""
    frames = []
    for turn in range(factor):
        frame = corpus.captures.copy()
        frame["relative_path"] = frame["relative_path"].str.replace(".npy", f"_{turn}.npy", regex=False)
        frames.append(frame)
    spectra = np.concatenate([np.abs(corpus.spectra_NL - np.float32(1e-6 * turn)) for turn in range(factor)])
    return pack(corpus_of(pd.concat(frames), spectra, corpus.wavelength_nm, out), out)


def memory(corpus: Corpus, fitted: LinearDenoiser, folder: Path) -> dict[str, float]:
    """Peak resident memory (MB) of a process of its own that denoises a whole corpus of 1 x and 10 x the size."""
    checkpoint = folder / "filter.pt"
    save_linear(checkpoint, fitted)
    found = {}
    for factor in (1, 10):
        root = times(corpus, factor, folder / f"corpus_{factor}")
        # VmHWM and not ru_maxrss, which a process inherits from the one that started it
        code = (
            "from denoise_core.__main__ import main; main(); "
            "print(next(int(line.split()[1]) / 1024 for line in open('/proc/self/status') if line.startswith('VmHWM')))"
        )
        arguments = ["denoise", "--corpus", root, "--manifest", root / "manifest.csv", "--checkpoint", checkpoint,
                     "--out", folder / f"memory_{factor}", "--layout", "packed"]  # fmt: skip
        done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], check=True, stdout=subprocess.PIPE)
        found[f"{factor} x"] = float(done.stdout.split()[-1])
    return found


def main() -> None:
    line = parser(__doc__, "seconds: the mini corpus, one repeat")
    options = line.parse_args()
    report(run(smoke=options.smoke), options)


if __name__ == "__main__":
    main()
