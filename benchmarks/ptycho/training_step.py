"""One iteration of the physics-informed network, and its parts.

    OMP_NUM_THREADS=1 python -m benchmarks.ptycho.training_step [--smoke] [--json FILE]

CPU milliseconds of one thread, best of the repeats: 8 groups of 4 patterns at N = 64 (and N = 128), network in
bfloat16 and in float32, thinning, input channels, joining with the loss. `ratios` hold bfloat16 against float32.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.harness import parser, report
from ptycho_core.base import make_base
from ptycho_core.bundle import channels
from ptycho_core.design import Size, get_study_design
from ptycho_core.forward import dose_scale, intensities, photons
from ptycho_core.grouping import form_groups
from ptycho_core.network import new_network
from ptycho_core.physics import Optics, canvas_of, held_out_loss
from ptycho_core.recipes import Recipe
from ptycho_core.thinning import thin

CPU, DOSE, GROUPS = torch.device("cpu"), 1e4, 8


def best_ms(call: Callable[[], Any], repeats: int) -> float:
    call()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return round(min(times) * 1e3, 2)


def measured(size: Size, repeats: int) -> dict[str, Any]:
    design, recipe = get_study_design(size), Recipe()
    base = make_base(design)
    rows = base.scan.rows("train")[:500]
    ys, xs = (np.rint(values[rows]).astype(np.int64) for values in (base.scan.y, base.scan.x))
    groups = form_groups(np.stack([ys, xs], axis=1).astype(float), size=4, k=7, seed=1).rows[::50][:GROUPS]
    members = groups.reshape(-1)
    intensity = intensities(base.image, base.probe, ys[members], xs[members])
    s2 = dose_scale(intensity, DOSE)
    counts = np.fft.ifftshift(photons(intensity, s2, 0), axes=(1, 2))
    optics, canvas = Optics(base.probe, s2, DOSE, CPU), canvas_of(ys[groups], xs[groups], design.N, CPU)
    net, rng = new_network(channels(recipe), recipe.width, 0, design.N), np.random.default_rng(0)
    seen, held = (torch.from_numpy(part.astype(np.float32)) for part in thin(counts, 0.7, rng))
    shown = optics.channels(seen, 0.7, canvas)

    def network(bf16: bool) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            patches = net(shown)
        torch.autograd.backward(torch.view_as_real(patches).square().mean())

    patches = net(shown).detach().requires_grad_()

    def physics() -> None:
        torch.autograd.backward(held_out_loss(optics.rates(optics.assemble(patches, canvas)), held, 0.7))

    parts = {
        "network bf16, forward and backward": best_ms(lambda: network(True), repeats),
        "network fp32, forward and backward": best_ms(lambda: network(False), repeats),
        "thinning": best_ms(lambda: thin(counts, 0.7, rng), repeats),
        "channels": best_ms(lambda: optics.channels(seen, 0.7, canvas), repeats),
        "joining, rates and loss, forward and backward": best_ms(physics, repeats),
    }
    fast, slow = parts["network bf16, forward and backward"], parts["network fp32, forward and backward"]
    return {
        "N": design.N,
        "patterns": len(members),
        "cpu_ms": parts,
        "ratios": {"fp32 over bf16": round(slow / fast, 2)},
    }


if __name__ == "__main__":
    options = parser(__doc__, "N = 64 alone, twice").parse_args()
    torch.set_num_threads(1)
    sizes: list[Size] = ["smoke"] if options.smoke else ["mini", "full"]
    report({f"N{get_study_design(size).N}": measured(size, 2 if options.smoke else 7) for size in sizes}, options)
