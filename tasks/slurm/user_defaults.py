"""`~/.slurm/defaults`: options that sbatch and srun add by themselves, at sites with Slurm's plugin `user_defaults`.

The plugin finds the home folder in the user database, so no environment keeps the file away from a job. What a script
says itself wins; what the file adds beside it may be a matter of the site (an account, a partition). An option that
turns a job into another one (an array, a dependency, further tasks, a form of the answer) is refused by its line.
"""

from __future__ import annotations

import os
import pwd
import re
from pathlib import Path
from typing import NamedTuple

PLUGIN = "user_defaults"
OF_THE_SITE = frozenset(
    {"account", "partition", "qos", "reservation", "constraint", "licenses", "mail-type", "mail-user", "nice", "wckey"}
)


class Default(NamedTuple):
    """One line of the file: for one of Slurm's commands, or for all (empty)."""

    line: int
    command: str
    option: str
    value: str


def path() -> Path:
    """Where the plugin looks: the home folder of the user database, not of the environment."""
    return Path(pwd.getpwuid(os.getuid()).pw_dir) / ".slurm" / "defaults"


def read(file: Path) -> list[Default]:
    """Lines `[[cluster:]command:]option=value`; none where there is no file that can be read."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for number, line in enumerate(lines, start=1):
        name, equals, value = line.strip().partition("=")
        if not equals or name.startswith("#"):
            continue
        *before, option = [part.strip() for part in name.split(":")]
        found.append(Default(number, before[-1] if before else "", option, value.strip()))
    return found


def added(defaults: list[Default], script: str) -> list[Default]:
    """What sbatch or srun would add to `script`, which says nothing of it."""
    said = set(re.findall(r"^#SBATCH --([a-z-]+)", script, re.MULTILINE))
    of_srun = set(re.findall(r"--([a-z-]+)", " ".join(re.findall(r"^srun .*", script, re.MULTILINE))))
    return [
        one
        for one in defaults
        if (one.command in ("", "sbatch") and one.option not in said)
        or (one.command == "srun" and one.option not in of_srun)
    ]


def refusal(file: Path, script: str) -> str:
    """Why no job can be submitted beside this file, or nothing."""
    strange = [one for one in added(read(file), script) if one.option not in OF_THE_SITE]
    if not strange:
        return ""
    lines = "; ".join(f"line {one.line}: {one.option}={one.value}" for one in strange)
    return (
        f"{file} would add options that change what a job is ({lines}). Take them out, "
        "or write them for salloc alone (salloc:option=value)"
    )
