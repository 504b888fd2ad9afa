"""The science of the denoiser: torch and numpy, no orchestrator, usable alone."""

import os

# The filters solve many 601 x 601 systems: on two OpenBLAS threads that took 13 times as long as on one. Only a
# default, and only where numpy is not loaded yet.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
