"""What a Slurm command may see of the environment, and what that says of this job. Standard library: for the node.

SQUEUE_*, SACCT_*, SCANCEL_*, SBATCH_* and SLURM_* variables are options by another name: one in somebody's shell, or of
the job that this process runs in, changes what a command lists or asks for. So only these reach one.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping

ALLOWED = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|LANG|LC_\w+|TZ|TMPDIR|LD_LIBRARY_PATH"
    r"|SLURM_CONF|SLURM_CONF_SERVER|SLURM_JWT|SACK_SOCKET|KRB5CCNAME|XDG_RUNTIME_DIR"
)
# Unix seconds: local times are read wrong in another time zone (the shared snapshot), and in the hour that comes twice.
# No limit on the ids of an array in one row: sacct would end a long list in "...".
_ANSWERS = {"SLURM_TIME_FORMAT": "%s", "SLURM_BITSTR_LEN": "0"}
OPTION = re.compile(r"(SLURM|SBATCH|SRUN|SALLOC|SQUEUE|SACCT|SCANCEL|SCONTROL|SINFO|SATTACH)_")


def commands_environment(source: Mapping[str, str] | None = None) -> dict[str, str]:
    """What squeue, sacct, scancel and scontrol get to see."""
    found = os.environ if source is None else source
    allowed = {name: value for name, value in found.items() if ALLOWED.fullmatch(name)}
    return {**allowed, **_ANSWERS}


def without_options(source: Mapping[str, str]) -> dict[str, str]:
    """`source` without options of Slurm's commands, for sbatch and the job behind it."""
    return {name: value for name, value in source.items() if ALLOWED.fullmatch(name) or not OPTION.match(name)}


def slurm_id(environment: Mapping[str, str] = os.environ) -> str:
    """This job's id as squeue prints it: "7", or "4_3" for a task of an array."""
    if guest := environment.get("GATED_GUEST"):  # in another job's allocation
        return guest
    array = environment.get("SLURM_ARRAY_JOB_ID")
    if array:
        return f"{array}_{environment['SLURM_ARRAY_TASK_ID']}"
    return environment.get("SLURM_JOB_ID") or environment.get("GATED_LOCAL_ID", f"pid-{os.getpid()}")


def node_name() -> str:
    """This node, as Slurm calls it."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()
