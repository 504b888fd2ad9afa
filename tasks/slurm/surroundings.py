"""The part of an environment that a Slurm command may see. Standard library only: the runner asks Slurm too.

SQUEUE_*, SACCT_*, SCANCEL_*, SBATCH_* and SLURM_* variables are options by another name: one in somebody's shell, or of
the job that this process runs in, changes what a command lists or asks for. So only these reach one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

ALLOWED = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|LANG|LC_\w+|TZ|TMPDIR|LD_LIBRARY_PATH"
    r"|SLURM_CONF|SLURM_CONF_SERVER|SLURM_JWT|SACK_SOCKET|KRB5CCNAME|XDG_RUNTIME_DIR"
)
OPTION = re.compile(r"(SLURM|SBATCH|SRUN|SALLOC|SQUEUE|SACCT|SCANCEL|SCONTROL|SINFO|SATTACH)_")


def commands_environment(source: Mapping[str, str] | None = None) -> dict[str, str]:
    """What squeue, sacct, scancel and scontrol get to see."""
    found = os.environ if source is None else source
    allowed = {name: value for name, value in found.items() if ALLOWED.fullmatch(name)}
    return {**allowed, "SLURM_TIME_FORMAT": "standard"}


def without_options(source: Mapping[str, str]) -> dict[str, str]:
    """`source` without options of Slurm's commands, for sbatch and the job behind it."""
    return {name: value for name, value in source.items() if ALLOWED.fullmatch(name) or not OPTION.match(name)}
