"""One epoch of LSQML through pty-chi, and of the reference solver rPIE, per pattern.

    OMP_NUM_THREADS=1 python -m benchmarks.ptycho.lsqml_epoch [--smoke] [--json FILE]

CPU milliseconds of one thread a pattern and epoch: the time of `many` epochs minus that of `few`, so that imports,
copies and set-up are left out and stand beside. `ratios` hold LSQML against rPIE, and N = 128 against N = 64.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import parser, report
from ptycho_core.contract import Dataset, read_dataset
from ptycho_core.design import ALL, StudyDesign, get_study_design
from ptycho_core.generation import generate_dose
from ptycho_core.layout import Layout
from ptycho_core.lsqml import LsqmlOptions, available, reconstruct_patterns
from ptycho_core.reference import rpie

DOSE, FEW, MANY = 1e4, 2, 12


def patterns(n: int) -> Dataset:
    """The test half of a small study with patterns of n x n pixels."""
    options = get_study_design("smoke").model_dump()
    scale = n // 64
    options |= {"N": n, "guard_px": n, "doses": (DOSE,)}
    options["scan"] |= {name: options["scan"][name] * scale for name in ("half_rows", "cols", "step_px")}
    design = StudyDesign.model_validate(options)
    with tempfile.TemporaryDirectory() as folder:
        layout = Layout(Path(folder))
        generate_dose(design.for_data(DOSE), DOSE, layout)
        return read_dataset(layout.dataset(DOSE, ALL, "test"))


def cpu_s(call: Any) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def measured(n: int, few: int, many: int) -> dict[str, Any]:
    data = patterns(n)
    amplitude = data.diffraction.astype(np.float64)

    def lsqml(epochs: int) -> float:
        return cpu_s(lambda: reconstruct_patterns(data, LsqmlOptions(epochs=epochs)))

    def reference(epochs: int) -> float:
        return cpu_s(lambda: rpie(amplitude, data.probe, data.y, data.x, np.ones(data.flat.shape), epochs=epochs))

    lsqml(1)  # imports
    first, last = lsqml(few), lsqml(many)
    epoch = (last - first) / (many - few)
    own = (reference(many) - reference(few)) / (many - few)
    per_pattern = {"LSQML": epoch / len(data.y) * 1e3, "rPIE": own / len(data.y) * 1e3}
    return {
        "N": n,
        "patterns": len(data.y),
        "cpu_ms_per_pattern_and_epoch": {name: round(value, 3) for name, value in per_pattern.items()},
        "LSQML set-up, cpu_s": round(max(0.0, first - few * epoch), 2),
        "ratios": {"LSQML over rPIE": round(per_pattern["LSQML"] / per_pattern["rPIE"], 2)},
    }


if __name__ == "__main__":
    options = parser(__doc__, "N = 64 alone, 5 epochs").parse_args()
    if fault := available():
        raise SystemExit(fault)
    torch.set_num_threads(1)
    sizes = [64] if options.smoke else [64, 128]
    report({f"N{n}": measured(n, FEW, 5 if options.smoke else MANY) for n in sizes}, options)
