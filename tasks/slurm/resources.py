"""What one job asks of a site: time, memory, GPUs, and what is done around it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tasks.slurm.containers import Container

# The two kinds of job that every site knows, and what tells them apart where a site says nothing else.
CLASSES: Mapping[str, Mapping[str, None]] = {"gpu": {}, "cpu": {"gres": None}}

TASKS = ("nodes", "ntasks", "ntasks-per-node", "ntasks-per-core", "ntasks-per-socket", "ntasks-per-gpu", "overcommit")
# What the dispatcher says itself: which job it is, how it is found again and told to stop, where its words go.
OURS = (
    "array", "job-name", "comment", "dependency", "kill-on-invalid-dep", "clusters", "requeue", "no-requeue", "signal",
    "output", "error", "input", "open-mode", "chdir", "export", "export-file", "get-user-env", "wrap", "test-only",
    "wait", "parsable", "quiet",
)  # fmt: skip


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Resources(Strict):
    """What one job asks for. Every field may be set for the site, for a class, and again for a stage."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    gres: str | None = Field(None, description="Typed, such as gpu:a100:1.")
    constraint: str | None = Field(None, description="Node features, such as a100-80g.")
    exclude: str | None = Field(None, description="Nodes to stay away from.")
    time: str = Field("01:00:00", description="Time limit of one attempt, as Slurm writes it; quote it in YAML.")
    memory: str | None = Field("4GB", description="Memory of the node for one job; null leaves it to the site.")
    memory_most: str | None = Field(
        None, description="After running out of memory on the node a job gets half as much again, up to this."
    )
    gpu_memory: str | None = Field(
        None, description="Of one GPU, such as 40GB: a training that cannot fit is refused before it is sent."
    )
    cpus: int = Field(1, ge=1)
    nodes: int = Field(1, ge=1, description="More than one needs `distributed`.")
    distributed: Literal["torchrun"] | None = Field(
        None, description="Runs the function once a GPU (or node) with RANK, WORLD_SIZE and MASTER_ADDR set."
    )
    allocation: Literal["own", "shared"] = Field(
        "own", description="shared: runs inside the allocation of the job that it follows, if that lingers."
    )
    linger_seconds: int = Field(0, ge=0, description="After its end a job's allocation waits so long for follow-ups.")
    signal_seconds: int = Field(90, ge=1, description="The job is told to stop this long before its time limit.")
    array_parallel: int = Field(16, ge=1, description="Tasks of one array that run at the same time.")
    setup: tuple[str, ...] = Field((), strict=False, description="Shell lines before the job, such as module loads.")
    environment: tuple[str, ...] = Field((), strict=False, description="Variables passed on; a trailing * is allowed.")
    variables: dict[str, str] = Field(default_factory=dict, description="Variables set for the job.")
    container: Container | None = Field(None, strict=False, description="Runs the job inside an image.")
    scratch: str | None = Field(None, description="Folder for temporary files on the node, exported as TMPDIR.")
    extra: dict[str, str | int | bool] = Field(default_factory=dict, description="Further sbatch options, as is.")

    @field_validator("partition", "account", "qos", "gres", "constraint", "exclude", "scratch")
    @classmethod
    def _one_line(cls, value: str | None) -> str | None:
        if value is not None and (not value.isprintable() or not value.strip()):
            raise ValueError("one line of text without control characters; leave the key out for none")
        return value

    @field_validator("extra")
    @classmethod
    def _options(cls, value: dict[str, str | int | bool]) -> dict[str, str | int | bool]:
        for key, one in value.items():
            if not re.fullmatch(r"[a-z][a-z0-9-]*", key) or not str(one).isprintable():
                raise ValueError(f"{key}: an sbatch option is a lower-case name and one line of text")
            if any(name.startswith(key) for name in TASKS):  # sbatch takes beginnings of names too
                raise ValueError(f"{key}: a job function runs once; say nodes and distributed: torchrun instead")
            if any(name.startswith(key) for name in OURS):
                raise ValueError(f"{key}: the dispatcher's own; leave it out")
        return value

    @field_validator("variables")
    @classmethod
    def _variables(cls, value: dict[str, str]) -> dict[str, str]:
        for name, one in value.items():
            if not re.fullmatch(r"[A-Za-z_]\w*", name) or "\0" in one:
                raise ValueError(f"{name!r} is no name of a variable")
        return value

    @model_validator(mode="after")
    def _one_process(self) -> Resources:
        if self.nodes > 1 and self.distributed is None:
            raise ValueError(
                "nodes above 1 would start the function once a node in one folder; "
                "leave nodes at 1, or say distributed: torchrun for a function that trains in several processes"
            )
        return self

    @model_validator(mode="after")
    def _can_host(self) -> Resources:
        if self.linger_seconds and (self.distributed or self.container):
            raise ValueError("linger_seconds: an allocation of several nodes, or in a container, takes no follow-ups")
        if self.linger_seconds and self.allocation == "shared":
            raise ValueError("linger_seconds: a job in another one's allocation has none of its own to keep")
        return self

    @field_validator("time", mode="before")
    @classmethod
    def _quoted(cls, value: object) -> object:
        if isinstance(value, int):  # YAML 1.1 reads 24:00:00 as the number 86400
            raise ValueError(f'write the time in quotes, "1-00:00:00" or "24:00:00" (YAML read it as {value})')
        return value

    @field_validator("time")
    @classmethod
    def _slurm_time(cls, value: str) -> str:
        if not re.fullmatch(r"\d+|\d+:\d\d(:\d\d)?|\d+-\d+(:\d\d){0,2}", value):
            raise ValueError(f'"{value}" is not a Slurm time (minutes, "HH:MM:SS" or "D-HH:MM:SS")')
        return value

    @field_validator("memory", "memory_most", "gpu_memory")
    @classmethod
    def _slurm_memory(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"\d+(K|M|G|T)B?", value):
            raise ValueError(f'"{value}" is not a memory size such as "64GB"')
        return value

    @property
    def memory_bytes(self) -> int | None:
        """Requested memory in bytes; None where the site decides."""
        return _bytes(self.memory)

    @property
    def gpu_memory_bytes(self) -> int | None:
        """Memory of one GPU in bytes; None where the site does not say."""
        return _bytes(self.gpu_memory)

    def more_memory(self, before: int | None) -> int | None:
        """Half as much again as `before` bytes (default: as asked for), where the profile allows it."""
        most, asked = _bytes(self.memory_most), before or self.memory_bytes
        return None if most is None or asked is None or asked >= most else min(most, asked * 3 // 2)

    @property
    def scratch_root(self) -> str:
        """The part of `scratch` before its first variable: a folder that every node has; empty for none."""
        text, variable, _ = (self.scratch or "").partition("$")
        return text.rpartition("/")[0] if variable else text

    @property
    def time_seconds(self) -> float:
        """Time limit in seconds."""
        days, dash, rest = self.time.rpartition("-")
        parts = [int(part) for part in rest.split(":")]
        if dash:
            hours, minutes, seconds = (*parts, 0, 0)[:3]
        elif len(parts) == 3:
            hours, minutes, seconds = parts
        else:
            hours, (minutes, seconds) = 0, (*parts, 0)[:2]
        return 86400.0 * int(days or 0) + 3600 * hours + 60 * minutes + seconds

    @property
    def gpus(self) -> int:
        """Number of GPUs asked for by `gres`."""
        asked = [one.strip().removeprefix("gres/") for one in (self.gres or "").split(",")]
        counts = [one.rpartition(":")[2] for one in asked if re.match(r"gpu(:|$)", one)]
        return sum(int(count) if count.isdigit() else 1 for count in counts)


def _bytes(text: str | None) -> int | None:
    match = re.fullmatch(r"(\d+)([KMGT])B?", text) if text else None
    return int(match[1]) << {"K": 10, "M": 20, "G": 30, "T": 40}[match[2]] if match else None
