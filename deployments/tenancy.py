"""What a tenant declares, and how it is found: a module of `deployments/tenants/` with a `TENANT`. Knows no flow.

A tenant is data: which flows it serves, what its main job is, where its data comes from, how its result is told. A new
module is served, offered by `gated run` and watched by the automations without a line changed elsewhere.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

import deployments.tenants

TAG = "gated"  # of every deployment here: a server may serve other people's flows


@dataclass(frozen=True)
class Served:
    """One deployment: a flow under a name."""

    flow: str  # package.module:function
    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)  # over the defaults of the flow's own plan
    limit: int | None = 4  # so many of its runs at once, waiting ones included; the next ones queue. None: any number
    backstop_of: str = ""  # started by the server as well when a run of that flow ends as GateFailed


@dataclass(frozen=True)
class Asked:
    """A main job as it was asked for."""

    corpus: str  # as given; a relative path starts at `root`
    artifacts: Path
    root: Path  # of the project
    plan: Mapping[str, Any] = field(default_factory=dict)  # for the run that gives the verdict, over its defaults
    epochs: int = 0  # of every training of it; 0: the recipes' own


@dataclass(frozen=True)
class Step:
    """One run of a main job."""

    deployment: str  # flow/name
    plan: Mapping[str, Any]


@dataclass(frozen=True)
class MainJob:
    """What `gated run TENANT` does: its steps one after the other, each asked for once the one before it ended well."""

    steps: Callable[[Asked], Iterable[Step]]
    corpus: str  # the data that is taken where none is named
    make: Sequence[
        str
    ] = ()  # arguments of Python that make that data, `{corpus}` for its place; empty: it must be there
    # What the data that is there is taken for, in a line; ValueError, before anything is started, where it is unusable.
    check: Callable[[Asked], str] | None = None


@dataclass(frozen=True)
class Tenant:
    """A study that lives in this house."""

    name: str
    served: Sequence[Served]
    main: MainJob | None = None
    # Tells a run's result from its folder; the verdict's gate table and the files to open where there is none.
    tell: Callable[[Path, Console], None] | None = None
    # `package.module:function` that adds to a comparison of its runs: (name of each → folder, project) → blocks.
    compared: str = ""
    # `package.module:function`: a gate's record in the report's words and units, for the table on the terminal.
    row: str = ""
    terms: str = ""  # package.module:NAME, a mapping: what the words of its report mean
    epochs: str = ""  # which field of the main job's plan `gated run --epochs` sets
    # Named at the end where they exist.
    files: Sequence[str] = ("report.html", "auditors_bundle.zip", "audit.jsonl")
    importer: str = ""  # package.module:function, a command that brings other people's files in: gated import
    words: Mapping[str, str] = field(default_factory=dict)  # how a figure of a job's progress is said: "{} dB"


def tenants(package: Any = deployments.tenants) -> dict[str, Tenant]:
    """Every tenant by its name, in the order of the names of their modules.

    Raises:
        ValueError: a module declares no `TENANT`, or two share a name or a deployment.
    """
    found: dict[str, Tenant] = {}
    deployed: dict[str, str] = {}
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        tenant = getattr(importlib.import_module(module.name), "TENANT", None)
        if not isinstance(tenant, Tenant):
            raise ValueError(f"{module.name}: declares no TENANT; see deployments/tenancy.py")
        if tenant.name in found:
            raise ValueError(f"{module.name}: a tenant {tenant.name} is there already; give it another name")
        for one in tenant.served:
            if (other := deployed.setdefault(f"{one.flow}/{one.name}", module.name)) != module.name:
                raise ValueError(f"{module.name}: {other} serves {one.flow} as {one.name}; give it another name")
        found[tenant.name] = tenant
    return found


def named_in(where: str) -> Any:
    """What stands at `package.module:name`."""
    module, _, name = where.partition(":")
    return getattr(importlib.import_module(module), name)


def served(package: Any = deployments.tenants) -> Iterator[tuple[Tenant, Served]]:
    """Every deployment of every tenant."""
    for tenant in tenants(package).values():
        for one in tenant.served:
            yield tenant, one
