"""The Slurm programs, run with a timeout and without a shell. Nothing else runs them; a fake replaces this."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tasks.slurm import faults, files
from tasks.slurm.surroundings import commands_environment

READ_TIMEOUT_S = 20.0
SUBMIT_TIMEOUT_S = 90.0


@dataclass(frozen=True)
class Exit:
    """How a program ended; `status` None: not in time, or it could not be started."""

    status: int | None
    out: str = ""
    err: str = ""


class Commands(Protocol):
    """The programs' door."""

    def sbatch(self, script: Path, reply: Path, environment: dict[str, str], lock: int) -> Exit:
        """Submit `script`; sbatch's own output goes straight to the file `reply`."""

    def run(self, arguments: Sequence[str]) -> Exit:
        """Run any other program."""


class Programs:
    """The real programs on PATH."""

    def sbatch(self, script: Path, reply: Path, environment: dict[str, str], lock: int) -> Exit:
        """Run sbatch so that it outlives its caller: own session, output to files, the journal's lock inherited."""
        complaint = reply.with_suffix(".err")
        out = os.open(reply, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, files.PRIVATE_FILE)
        err = os.open(complaint, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, files.PRIVATE_FILE)
        files.sync_folder(reply.parent)  # from here on, a crash means doubt
        try:
            process = subprocess.Popen(
                ["sbatch", "--parsable", str(script)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=environment,
                pass_fds=(lock,),
                start_new_session=True,
                umask=0o077,  # Slurm gives it to the job: logs are private too
            )
            faults.reach("during_sbatch")
            status: int | None = process.wait(SUBMIT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            status = None
        except OSError as error:
            missing = isinstance(error, FileNotFoundError | PermissionError)
            return Exit(127, "", f"{'Unable to run sbatch' if missing else 'sbatch could not be started'}: {error}")
        finally:
            os.close(out)
            os.close(err)
        return Exit(status, _text(reply), _text(complaint))

    def run(self, arguments: Sequence[str]) -> Exit:
        """Run `arguments`; never raises for a program that fails, hangs or is missing."""
        try:
            done = subprocess.run(
                list(arguments),
                capture_output=True,
                encoding="utf-8",  # as the scripts are written, whatever this process's locale
                errors="replace",
                timeout=READ_TIMEOUT_S,
                stdin=subprocess.DEVNULL,
                check=False,
                env=commands_environment(),
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return Exit(None, "", str(error))
        return Exit(done.returncode, done.stdout, done.stderr)


_ID = re.compile(r"^(\d+)(?:;\S+)?$", re.MULTILINE)


def submitted_id(text: str) -> str | None:
    """The job id in the output of `sbatch --parsable`, whatever a site's wrapper prints around it."""
    found = _ID.findall(text)
    return found[-1] if found else None


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
