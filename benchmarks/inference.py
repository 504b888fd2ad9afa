"""Inference: spectra per second of F and of the full-size network, the staging manifest end to end, memory growth.

F's rival is Savitzky-Golay(61, 3), the cheapest filter there is; the network's is F.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from denoise_core.corpus.manifest import manifest_of
from denoise_core.corpus.store import open_corpus
from denoise_core.corpus.synthetic import generate
from denoise_core.evaluation.controls import savgol
from denoise_core.inference import denoise_manifest
from denoise_core.model.linear import fit_f
from denoise_core.model.mamba_uv import MambaUV
from denoise_core.plans import ModelPlan


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
        x_BL = torch.from_numpy(corpus.spectra_NL[:batch])
        features_BF = torch.zeros(batch, 8)
        with torch.inference_mode():
            network_s = seconds(lambda: network(x_BL, features_BF), repeats)
        return {
            "benchmark": "inference",
            "spectra": len(rows),
            "f_spectra_per_s": len(rows) / f_s,
            "savgol_spectra_per_s": len(rows) / savgol_s,
            "network_spectra_per_s": batch / network_s,
            "ratios": {"f over savgol": savgol_s / f_s},
            "staging": staging(folder / "corpus", folder, fitted),
            "peak_memory_mb": memory(corpus, fitted, folder),
        }


def staging(root: Path, folder: Path, fitted: Any) -> dict[str, float]:
    """Reading, denoising and writing every spectrum of the staging manifest, in both layouts."""
    found: dict[str, float] = {}
    for layout in ("packed", "files"):
        started = time.perf_counter()
        corpus = open_corpus(root / "_staging")
        manifest = corpus.manifest("manifest")
        denoise_manifest(corpus, manifest, fitted, folder / layout, layout=layout)
        found |= {"spectra": len(manifest), f"{layout}_s": time.perf_counter() - started}
    return found


def memory(corpus: Any, fitted: Any, folder: Path) -> dict[str, float]:
    """Peak of what Python and NumPy allocate while a tenth and while all of the corpus is denoised."""
    found = {}
    frame = corpus.manifest("manifest").frame
    for name, share in (("tenth", 10), ("all", 1)):
        part = manifest_of(frame.iloc[: len(frame) // share].reset_index(drop=True))
        tracemalloc.start()
        denoise_manifest(corpus, part, fitted, folder / f"memory_{name}")
        found[name] = tracemalloc.get_traced_memory()[1] / 2**20
        tracemalloc.stop()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="seconds: the mini corpus, one repeat")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    text = json.dumps(run(smoke=options.smoke), indent=2)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
