"""`python -m studies.fly64_dose_overlap.comparison` is `python -m ptycho_core compare`."""

from __future__ import annotations

import sys

from studies.fly64_dose_overlap import phase

if __name__ == "__main__":
    sys.exit(phase("compare"))
