"""`python -m studies.fly64_dose_overlap.design` is `python -m ptycho_core design`."""

from __future__ import annotations

import sys

from studies.fly64_dose_overlap import phase

if __name__ == "__main__":
    sys.exit(phase("design"))
