"""What sbatch's words mean, as a table: which line decides, and what it says about the request.

sbatch and its plugins print side lines of every kind; only the line that ends the attempt decides. What no row knows
is doubtful: sbatch fails after accepted jobs too, so the job is looked for by its name before anything is told.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from tasks.slurm.commands import Exit, submitted_id
from tasks.slurm.scheduler import Answer, Reply

FAILED = "Batch job submission failed: "


class Row(NamedTuple):
    """Words of a decisive line, and what they mean. `everybody`: the limit holds all jobs of the user back."""

    words: str
    reply: Reply
    everybody: bool = False


# The first row that matches counts. Texts: Slurm's slurm_errno.c and sbatch, 22.05 to 24.11.
TABLE = (
    # accepted or not: the controller took the request, or may have, and its answer was lost
    Row(r"timed out|unable to contact|zero bytes|unexpected message|connection|communication", Reply.DOUBTFUL),
    Row(r"protocol|munge|credential|authentication|i/o error|standby mode", Reply.DOUBTFUL),
    # not accepted, and the same request may be later
    Row(r"temporarily unable to accept|^resource temporarily unavailable", Reply.LATER, everybody=True),
    Row(r"unable to create job record|submissions disabled", Reply.LATER, everybody=True),
    Row(r"partition not available|requested nodes are busy|down(?:, drained| state)", Reply.LATER),
    Row(r"invalid (?:user|group) id|usage threshold", Reply.LATER),
    Row(r"process configuration file|configuration source|controller machine|presently disabled", Reply.LATER),
    Row(r"could not be started|unable to open file", Reply.LATER),
    # the request itself: the same text will be refused again
    Row(r"^invalid (account|partition|qos|feature|node name|job array|licen[sc]e|wckey|reservation)", Reply.REJECTED),
    Row(r"^invalid (mcs_label|preferred feature|tresbilling|jobdefaults|--nice)|^duplicate generic", Reply.REJECTED),
    Row(r"^invalid (generic resource|gres|trackable resource|time|number|numeric|cluster)", Reply.REJECTED),
    Row(r"^invalid --[\w-]+ specification|unrecognized option|invalid option|requires an argument", Reply.REJECTED),
    Row(r"^requested (node configuration|time limit|reservation|partition|topology|gres)", Reply.REJECTED),
    Row(r"can ?not be satisfied|more processors requested|node count specification", Reply.REJECTED),
    Row(r"count specification|distribution specification|not in this partition|more tasks than", Reply.REJECTED),
    Row(r"access denied|partition job request not supported|--batch option|threads per core", Reply.REJECTED),
    Row(r"permission denied|not permitted|no partition specified|dependency problem|too long", Reply.REJECTED),
    Row(r"unable to run sbatch|batch script|burst buffer request", Reply.REJECTED),
    Row(r"^unspecified error|cli_filter plugin terminated", Reply.REJECTED),  # a site's own plugin, there or here
)
POLICY = re.compile(r"violates accounting/qos policy", re.IGNORECASE)
LIMIT = re.compile(r"\b(?:QOS|Assoc)\w+")  # the policy's own name, on the line before


def answer(done: Exit) -> Answer:
    """What sbatch's exit means."""
    job_id = submitted_id(done.out)
    if job_id:
        return Answer(Reply.ACCEPTED, job_id)
    text = done.err.strip() or done.out.strip() or f"sbatch ended with {done.status}"
    if done.status is None or done.status <= 0:
        return Answer(Reply.DOUBTFUL, text=text)
    line = decisive(text)
    row = _ruling(line, text)
    lost = re.compile(TABLE[0].words, re.IGNORECASE)
    beside = [other for other in text.splitlines() if lost.search(other) and line not in other]
    return Answer(row.reply, text=text, gist=line, everybody=row.everybody, sure=not beside)


def decisive(text: str) -> str:
    """The line of sbatch's complaint that ended it, without its prefix."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for mark in (FAILED, "fatal: ", "sbatch: unrecognized option", "sbatch: invalid option", "sbatch: error: ", ""):
        found = [line for line in lines if mark in line]
        if found:
            return re.sub(rf"^sbatch: (error: |fatal: )?({FAILED})?", "", found[-1])
    return ""


def _ruling(line: str, text: str) -> Row:
    if POLICY.search(line):
        return _policy(text)
    unknown = Row("", Reply.DOUBTFUL)
    return next((row for row in TABLE if re.search(row.words, line, re.IGNORECASE)), unknown)


def _policy(text: str) -> Row:
    """A limit on the number of jobs passes by itself; one on a job's size or time never does.

    Unnamed, it may be either: this job waits, the others do not.
    """
    limit = LIMIT.search(text)
    if limit is None:
        return Row("", Reply.LATER)
    counts = "Submit" in limit[0] or "Jobs" in limit[0]
    return Row("", Reply.LATER, everybody=True) if counts else Row("", Reply.REJECTED)
