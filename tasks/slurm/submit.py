"""The only submitit import: a profile's section and a submission -> the exact text given to sbatch.

submitit validates the parameters and writes the script, srun line and array pattern. Its pickles are not used: they
are moved to their final place only after sbatch returned, so a dispatcher killed in between would leave a job that
waits for a file that never comes. The job's request is in the journal instead, on disk before sbatch starts.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import submitit

from tasks.slurm import containers
from tasks.slurm.profiles import Profile
from tasks.slurm.resources import Resources


class _Text(submitit.SlurmExecutor):
    """submitit's executor for its script alone, so that a dry run needs no Slurm on this machine."""

    @classmethod
    def affinity(cls) -> int:
        return 1


@dataclass(frozen=True)
class Order:
    """What one script is made of, besides the profile."""

    token: str
    comment: str
    stage: str
    folder: Path  # of the submission: script, logs
    code: Path  # snapshot that PYTHONPATH points at
    tasks: int | None = None  # size of the array; None for a single job
    after: Sequence[str] = ()  # Slurm ids that must end well first
    exclude: Sequence[str] = ()
    memory_bytes: int | None = None  # where a remedy asks for more than the profile


def render(profile: Profile, order: Order) -> str:
    """The text of one sbatch script.

    Raises:
        ValueError: a profile parameter that submitit refuses, a path that is no line of text.
    """
    for path in (order.folder, order.code, profile.interpreter):
        if not str(path).isprintable():
            raise ValueError(f"{str(path)!r}: a path with control characters fits into no script; rename it")
    section = profile.section(order.stage)
    executor = _Text(folder=str(order.folder).replace("%", "%%"), python=shlex.quote(profile.interpreter))
    parallel = min(section.array_parallel, profile.max_parallel or section.array_parallel)
    executor.update_parameters(array_parallelism=parallel, **_parameters(section, order))
    if order.tasks is not None:
        executor.parameters["map_count"] = order.tasks
    around = containers.command(section, [order.folder.parents[1]])
    command = f"{around}{executor.python} -P -u -m tasks.slurm.runner {shlex.quote(str(order.folder))}"
    text: str = executor._make_submission_file_text(command, order.token)
    return text + _lingering(section, order, executor.python)


def _lingering(section: Resources, order: Order, python: str) -> str:
    """Where the stage says so, the allocation of a job that ended well stays for follow-ups."""
    if not section.linger_seconds:
        return ""
    host = f"{python} -P -u -m tasks.slurm.hosting {shlex.quote(str(order.folder))}"
    return f"status=$?\n[ $status = 0 ] && {host}\nexit $status\n"


def _parameters(section: Resources, order: Order) -> dict[str, Any]:
    exclude = ",".join(name for name in (section.exclude, *order.exclude) if name)
    return {
        "job_name": order.token,
        "comment": order.comment,
        "partition": section.partition,
        "account": section.account,
        "qos": section.qos,
        "gres": section.gres,
        "constraint": section.constraint,
        "exclude": exclude or None,
        "dependency": f"afterok:{':'.join(order.after)}" if order.after else None,
        "time": section.time,
        "mem": f"{order.memory_bytes >> 20}M" if order.memory_bytes else section.memory,
        "nodes": section.nodes,
        "ntasks_per_node": max(1, section.gpus) if section.distributed else 1,
        "cpus_per_task": section.cpus,
        "signal_delay_s": section.signal_seconds,
        "srun_args": _srun(section, order.folder.parents[1]),
        "wckey": None,
        "stderr_to_stdout": True,
        "setup": _setup(section, order),
        "additional_parameters": {
            "requeue": True,
            "kill-on-invalid-dep": "yes",
            "chdir": str(order.folder),
            **section.extra,
        },
    }


def _srun(section: Resources, root: Path) -> list[str]:
    """CPUs again, which srun has not taken over from sbatch since 22.05; one rank that fails ends all."""
    own = [f"--cpus-per-task={section.cpus}", *(["--kill-on-bad-exit=1"] if section.distributed else [])]
    return own + containers.srun_words(section, [root])


# As torchrun sets it up for a function that calls init_process_group; the runner adds each rank's own number. The
# node's address as Slurm has it: its name need not be one that the other nodes resolve.
_RENDEZVOUS = (
    'first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)',
    "export MASTER_ADDR=$(scontrol -o show node \"$first\" | sed -n 's/.* NodeAddr=\\([^ ]*\\).*/\\1/p')",
    "export MASTER_PORT=$((20000 + SLURM_JOB_ID % 12000)) GATED_DISTRIBUTED=1",
)


# compiled kernels: many small files under locks, which a home folder on a network disk serves badly
_CACHES = (
    'export TRITON_CACHE_DIR="$TMPDIR/triton-$USER" TORCHINDUCTOR_CACHE_DIR="$TMPDIR/inductor-$USER"',
    'export CUDA_CACHE_PATH="$TMPDIR/cuda-$USER"',
)


def _setup(section: Resources, order: Order) -> list[str]:
    lines = [
        *section.setup,
        'export USER="${USER:-$(id -un)}"',
        f"export PYTHONPATH={shlex.quote(str(order.code))}",
        "export PYTHONDONTWRITEBYTECODE=1",
    ]
    if section.scratch:
        scratch = shlex.quote(section.scratch) if "$" not in section.scratch else f'"{section.scratch}"'
        lines += [f"export TMPDIR={scratch}", 'mkdir -p "$TMPDIR"', *_CACHES]
    if section.linger_seconds:
        until = f"GATED_UNTIL=$(($(date +%s) + {section.time_seconds:.0f} - SECONDS))"
        lines += [f"export GATED_LINGER={section.linger_seconds} {until}"]
    return [*lines, *(_RENDEZVOUS if section.distributed else ()), *containers.setup(section)]
