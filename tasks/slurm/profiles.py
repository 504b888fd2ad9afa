"""Where jobs run: one site as a frozen, validated `Profile`.

For each stage:  defaults.yaml  <-  site  <-  its class there  <-  the tenant's stage  <-  the site's own word on it.
A profile is no part of a job's key: moving to another cluster renames nothing and repeats nothing.
"""

from __future__ import annotations

import fnmatch
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from tasks.slurm import site_files
from tasks.slurm.resources import CLASSES, Resources, Strict
from tasks.slurm.site_files import BadProfile
from tasks.slurm.surroundings import without_options

__all__ = ["BadProfile", "Profile", "load_profile", "profile_names"]

TEMPLATES = Path(__file__).resolve().parents[2] / "slurm_templates"
DEFAULTS = "defaults"
EVERY = "*"


class Profile(Strict):
    """One site: an executor, its limits, its resources, and those of each class and of each tenant's stages there."""

    name: str
    executor: Literal["slurm", "local"]
    description: str = ""
    python: str | None = Field(None, description="Interpreter on the node; default: the one that submits.")
    accounting: bool = Field(True, description="Ask sacct; its absence is also found out by itself.")
    max_array_size: int | None = Field(None, ge=1, description="Default: what the cluster says (MaxArraySize).")
    max_parallel: int | None = Field(None, ge=1, description="Jobs of one root in the queue at the same time.")
    poll_seconds: float = Field(4.0, gt=0, description="Age at which the shared view of the queue is renewed.")
    settle_seconds: float = Field(15.0, ge=0, description="A doubtful sbatch is believed lost only after this long.")
    hold_seconds: float = Field(7 * 86400.0, gt=0, description="A job that the site puts off is given up after this.")
    marker_grace_seconds: float = Field(5.0, ge=0, description="A shared disk may show the node's marker this late.")
    vanish_seconds: float = Field(60.0, ge=0, description="Absent from queue and accounting this long means lost.")
    fake_gpus: bool = Field(
        False,
        description="Its GPUs are counted and compute nothing, as a test cluster's: trainings take a CPU's size.",
    )
    usage_seconds: float = Field(5.0, gt=0, description="Interval of the samples of GPU and memory use on the node.")
    resources: Resources
    stages: dict[str, Resources] = Field(description="By `tenant/stage`, and by class.")

    def section(self, stage: str) -> Resources:
        """Resources of a stage: `tenant/stage`, a class (`gpu`, `cpu`), or a stage's bare name that one tenant has.

        Raises:
            BadProfile: no such stage, or several tenants have one of that name.
        """
        names = self.named(stage)
        if len(names) > 1:
            raise BadProfile(f"stage {stage!r} is that of several tenants; say {' or '.join(names)}")
        return self.stages[names[0]]

    def named(self, stage: str) -> list[str]:
        """Full names of the stages that `stage` may mean; a class is a stage of every tenant."""
        tenant, _, bare = stage.rpartition("/")
        if stage in self.stages or (bare in CLASSES and bare in self.stages):
            return [stage if stage in self.stages else bare]
        names = [] if tenant else [name for name in self.stages if name.endswith(f"/{stage}")]
        if not names:
            known = ", ".join(sorted(self.stages))
            hint = f"; name it in tasks/{tenant}/stages.yaml" if tenant else ""
            raise BadProfile(f"profile {self.name} has no stage {stage!r}; stages: {known}{hint}")
        return names

    def exported(self, stage: str, environment: Mapping[str, str] | None = None) -> dict[str, str]:
        """The variables a job of `stage` may see: the allowed part of `environment`, then the profile's own."""
        section = self.section(stage)
        source = os.environ if environment is None else environment
        allowed = {
            name: value
            for name, value in source.items()
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in section.environment)
        }
        return {**without_options(allowed), **section.variables}

    @property
    def interpreter(self) -> str:
        """Python that runs the job."""
        return self.python or sys.executable


_SITE_KEYS = frozenset(Profile.model_fields) - {"resources", "stages", "name"}
_KEYS = _SITE_KEYS | frozenset(Resources.model_fields) | {"classes", "stages"}


def profile_names(folder: Path = TEMPLATES) -> list[str]:
    """Profiles to choose from."""
    return sorted(path.stem for path in folder.glob("*.yaml") if path.stem != DEFAULTS)


def load_profile(name: str | Path, folder: Path = TEMPLATES, *, paths: bool = True) -> Profile:
    """Read the profile `name` of `folder`, or the YAML file `name`, over defaults.yaml.

    A profile's set-up lines run as the user. So a file elsewhere, and the defaults.yaml beside it, must be the user's
    own, and no one else's to write; without `paths`, as for what comes from a form or over the network, only names
    are taken.

    Raises:
        BadProfile: missing file, misspelt key, class, stage or value; the message lists what is valid.
    """
    path = _path(name, folder, paths)
    default_path = path.parent / f"{DEFAULTS}.yaml"
    default_path = default_path if default_path.exists() else TEMPLATES / f"{DEFAULTS}.yaml"
    shipped = (folder.resolve(), TEMPLATES)
    files = [
        (one, site_files.read(one, _KEYS, own=one.resolve().parent not in shipped)) for one in (default_path, path)
    ]
    flat = {key: value for _, content in files for key, value in content.items()}
    common = {key: value for key, value in flat.items() if key in Resources.model_fields}
    try:
        return Profile(
            name=path.stem if path.parent == folder else str(path.resolve()),  # what loads it again
            resources=site_files.resources(common, str(path)),
            stages=_stages(files, common),
            **{key: value for key, value in flat.items() if key in _SITE_KEYS},
        )
    except ValidationError as error:
        raise BadProfile(f"{path}: {site_files.first(error)}") from None


def _path(name: str | Path, folder: Path, paths: bool) -> Path:
    by_path = str(name).endswith((".yaml", ".yml"))
    if by_path and not paths:
        raise BadProfile(f"{str(name)!r}: here only names are taken: {', '.join(profile_names(folder))}")
    path = Path(name) if by_path else folder / f"{name}.yaml"
    if not (by_path or re.fullmatch(r"\w[\w.+-]*", str(name))) or not path.exists():
        raise BadProfile(f"no profile {str(name)!r}; there are {', '.join(profile_names(folder))}, or give a YAML file")
    return path


def _stages(files: Sequence[tuple[Path, dict[str, Any]]], common: Mapping[str, Any]) -> dict[str, Resources]:
    """Resources by class and by `tenant/stage`, as the defaults and the site lay them over each other."""
    asked = site_files.tenant_stages()
    names = {EVERY, *asked, *(name.partition("/")[2] for name in asked)}
    classes = [site_files.sections(content, "classes", path, CLASSES) for path, content in files]
    words = [site_files.sections(content, "stages", path, names) for path, content in files]
    found = {}
    for name, needs in {**{one: {"class": one} for one in CLASSES}, **asked}.items():
        values = {**common, **CLASSES[needs["class"]]}
        for sections in classes:
            values |= sections.get(needs["class"], {})
        values |= {key: value for key, value in needs.items() if key != "class"}
        for sections in words:
            for said in (EVERY, name.partition("/")[2], name):
                values |= sections.get(said, {})
        found[name] = site_files.resources(values, f"{files[-1][0]}, stage {name}")
    return found
