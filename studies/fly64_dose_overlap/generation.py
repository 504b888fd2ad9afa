"""`python -m studies.fly64_dose_overlap.generation` is `python -m ptycho_core generate`.

Beside each half it leaves the name that the initiative knew it by: `patched_train.npz`, `patched_test.npz`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ptycho_core.design import SPLITS, get_study_design
from ptycho_core.layout import Layout, default_hub, open_hub
from studies.fly64_dose_overlap import phase
from study_core.files import place


def patched_names(hub: Path) -> list[Path]:
    """Link every half of a hub under its old name; the links that were made."""
    layout = Layout(hub)
    halves = [layout.dataset(dose, "baseline", split) for dose in open_hub(hub).doses for split in SPLITS]
    return [place(half, half.with_name(f"patched_{half.name}")) for half in halves if half.exists()]


def _hub() -> Path:
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--hub", type=Path)
    options.add_argument("--size", default="mini")
    given, _ = options.parse_known_args()
    return given.hub or default_hub(get_study_design(given.size))


if __name__ == "__main__":
    code = phase("generate")
    if code == 0 and (_hub() / "design.json").exists():
        patched_names(_hub())
    sys.exit(code)
