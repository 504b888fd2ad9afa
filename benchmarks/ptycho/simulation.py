"""Far fields of a scan in batches, against one pattern at a time.

    OMP_NUM_THREADS=1 python -m benchmarks.ptycho.simulation [--smoke] [--json FILE]

CPU seconds of the mini scan (2,688 patterns of 64 x 64), best of three; `dose` is everything that writes one dose with
its views.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import parser, report
from ptycho_core.base import make_base
from ptycho_core.design import get_study_design
from ptycho_core.forward import intensities
from ptycho_core.generation import generate_dose
from ptycho_core.layout import Layout
from ptycho_core.views import generate_overlap_views


def one_at_a_time(
    image: NDArray[Any], probe: NDArray[Any], ys: NDArray[np.int64], xs: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The textbook loop, with its shifts."""
    half, patterns = len(probe) // 2, []
    for y, x in zip(ys, xs, strict=True):
        wave = probe.astype(np.complex128) * image[y - half : y + half, x - half : x + half]
        far = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(wave), norm="ortho"))
        patterns.append(np.abs(far) ** 2)
    return np.stack(patterns)


def best(call: Callable[[], Any], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times)


def measured(smoke: bool) -> dict[str, Any]:
    design = get_study_design("smoke" if smoke else "mini")
    base, repeats = make_base(design), 1 if smoke else 3
    ys, xs = (np.rint(values).astype(np.int64) for values in (base.scan.y, base.scan.x))
    batched = best(lambda: intensities(base.image, base.probe, ys, xs), repeats)
    loop = best(lambda: one_at_a_time(base.image, base.probe, ys, xs), repeats)
    few = slice(0, 50)
    difference = np.abs(
        intensities(base.image, base.probe, ys[few], xs[few]) - one_at_a_time(base.image, base.probe, ys[few], xs[few])
    )

    def dose() -> None:
        with tempfile.TemporaryDirectory() as folder:
            generate_dose(design.for_data(1e4), 1e4, Layout(Path(folder)))
            generate_overlap_views(design.for_data(1e4), Layout(Path(folder)), doses=(1e4,))

    return {
        "patterns": len(ys), "batched_s": round(batched, 4), "loop_s": round(loop, 4),
        "speedup": round(loop / batched, 2), "largest_difference": float(difference.max()),
        "object_s": round(best(lambda: make_base(design), repeats), 4), "dose_s": round(best(dose, repeats), 3),
    }  # fmt: skip


if __name__ == "__main__":
    options = parser(__doc__, "1,280 patterns, once").parse_args()
    report(measured(options.smoke), options)
