"""Peak memory of one dose, of training and of LSQML at the full N = 128 geometry (7,040 positions).

    OMP_NUM_THREADS=1 python -m benchmarks.ptycho.memory [--smoke] [--json FILE]

Each in a process of its own, whose peak resident set is asked at its end; the imports alone beside them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from typing import Any

from benchmarks.harness import parser, report

_PEAK = "import json,resource,time; t=time.process_time(); {work}; print(json.dumps([resource.getrusage(" \
        "resource.RUSAGE_SELF).ru_maxrss / 1024, time.process_time()-t]))"  # fmt: skip
_HUB = "from pathlib import Path; from ptycho_core.design import *; from ptycho_core.layout import *; " \
       "from ptycho_core.generation import generate_dose; from ptycho_core.views import generate_overlap_views; " \
       "d=get_study_design({size!r}).for_data(1e4); L=Layout(Path({hub!r})); "  # fmt: skip
_TRAIN = "from ptycho_core.contract import read_dataset; from ptycho_core.recipes import Recipe; " \
         "from ptycho_core.training import train; train(Recipe(iterations=3, gridsize={gridsize}), " \
         "read_dataset(L.dataset(1e4, {view!r}, 'train')), L.hub / 'x', belongs_to='x')"  # fmt: skip
_LSQML = "from ptycho_core.contract import read_dataset; from ptycho_core.lsqml import LsqmlOptions, " \
         "reconstruct_patterns; reconstruct_patterns(read_dataset(L.dataset(1e4, {view!r}, 'test')), " \
         "LsqmlOptions(epochs=2))"  # fmt: skip


def peak(work: str) -> dict[str, float]:
    """MiB and CPU seconds of some statements in a fresh interpreter."""
    done = subprocess.run([sys.executable, "-c", _PEAK.format(work=work)], check=True, capture_output=True, text=True)
    mib, seconds = json.loads(done.stdout.splitlines()[-1])
    return {"peak_mib": round(mib), "cpu_s": round(seconds, 2)}


def measured(size: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        hub = _HUB.format(size=size, hub=folder)
        return {
            "size": size,
            "imports of generate": peak(hub + "pass"),
            "generate, one dose": peak(hub + "generate_dose(d, 1e4, L)"),
            "overlap views": peak(hub + "generate_overlap_views(d, L, doses=(1e4,))"),
            "train 3 iterations, all positions": peak(hub + _TRAIN.format(gridsize=1, view="baseline")),
            "train 3 iterations, dense": peak(hub + _TRAIN.format(gridsize=2, view="dense")),
            "LSQML, 2 epochs, all positions": peak(hub + _LSQML.format(view="baseline")),
            "LSQML, 2 epochs, dense": peak(hub + _LSQML.format(view="dense")),
        }


if __name__ == "__main__":
    options = parser(__doc__, "the smoke geometry (N = 64, 1,280 positions)").parse_args()
    report(measured("smoke" if options.smoke else "full"), options)
