"""`python -m studies.fly64_dose_overlap.training` is `python -m ptycho_core train`."""

from __future__ import annotations

import sys

from studies.fly64_dose_overlap import phase

if __name__ == "__main__":
    sys.exit(phase("train"))
